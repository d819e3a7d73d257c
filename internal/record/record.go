// Package record knows the DNS records that a sender domain publishes, and what the DNS has of them.
package record

import (
	"fmt"
	"slices"
	"strings"

	"mittente/internal/dkim"
	"mittente/internal/mail"
)

// The purposes of a Record.
const (
	PurposeOwnership = "ownership" // proves the domain
	PurposeDKIM      = "dkim"      // lets receivers verify signatures; all of them prove the domain too
	PurposeSPF       = "spf"       // proposed: names this relay as a source
	PurposeDMARC     = "dmarc"     // proposed: asks receivers to report
)

// KeySigns is the KeyState of a key that signs (signer.StateActive): its record
// is one of those that prove the domain.
const KeySigns = "active"

// ownershipPrefix begins the ownership record; other tools rely on it.
const ownershipPrefix = "mittente-verify="

// Record is a DNS record to be published for a domain.
type Record struct {
	Purpose string `json:"purpose"`
	Type    string `json:"type"`
	Name    string `json:"name"`  // without dot at the end
	Value   string `json:"value"` // strings of a TXT record joined; they hold 255 octets each (RFC 1035 §3.3.14)
	// KeyState is that of the key of a PurposeDKIM record: one that is next is
	// published before it signs, one that is retired until it is revoked.
	KeyState string `json:"key_state,omitempty"`
}

// Ownership returns the record that proves a domain by a token.
func Ownership(domain mail.Domain, token string) Record {
	return Record{Purpose: PurposeOwnership, Type: "TXT", Name: "_mittente." + string(domain), Value: ownershipPrefix + token}
}

// Proposed returns the records that let receivers trust what this relay, called
// host, sends from a domain.
func Proposed(domain mail.Domain, host string) []Record {
	return []Record{
		{Purpose: PurposeSPF, Type: "TXT", Name: string(domain), Value: "v=spf1 a:" + host + " ~all"},     // RFC 7208 §5.3
		{Purpose: PurposeDMARC, Type: "TXT", Name: "_dmarc." + string(domain), Value: "v=DMARC1; p=none"}, // RFC 7489 §6.3
	}
}

// required reports whether a domain that lacks the record is incomplete; the
// others are proposals.
func (r Record) required() bool { return r.Purpose == PurposeOwnership || r.Purpose == PurposeDKIM }

// satisfied reports whether one of the TXT records found at the name does what r is for.
func (r Record) satisfied(texts []string) bool {
	switch r.Purpose {
	case PurposeDKIM:
		return dkim.Published(texts, r.Value)
	case PurposeSPF:
		all := spfRecords(texts)
		return len(all) == 1 && namesSource(all[0], r.Value) // RFC 7208 §4.5: several are an error
	case PurposeDMARC:
		return slices.ContainsFunc(texts, func(text string) bool { return dkim.Tags(text)["v"] == "DMARC1" })
	}
	return slices.ContainsFunc(texts, func(text string) bool { return strings.TrimSpace(text) == r.Value })
}

// advice says what to do instead of publishing r, given the records that are
// there: a name has one SPF record at most, so the one that is there is amended.
// Empty when r is to be published as it is.
func (r Record) advice(texts []string) string {
	if r.Purpose != PurposeSPF {
		return ""
	}
	all := spfRecords(texts)
	mechanism := strings.Fields(r.Value)[1]
	switch {
	case len(all) == 0:
		return ""
	case len(all) == 1 && !mentions(all[0], mechanism):
		return "add " + mechanism + " to the SPF record that is there, before its \"all\": a name has one SPF record only (RFC 7208 §3.2)"
	case len(all) == 1:
		return "the SPF record that is there has to name " + mechanism + " without a qualifier, before its \"all\" (RFC 7208 §4.6.2)"
	}
	return fmt.Sprintf("there are %d SPF records, and a name has one only (RFC 7208 §3.2): join them into one, with %s in it", len(all), mechanism)
}

// spfRecords returns those of the TXT records that are SPF records, RFC 7208 §4.5.
func spfRecords(texts []string) []string {
	return slices.DeleteFunc(slices.Clone(texts), func(text string) bool {
		version, _, _ := strings.Cut(text, " ")
		return !strings.EqualFold(version, "v=spf1")
	})
}

// namesSource reports whether an SPF record has the mechanism for this relay
// that the proposed one has (RFC 7208 §5.3), before the "all" that ends the
// evaluation (§5.1). What an include may lead to is not followed.
func namesSource(text, proposed string) bool {
	mechanism := strings.Fields(strings.ToLower(proposed))[1]
	for term := range strings.FieldsSeq(strings.ToLower(text)) {
		switch strings.TrimPrefix(term, "+") {
		case mechanism:
			return true
		case "all", "-all", "~all", "?all":
			return false
		}
	}
	return false
}

// mentions reports whether the mechanism stands in an SPF record, with whatever qualifier.
func mentions(text, mechanism string) bool {
	return slices.ContainsFunc(strings.Fields(text), func(term string) bool {
		return strings.EqualFold(strings.TrimLeft(term, "+-~?"), mechanism)
	})
}
