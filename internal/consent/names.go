package consent

import (
	"strings"
	"unicode"

	"mittente/internal/mail"
)

const maxName = 60 // runes of a name that others chose

// short makes a name that others chose fit for one line of a letter or a page.
func short(s string, n int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, ""), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) // Cf: what turns text around
	}), " ")
	if r := []rune(s); len(r) > n {
		s = string(r[:n-1]) + "…"
	}
	return s
}

// person is who asks for an address.
type person struct {
	name    string
	address mail.Address // zero: none is known
}

// askedBy reads letter.Asking.By: `Marta Riva <marta@a.example>`, an address, or a name.
func askedBy(s string) person {
	name, rest, ok := strings.Cut(s, "<")
	if address, closed := strings.CutSuffix(strings.TrimSpace(rest), ">"); ok && closed {
		if a, err := mail.ParseAddress(address); err == nil {
			return person{short(strings.Trim(name, ` "`), maxName), a}
		}
	}
	if a, err := mail.ParseAddress(strings.TrimSpace(s)); err == nil {
		return person{"", a}
	}
	return person{name: short(s, maxName)}
}

// call is what the person is called.
func (p person) call() string {
	if p.name == "" {
		return p.address.Display()
	}
	return p.name
}

// pieces cuts an address or a host name where a line may end: after the "@" and
// before each ".".
func pieces(s string) []string {
	var all []string
	start := 0
	for i := range len(s) {
		switch {
		case s[i] == '.' && i > start:
			all, start = append(all, s[start:i]), i
		case s[i] == '@' && i+1 < len(s):
			all, start = append(all, s[start:i+1]), i+1
		}
	}
	return append(all, s[start:])
}
