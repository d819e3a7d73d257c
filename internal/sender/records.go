package sender

import (
	"fmt"
	"slices"
	"strings"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
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
}

// Records returns what to publish for a domain of an account; ErrNotFound when
// it has none of that name.
func (s *Senders) Records(tx *db.Tx, owner id.Account, name mail.Domain) ([]Record, error) {
	d, err := s.DomainByName(tx, owner, name)
	if err != nil {
		return nil, err
	}
	return s.records(tx, d)
}

func (s *Senders) records(tx *db.Tx, d Domain) ([]Record, error) {
	keys, err := db.Collect(tx, scanKeyRecord, sqlKeyRecords, d.ID)
	if err != nil {
		return nil, fmt.Errorf("records of %s: %w", d.Name, err)
	}
	domain := string(d.Name)
	ownership := Record{PurposeOwnership, "TXT", "_mittente." + domain, ownershipPrefix + d.Token}
	return slices.Concat([]Record{ownership}, keys, []Record{
		{PurposeSPF, "TXT", domain, "v=spf1 a:" + s.deps.Hostname + " ~all"}, // RFC 7208 §5.3
		{PurposeDMARC, "TXT", "_dmarc." + domain, "v=DMARC1; p=none"},        // RFC 7489 §6.3
	}), nil
}

func scanKeyRecord(row db.Scanner) (Record, error) {
	r := Record{Purpose: PurposeDKIM, Type: "TXT"}
	err := row.Scan(&r.Name, &r.Value)
	return r, err
}

// required reports whether a domain that lacks the record is incomplete; the
// others are proposals.
func (r Record) required() bool { return r.Purpose == PurposeOwnership || r.Purpose == PurposeDKIM }

// satisfied reports whether one of the TXT records found at the name does what r is for.
func (r Record) satisfied(texts []string) bool {
	switch r.Purpose {
	case PurposeDKIM:
		want := tags(r.Value)
		return slices.ContainsFunc(texts, func(text string) bool {
			got := tags(text)
			return got["p"] == want["p"] && keyType(got) == keyType(want)
		})
	case PurposeSPF:
		all := spfRecords(texts)
		return len(all) == 1 && namesSource(all[0], r.Value) // RFC 7208 §4.5: several are an error
	case PurposeDMARC:
		return slices.ContainsFunc(texts, func(text string) bool { return tags(text)["v"] == "DMARC1" })
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

// tags reads a tag=value list, RFC 6376 §3.2; folding white space inside the
// key of a DKIM record means nothing.
func tags(text string) map[string]string {
	list := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(part, "=")
		if ok {
			list[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
		}
	}
	return list
}

// keyType is the k tag of a DKIM record, RFC 6376 §3.6.1: "rsa" when it is missing.
func keyType(list map[string]string) string {
	if k := list["k"]; k != "" {
		return k
	}
	return "rsa"
}
