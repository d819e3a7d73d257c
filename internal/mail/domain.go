package mail

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Domain is a domain name in the form in which domains are compared: A-labels
// by IDNA lookup rules (RFC 5891 §5), lower case, no dot at the end, at least
// two labels. The zero value is no domain.
type Domain string

// ParseDomain reads a domain name in ASCII or in its own letters, with or without
// the dot at its end. It returns an error that wraps ErrDomain for anything that
// could not stand in the DNS as a mail domain, an IP address included.
func ParseDomain(s string) (Domain, error) {
	if len(s) > maxWritten {
		return "", fmt.Errorf("%w: too long", ErrDomain)
	}
	if !utf8.ValidString(s) { // idna would make labels of it that it refuses to read back
		return "", fmt.Errorf("%q: %w", s, ErrDomain)
	}
	ascii := lowerASCII(strings.TrimSuffix(s, "."))
	if !isASCII(ascii) || strings.Contains(ascii, "xn--") {
		var err error
		if ascii, err = toASCII(ascii); err != nil {
			return "", fmt.Errorf("%q: %w: %w", s, ErrDomain, err)
		}
	}
	if len(ascii) > maxDomain {
		return "", fmt.Errorf("%q: %w: too long", s, ErrDomain)
	}
	labels, last := 0, ""
	for label := range strings.SplitSeq(ascii, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("%q: %w", s, ErrDomain)
		}
		labels, last = labels+1, label
	}
	// RFC 3696 §2: no top-level domain is a number, so this is, or looks like, an
	// IP address.
	if labels < 2 || isNumber(last) {
		return "", fmt.Errorf("%q: %w", s, ErrDomain)
	}
	return Domain(ascii), nil
}

// toASCII gives A-labels that read back as themselves. The library's mapping does
// not promise that: U+2135 (alef symbol) becomes the Hebrew letter, in a label
// that then breaks the Bidi rule (RFC 5893). A domain that is written once and
// refused when it is read again would be stuck wherever it is stored.
func toASCII(s string) (string, error) {
	once, err := idna.Lookup.ToASCII(s)
	if err != nil {
		return "", err
	}
	again, err := idna.Lookup.ToASCII(once)
	if err != nil {
		return "", err
	}
	if again != once {
		return "", errors.New("its A-labels have another meaning when read again")
	}
	return once, nil
}

// Unicode returns the domain in its own letters, for people.
func (d Domain) Unicode() string {
	u, err := idna.Lookup.ToUnicode(string(d))
	if err != nil {
		return string(d)
	}
	return u
}

// isNumber reports whether a label is digits only.
func isNumber(label string) bool { return strings.Trim(label, "0123456789") == "" }

// isLabel is RFC 1123 §2.1, with the underscore that mail domains in use have.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
