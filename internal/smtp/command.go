package smtp

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of parsing commands; they come wrapped.
var (
	ErrSyntax    = errors.New("syntax error")
	ErrPath      = errors.New("not a path")
	ErrParameter = errors.New("unknown parameter")
	ErrValue     = errors.New("bad parameter value")
	ErrNoDomain  = errors.New("address without a domain")
)

// maxVerb is the length of the longest verb: STARTTLS. A longer word is no
// command, and need not be kept whole.
const maxVerb = 16

// Command is a line of a client: a verb in upper case, and what follows it
// (RFC 5321 §4.1.1).
type Command struct {
	Verb string
	Args string
}

// ParseCommand reads a line without its end. Spaces after the verb and at the
// end of the line are dropped. It returns ErrSyntax when the line begins with no
// word, or holds a control character.
func ParseCommand(line []byte) (Command, error) {
	end := 0
	for end < len(line) && isLetter(line[end]) {
		end++
	}
	if end == 0 || end > maxVerb || end < len(line) && !isBlank(line[end]) {
		return Command{}, fmt.Errorf("%w: no command", ErrSyntax)
	}
	args := line[end:]
	for i, c := range args {
		if isControl(c) && c != '\t' {
			return Command{}, fmt.Errorf("%w: control character at %d", ErrSyntax, end+i)
		}
	}
	return Command{Verb: verb(line[:end]), Args: strings.Trim(string(args), " \t")}, nil
}

// verb returns the word in upper case; the usual ones cost no memory.
func verb(word []byte) string {
	var upper [maxVerb]byte
	for i, c := range word {
		upper[i] = c &^ 0x20
	}
	switch v := upper[:len(word)]; string(v) {
	case "EHLO":
		return "EHLO"
	case "AUTH":
		return "AUTH"
	case "MAIL":
		return "MAIL"
	case "RCPT":
		return "RCPT"
	case "DATA":
		return "DATA"
	case "RSET":
		return "RSET"
	case "QUIT":
		return "QUIT"
	default:
		return string(v)
	}
}

func isLetter(c byte) bool  { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool   { return c >= '0' && c <= '9' }
func isBlank(c byte) bool   { return c == ' ' || c == '\t' }
func isControl(c byte) bool { return c < ' ' || c == 0x7f }
