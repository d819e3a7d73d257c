package smtp

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"mittente/internal/mail"
)

// cutPath splits what follows "FROM:" or "TO:" at the end of the path, and
// returns the path without angle brackets and without its source route. Old
// clients put a space before the path, or leave the brackets away.
func cutPath(s string) (path, rest string, err error) {
	s = strings.TrimLeft(s, " \t")
	if !utf8.ValidString(s) { // RFC 6531 §3.3
		return "", "", fmt.Errorf("%w: not UTF-8", ErrPath)
	}
	if !strings.HasPrefix(s, "<") {
		path, rest, _ = strings.Cut(s, " ")
		if path == "" || strings.ContainsAny(path, `<>"`) {
			return "", "", fmt.Errorf("%w: no path", ErrPath)
		}
		return path, rest, nil
	}
	end, err := pathEnd(s)
	if err != nil {
		return "", "", err
	}
	rest = s[end+1:]
	if rest != "" && !isBlank(rest[0]) {
		return "", "", fmt.Errorf("%w: no space after the path", ErrPath)
	}
	path, err = dropRoute(s[1:end])
	return path, rest, err
}

// pathEnd returns the index of the '>' that ends the path: one within a quoted
// local-part does not (RFC 5321 §4.1.2).
func pathEnd(s string) (int, error) {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '>' && !quoted:
			return i, nil
		case c == '<' && !quoted, c == ' ' && !quoted:
			return 0, fmt.Errorf("%w: %q in the path", ErrPath, c)
		}
	}
	return 0, fmt.Errorf("%w: the path is not closed", ErrPath)
}

// dropRoute ignores a source route, "@a.example,@b.example:" (RFC 5321 §4.1.1.3, appendix C).
func dropRoute(path string) (string, error) {
	if !strings.HasPrefix(path, "@") {
		return path, nil
	}
	_, mailbox, ok := strings.Cut(path, ":")
	if !ok || mailbox == "" {
		return "", fmt.Errorf("%w: source route without mailbox", ErrPath)
	}
	return mailbox, nil
}

// parseReverse reads the path of MAIL; "<>" is the null one.
func parseReverse(path string) (mail.ReversePath, error) {
	if err := hasDomain(path); path != "" && err != nil {
		return mail.ReversePath{}, err
	}
	return mail.ParseReversePath(path)
}

// parseForward reads the path of RCPT. "<Postmaster>" without a domain, which
// RFC 5321 §4.5.1 gives to every host that takes mail in, is refused: this is
// a door for mail that leaves (RFC 6409 §4.2).
func parseForward(path string) (mail.ForwardPath, error) {
	if path == "" {
		return mail.ForwardPath{}, fmt.Errorf("%w: empty forward-path", ErrPath)
	}
	if err := hasDomain(path); err != nil {
		return mail.ForwardPath{}, err
	}
	return mail.ParseForwardPath(path)
}

// hasDomain returns ErrNoDomain for a mailbox that is a local-part only.
func hasDomain(path string) error {
	if at := strings.LastIndexByte(path, '@'); at < 0 || strings.HasSuffix(path, `"`) {
		return fmt.Errorf("%q: %w", path, ErrNoDomain)
	}
	return nil
}
