package mail

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of RFC 5321 §4.5.3.1, in octets.
const (
	maxLocalPart = 64
	maxDomain    = 253 // RFC 1035 §2.3.4, without the dot at the end
	maxPath      = 254
)

// maxWritten is more than an address can have in any written form; what is longer
// is neither looked at nor repeated in an error.
const maxWritten = 1024

// Errors of ParseAddress and ParseDomain; they come wrapped with the text at fault.
var (
	ErrAddress = errors.New("not an email address")
	ErrDomain  = errors.New("not a domain name")
	ErrLiteral = errors.New("address literals are not accepted")
)

// Address is a mailbox, local-part@domain (RFC 5321 §4.1.2). It is comparable;
// the zero value is no address.
type Address struct {
	local  string // unquoted, as the client wrote it
	domain Domain
}

// ParseAddress reads a mailbox as it stands in a path, without angle brackets.
// The local-part may be a dot-atom or a quoted string, in ASCII or UTF-8 (RFC
// 6531 §3.3); the domain may be international. Errors wrap ErrAddress,
// ErrDomain or ErrLiteral.
func ParseAddress(s string) (Address, error) {
	if len(s) > maxWritten {
		return Address{}, fmt.Errorf("%w: too long", ErrAddress)
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}
	if strings.HasPrefix(rest, "[") {
		return Address{}, fmt.Errorf("%q: %w", s, ErrLiteral)
	}
	domain, err := ParseDomain(rest)
	if err != nil {
		return Address{}, err
	}
	if len(local) > maxLocalPart || len(local)+1+len(domain) > maxPath {
		return Address{}, fmt.Errorf("%q: %w: too long", s, ErrAddress)
	}
	return Address{local: local, domain: domain}, nil
}

// Local returns the local-part without quotes.
func (a Address) Local() string { return a.local }

// Domain returns the domain in its A-label form.
func (a Address) Domain() Domain { return a.domain }

// IsZero reports whether a is no address.
func (a Address) IsZero() bool { return a == Address{} }

// NeedsUTF8 reports whether a can travel only by SMTPUTF8 (RFC 6531): its
// local-part is not ASCII. An international domain does not need it.
func (a Address) NeedsUTF8() bool { return !isASCII(a.local) }

// String returns the form for the wire: local-part quoted where it must be, domain in A-labels.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	return quoteLocal(a.local) + "@" + string(a.domain)
}

// Display returns the form for people: the domain in its own letters.
func (a Address) Display() string {
	if a.IsZero() {
		return ""
	}
	return quoteLocal(a.local) + "@" + a.domain.Unicode()
}

// Key returns the form by which senders are compared (requirement S20): ASCII
// letters of the local-part in lower case, tags kept.
func (a Address) Key() string { return lowerASCII(a.local) + "@" + string(a.domain) }

// MarshalText gives the form for the wire to JSON and the like.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what ParseAddress reads; an empty text is no address.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// cutLocal splits s at the @ that ends its local-part.
func cutLocal(s string) (local, domain string, err error) {
	if strings.HasPrefix(s, `"`) {
		return cutQuoted(s)
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || !isDotAtom(local) {
		return "", "", fmt.Errorf("%q: %w", s, ErrAddress)
	}
	return local, domain, nil
}

// cutQuoted reads a quoted local-part: RFC 5321 §4.1.2 Quoted-string.
func cutQuoted(s string) (local, domain string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			domain, ok := strings.CutPrefix(s[i+1:], "@")
			if !ok || b.Len() == 0 || !utf8.ValidString(b.String()) {
				return "", "", fmt.Errorf("%q: %w", s, ErrAddress)
			}
			return b.String(), domain, nil
		case c == '\\' && i+1 < len(s) && s[i+1] >= ' ' && s[i+1] < 0x7f:
			i++
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f || c == '\\':
			return "", "", fmt.Errorf("%q: %w", s, ErrAddress)
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("%q: %w: the quote is not closed", s, ErrAddress)
}

func quoteLocal(local string) string {
	if isDotAtom(local) {
		return local
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
}

func isDotAtom(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") || !utf8.ValidString(s) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '.' && !isAtext(c) {
			return false
		}
	}
	return true
}

// isAtext is RFC 5322 §3.2.3 with the bytes of UTF-8 (RFC 6531 §3.3).
func isAtext(c byte) bool {
	switch {
	case c >= 0x80, c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
