package sender

import (
	"time"

	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/letter"
)

// tellOfDomain tells operators what a look at the DNS came to, where they should
// act or know: before a verification is taken away, they can still bring the
// records back.
func tellOfDomain(tx *db.Tx, before, d Domain, came evidence) error {
	facts := map[string]string{"domain": string(d.Name), "problem": d.LastError, "state": string(d.State)}
	kind := alert.Verification
	switch {
	case before.misses == 0 && d.misses == 1:
		kind = alert.CertificatesDNS
		facts["revoked_at"] = d.MissingAt.Add(refuteAfter).Format(time.RFC3339)
	case came != refuted && came != givenUp:
		return nil
	}
	return alert.Raise(tx, alert.Alert{Account: d.Account, Kind: kind, Key: "domain " + string(d.Name), Facts: facts})
}

// tellOfAnswer tells operators that the owner of an address said no, or took
// back a yes: either somebody was asked in error, or somebody tries others' addresses.
func tellOfAnswer(tx *db.Tx, l letter.Letter, o letter.Outcome) error {
	facts := map[string]string{"address": l.Address.Display(), "outcome": string(o), "requested_by": l.RequestedBy}
	key := "address " + l.Address.Key()
	if l.Domain != "" {
		facts["domain"], key = string(l.Domain), "domain "+string(l.Domain)+" by "+l.Address.Key()
	}
	return alert.Raise(tx, alert.Alert{Account: l.Account, Kind: alert.Verification, Key: key, Facts: facts})
}

// tellOfKey tells operators that a key signs whose record has gone from the DNS:
// verifiers refuse its signatures.
func tellOfKey(tx *db.Tx, d Domain, selector, problem string) error {
	return alert.Raise(tx, alert.Alert{
		Account: d.Account, Kind: alert.CertificatesDNS, Key: "key " + selector + " of " + string(d.Name),
		Facts: map[string]string{"domain": string(d.Name), "selector": selector, "problem": problem},
	})
}
