package sender

import (
	"fmt"
	"slices"
	"strings"

	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/signer"
)

// The purposes of a Record.
const (
	PurposeOwnership = "ownership" // proves the domain
	PurposeDKIM      = "dkim"      // lets receivers verify signatures; all of them prove the domain too
	PurposeSPF       = "spf"       // proposed: names this relay as a source
	PurposeDMARC     = "dmarc"     // proposed: asks receivers to report
)

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
	KeyState signer.State `json:"key_state,omitempty"`
}

// Records returns what to publish for a domain of an account; also for the
// domain of the hostname, whose keys sign for those who have none. ErrNotFound
// when the account has none of that name.
func (s *Senders) Records(tx *db.Tx, owner id.Account, name mail.Domain) ([]Record, error) {
	d, err := s.find(tx, owner, name)
	switch {
	case err != nil:
		return nil, err
	case d != nil:
		return s.records(tx, *d)
	case name == s.deps.Signer.Host() && name != "":
		return s.hostRecords(tx)
	}
	_, err = s.DomainByName(tx, owner, name)
	return nil, err
}

func (s *Senders) records(tx *db.Tx, d Domain) ([]Record, error) {
	keys, err := s.keyRecords(tx, d.Account, d.Name)
	ownership := Record{Purpose: PurposeOwnership, Type: "TXT", Name: "_mittente." + string(d.Name), Value: ownershipPrefix + d.Token}
	return slices.Concat([]Record{ownership}, keys, s.proposed(d.Name)), err
}

// hostRecords are those of the hostname's domain, which needs no proof.
func (s *Senders) hostRecords(tx *db.Tx) ([]Record, error) {
	host := s.deps.Signer.Host()
	keys, err := s.keyRecords(tx, id.Account{}, host)
	return append(keys, s.proposed(host)...), err
}

func (s *Senders) keyRecords(tx *db.Tx, owner id.Account, name mail.Domain) ([]Record, error) {
	keys, err := s.deps.Signer.Keys(tx, owner, name)
	records := make([]Record, 0, len(keys))
	for _, k := range keys {
		if k.State != signer.StateRevoked {
			records = append(records, Record{Purpose: PurposeDKIM, Type: "TXT", Name: k.RecordName, Value: k.RecordValue, KeyState: k.State})
		}
	}
	return records, err
}

func (s *Senders) proposed(name mail.Domain) []Record {
	return []Record{
		{Purpose: PurposeSPF, Type: "TXT", Name: string(name), Value: "v=spf1 a:" + s.deps.Hostname + " ~all"}, // RFC 7208 §5.3
		{Purpose: PurposeDMARC, Type: "TXT", Name: "_dmarc." + string(name), Value: "v=DMARC1; p=none"},        // RFC 7489 §6.3
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
