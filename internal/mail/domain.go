package mail

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// Domain is a domain name in the form in which domains are compared: A-labels
// by IDNA lookup rules (RFC 5891 §5), lower case, no dot at the end, at least
// two labels. The zero value is no domain.
type Domain string

// ParseDomain reads a domain name in ASCII or in its own letters. It returns an
// error that wraps ErrDomain for anything that could not stand in the DNS as a
// mail domain, an IP address included.
func ParseDomain(s string) (Domain, error) {
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(s, "."))
	if err != nil {
		return "", fmt.Errorf("%q: %w: %w", s, ErrDomain, err)
	}
	ascii = lowerASCII(ascii)
	if len(ascii) > 253 || !strings.Contains(ascii, ".") {
		return "", fmt.Errorf("%q: %w", s, ErrDomain)
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("%q: %w", s, ErrDomain)
		}
	}
	if _, err := netip.ParseAddr(ascii); err == nil {
		return "", fmt.Errorf("%q: %w: it is an IP address", s, ErrDomain)
	}
	return Domain(ascii), nil
}

// Unicode returns the domain in its own letters, for people.
func (d Domain) Unicode() string {
	u, err := idna.Lookup.ToUnicode(string(d))
	if err != nil {
		return string(d)
	}
	return u
}

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
