package sender

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"mittente/internal/account"
	"mittente/internal/mail"
)

// Kind says what an entry authorises.
type Kind string

// The kinds of entries (S20).
const (
	KindDomain   Kind = "domain"   // exactly this domain
	KindWildcard Kind = "wildcard" // any depth below this domain, not itself
	KindAddress  Kind = "address"  // this address
)

const (
	maxPasted   = 64 << 10 // octets of a pasted list
	maxItem     = 1_024    // octets of one entry in it; the longest address takes 254 when it is not quoted
	maxEntries  = 1_000    // of one user
	maxProblems = 10       // entries at fault that an error names
)

// Wanted is an entry as it was typed, read and found well-formed.
type Wanted struct {
	Kind    Kind
	Domain  mail.Domain  // itself, the one below which, or the one of the address
	Address mail.Address // of KindAddress
	Warning string       // what the typist should look at again; mostly empty
}

// String returns the entry as it is shown: "example.com", "*.example.com" or "user@example.com".
func (w Wanted) String() string {
	switch w.Kind {
	case KindAddress:
		return w.Address.String()
	case KindWildcard:
		return "*." + string(w.Domain)
	case KindDomain:
	}
	return string(w.Domain)
}

// key is the part of an entry's identity that only addresses have.
func (w Wanted) key() string {
	if w.Kind != KindAddress {
		return ""
	}
	return w.Address.Key()
}

// ParseEntries reads a pasted list of domains, wildcards and addresses,
// separated by any of ";", ",", space and newline (S17); each comes once, in
// order. Angle brackets around an address are dropped. ErrInvalid names the
// entries at fault. At most 64 KiB and 1,000 entries.
func ParseEntries(text string) ([]Wanted, error) {
	if len(text) > maxPasted {
		return nil, fmt.Errorf("%w list: it is longer than %d KiB", account.ErrInvalid, maxPasted>>10)
	}
	var (
		all      []Wanted
		problems []error
		seen     = map[string]bool{}
	)
	for _, item := range splitList(text) {
		w, err := parseEntry(item)
		if err != nil {
			problems = append(problems, fmt.Errorf("%.80q: %w", item, err))
			continue
		}
		if identity := string(w.Kind) + " " + string(w.Domain) + " " + w.key(); !seen[identity] {
			seen[identity] = true
			all = append(all, w)
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w entries: %w", account.ErrInvalid, errors.Join(problems[:min(len(problems), maxProblems)]...))
	}
	if len(all) > maxEntries {
		return nil, fmt.Errorf("%w list: it has more than %d entries", account.ErrInvalid, maxEntries)
	}
	return all, nil
}

// ParseDomains reads lists in which domains and wildcards alone may stand.
func ParseDomains(lists []string) ([]Wanted, error) {
	all, err := ParseEntries(strings.Join(lists, "\n"))
	for _, w := range all {
		if w.Kind == KindAddress {
			return nil, fmt.Errorf("%w domain %s: it is an address", account.ErrInvalid, w)
		}
	}
	return all, err
}

// ParseAddresses reads lists in which addresses alone may stand.
func ParseAddresses(lists []string) ([]Wanted, error) {
	all, err := ParseEntries(strings.Join(lists, "\n"))
	for _, w := range all {
		if w.Kind != KindAddress {
			return nil, fmt.Errorf("%w address %s: it is a domain", account.ErrInvalid, w)
		}
	}
	return all, err
}

func parseEntry(item string) (Wanted, error) {
	if len(item) > maxItem {
		return Wanted{}, errors.New("too long")
	}
	if inner, ok := strings.CutPrefix(item, "<"); ok {
		item = strings.TrimSuffix(inner, ">")
	}
	if strings.Contains(item, "@") {
		a, err := mail.ParseAddress(item)
		return Wanted{Kind: KindAddress, Domain: a.Domain(), Address: a}, err
	}
	kind, name := KindDomain, item
	if base, ok := strings.CutPrefix(item, "*."); ok {
		kind, name = KindWildcard, base
	}
	d, err := mail.ParseDomain(name)
	if err != nil {
		return Wanted{}, err
	}
	w := Wanted{Kind: kind, Domain: d}
	if bare, ok := strings.CutPrefix(string(d), "www."); ok && kind == KindDomain && strings.Contains(bare, ".") {
		w.Warning = fmt.Sprintf("%s: mail seldom comes from a name that begins with www: did you mean %s?", d, bare)
	}
	return w, nil
}

// splitList cuts text at separators that are not inside a quoted local-part.
func splitList(text string) []string {
	var (
		items           []string
		item            strings.Builder
		quoted, escaped bool
	)
	end := func() {
		if item.Len() > 0 {
			items = append(items, item.String())
			item.Reset()
		}
	}
	for _, r := range text {
		switch {
		case escaped:
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case !quoted && (r == ';' || r == ',' || unicode.IsSpace(r)):
			end()
			continue
		}
		item.WriteRune(r)
	}
	end()
	return items
}
