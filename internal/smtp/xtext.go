package smtp

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What DSN parameters may be long, in octets as they stand on the wire.
const (
	maxEnvelopeID = 100 // RFC 3461 §4.4
	maxOriginal   = 500 // RFC 3461 §4.2
)

// utf8Type is the address type of RFC 6533 §3.
const utf8Type = "utf-8"

// EncodeXtext returns s as xtext (RFC 3461 §4): what is not printable ASCII,
// "+" and "=" become "+" and two digits.
func EncodeXtext(s string) string {
	if strings.IndexFunc(s, func(c rune) bool { return !isXchar(c) }) < 0 {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isXchar(rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "+%02X", c)
		}
	}
	return b.String()
}

// DecodeXtext reads xtext. It returns ErrValue, wrapped, for what is none.
func DecodeXtext(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+' && i+2 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("xtext: %w", ErrValue)
			}
			c = byte(n)
			i += 2
		case !isXchar(rune(c)):
			return "", fmt.Errorf("xtext: %w", ErrValue)
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

func isXchar(c rune) bool { return c >= '!' && c <= '~' && c != '+' && c != '=' }

// parseEnvelopeID reads ENVID (RFC 3461 §4.4): printable ASCII and spaces, as xtext.
func parseEnvelopeID(value string) (string, error) {
	decoded, err := DecodeXtext(value)
	if err != nil || value == "" || len(value) > maxEnvelopeID || !isPrintable(decoded) {
		return "", fmt.Errorf("ENVID: %w", ErrValue)
	}
	return decoded, nil
}

// parseOriginal reads ORCPT (RFC 3461 §4.2; RFC 6533 §3 for the type utf-8) and
// returns it with its address decoded, the type in lower case. What would be
// neither printable nor UTF-8 is refused: it gets into reports.
func parseOriginal(value string) (string, error) {
	bad := fmt.Errorf("ORCPT: %w", ErrValue)
	kind, address, ok := strings.Cut(value, ";")
	if !ok || kind == "" || address == "" || len(value) > maxOriginal || strings.IndexFunc(kind, func(c rune) bool { return !isAtext(c) }) >= 0 {
		return "", bad
	}
	kind = strings.ToLower(kind)
	decode, fits := DecodeXtext, isPrintable
	if kind == utf8Type {
		decode, fits = decodeUnitext, isPrintableUTF8
	}
	address, err := decode(address)
	if err != nil || address == "" || !fits(address) {
		return "", bad
	}
	return kind + ";" + address, nil
}

// decodeUnitext reads utf-8-addr-xtext and utf-8-addr-unitext (RFC 6533 §3),
// where a character may stand as \x{ABCD}. Some write it as xtext besides.
func decodeUnitext(s string) (string, error) {
	var b strings.Builder
	for s != "" {
		switch c, size := utf8.DecodeRuneInString(s); {
		case strings.HasPrefix(s, `\x{`):
			digits, rest, closed := strings.Cut(s[3:], "}")
			n, err := strconv.ParseUint(digits, 16, 32)
			if !closed || len(digits) > 6 || err != nil || !utf8.ValidRune(rune(n)) { //nolint:gosec // 24 bits
				return "", ErrValue
			}
			b.WriteRune(rune(n)) //nolint:gosec // 24 bits
			s = rest
		case c == utf8.RuneError && size < 2, c == '\\':
			return "", ErrValue
		case c == '+' && len(s) > 2:
			octet, err := DecodeXtext(s[:3])
			if err != nil {
				return "", ErrValue
			}
			b.WriteString(octet)
			s = s[3:]
		default:
			b.WriteRune(c)
			s = s[size:]
		}
	}
	return b.String(), nil
}

// EncodeOriginal returns what ParseRcpt read in the form for ORCPT, in ASCII:
// an address of the type utf-8 as utf-8-addr-xtext (RFC 6533 §3).
func EncodeOriginal(original string) string {
	return encodeOriginal(original, isXchar)
}

// EncodeOriginalUTF8 is EncodeOriginal for a next hop with SMTPUTF8: an address
// of the type utf-8 is utf-8-addr-unitext.
func EncodeOriginalUTF8(original string) string {
	return encodeOriginal(original, func(c rune) bool { return isXchar(c) || c >= 0x80 })
}

func encodeOriginal(original string, asItIs func(rune) bool) string {
	kind, address, _ := strings.Cut(original, ";")
	if kind != utf8Type {
		return kind + ";" + EncodeXtext(address)
	}
	var b strings.Builder
	for _, c := range address {
		if c != '\\' && asItIs(c) {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, `\x{%02X}`, c)
		}
	}
	return kind + ";" + b.String()
}

// isPrintable reports whether s holds nothing but printable ASCII and spaces.
func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c >= 0x7f }) < 0
}

// isPrintableUTF8 reports whether s holds nothing but printable characters and spaces.
func isPrintableUTF8(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) < 0
}

// isAtext reports whether c may stand in an atom (RFC 5322 §3.2.3).
func isAtext(c rune) bool {
	return c < 0x80 && (isLetter(byte(c)) || isDigit(byte(c)) || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", c)) //nolint:gosec // below 0x80
}
