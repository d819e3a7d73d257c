// Package mail is the language of the house: addresses, paths, envelopes, statuses and outcomes.
package mail
