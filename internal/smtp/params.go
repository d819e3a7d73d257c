package smtp

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"mittente/internal/mail"
)

// Mail is what a MAIL command says (RFC 5321 §4.1.1.2).
type Mail struct {
	From     mail.ReversePath
	Size     int64       // octets the client declares (RFC 1870); 0 when it does not
	EightBit bool        // BODY=8BITMIME (RFC 6152)
	UTF8     bool        // SMTPUTF8 (RFC 6531)
	Return   mail.Return // RET (RFC 3461 §4.3); empty: not given
	ID       string      // ENVID (RFC 3461 §4.4), decoded; empty: not given
}

// ParseMail reads the arguments of MAIL. Errors wrap ErrSyntax, for the
// path ErrPath, ErrNoDomain or those of mail.ParseAddress, ErrParameter for a parameter that is
// not offered (555), ErrValue for a bad value or a parameter given twice.
func ParseMail(args string) (Mail, error) {
	path, rest, err := cutKeyword(args, "FROM:")
	if err != nil {
		return Mail{}, err
	}
	var m Mail
	if m.From, err = parseReverse(path); err != nil {
		return Mail{}, err
	}
	if err := eachParam(rest, m.set); err != nil {
		return Mail{}, err
	}
	return m, nil
}

// eachParam hands every parameter to set, and refuses one given twice.
func eachParam(rest string, set func(key, value string) error) error {
	seen := make([]string, 0, 4)
	for word := range strings.FieldsSeq(rest) {
		key, value, err := parseParam(word)
		if err != nil {
			return err
		}
		if slices.Contains(seen, key) {
			return fmt.Errorf("%s: %w: given twice", key, ErrValue)
		}
		seen = append(seen, key)
		if err := set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// set takes in one parameter.
func (m *Mail) set(key, value string) (err error) {
	switch key {
	case "SIZE":
		m.Size, err = parseSize(value)
		return err
	case "BODY":
		m.EightBit, err = parseBody(value)
		return err
	case "SMTPUTF8": // RFC 6531 §3.4: has no value
		m.UTF8 = value == ""
		if !m.UTF8 {
			return fmt.Errorf("SMTPUTF8=%s: %w", value, ErrValue)
		}
		return nil
	case "RET":
		m.Return, err = mail.ParseReturn(value)
		if err != nil || value == "" {
			return fmt.Errorf("RET: %w", ErrValue)
		}
		return nil
	case "ENVID":
		m.ID, err = parseEnvelopeID(value)
		return err
	case "AUTH": // RFC 4954 §5: to be accepted by all who offer AUTH; we trust the client's AUTH only
		if value == "" {
			return fmt.Errorf("AUTH: %w", ErrValue)
		}
		return nil
	}
	return fmt.Errorf("%s: %w", key, ErrParameter)
}

// ParseRcpt reads the arguments of RCPT (RFC 5321 §4.1.1.3) with the parameters
// of RFC 3461. Errors are those of ParseMail.
func ParseRcpt(args string) (mail.Rcpt, error) {
	path, rest, err := cutKeyword(args, "TO:")
	if err != nil {
		return mail.Rcpt{}, err
	}
	var r mail.Rcpt
	if r.To, err = parseForward(path); err != nil {
		return mail.Rcpt{}, err
	}
	err = eachParam(rest, func(key, value string) error { return setRcpt(&r, key, value) })
	if err != nil {
		return mail.Rcpt{}, err
	}
	return r, nil
}

// setRcpt takes in one parameter.
func setRcpt(r *mail.Rcpt, key, value string) (err error) {
	switch key {
	case "NOTIFY":
		r.Notify, err = mail.ParseNotify(value)
		if err != nil || value == "" {
			return fmt.Errorf("NOTIFY: %w", ErrValue)
		}
		return nil
	case "ORCPT":
		r.Original, err = parseOriginal(value)
		return err
	}
	return fmt.Errorf("%s: %w", key, ErrParameter)
}

// cutKeyword reads "FROM:" or "TO:", in any case, and the path after it.
func cutKeyword(args, keyword string) (path, rest string, err error) {
	if len(args) < len(keyword) || !strings.EqualFold(args[:len(keyword)], keyword) {
		return "", "", fmt.Errorf("%w: %s<address> expected", ErrSyntax, keyword)
	}
	return cutPath(args[len(keyword):])
}

// parseParam reads esmtp-keyword ["=" esmtp-value] (RFC 5321 §4.1.2); the
// keyword comes back in upper case.
func parseParam(word string) (key, value string, err error) {
	key, value, given := strings.Cut(word, "=")
	if key == "" || key[0] == '-' || given && value == "" {
		return "", "", fmt.Errorf("%w: parameter", ErrSyntax)
	}
	for i := range len(key) {
		if c := key[i]; !isLetter(c) && !isDigit(c) && c != '-' {
			return "", "", fmt.Errorf("%w: parameter", ErrSyntax)
		}
	}
	if strings.Contains(value, "=") && !strings.EqualFold(key, "AUTH") {
		return "", "", fmt.Errorf("%w: parameter", ErrSyntax)
	}
	return strings.ToUpper(key), value, nil
}

// parseSize reads 1 to 20 digits (RFC 1870 §4); what no int64 can hold is its maximum.
func parseSize(s string) (int64, error) {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, fmt.Errorf("SIZE=%s: %w", s, ErrValue)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case len(s) == 0 || len(s) > 20:
		return 0, fmt.Errorf("SIZE=%s: %w", s, ErrValue)
	case errors.Is(err, strconv.ErrRange):
		return math.MaxInt64, nil
	case err != nil:
		return 0, fmt.Errorf("SIZE=%s: %w", s, ErrValue)
	}
	return n, nil
}

// parseBody reads RFC 6152 §2; BINARYMIME (RFC 3030) is not offered.
func parseBody(s string) (eightBit bool, err error) {
	switch {
	case strings.EqualFold(s, "7BIT"):
		return false, nil
	case strings.EqualFold(s, "8BITMIME"):
		return true, nil
	}
	return false, fmt.Errorf("BODY=%s: %w", s, ErrValue)
}
