// Package queue keeps messages and their recipients: the state of each, and when it is due.
package queue
