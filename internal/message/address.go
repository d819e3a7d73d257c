package message

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mittente/internal/mail"
)

// The address lists of From and Sender, as this relay takes them. It is the part
// of RFC 5322 §3.4 that all mail programs read alike; what is obsolete, or read by
// some as one mailbox and by others as another, is refused.
//
//	list    = mailbox *("," mailbox)                     no group, no empty element
//	mailbox = [gap] [phrase] "<" [WSP] addr [WSP] ">" [gap]
//	        / [gap] addr [gap]
//	phrase  = word *(gap word) [gap]
//	word    = 1*(atext / ".") / quoted-string            "." as in "Acme Inc. <a@b.example>"
//	gap     = 1*(FWS / comment)
//	comment = "(" text without @ < > ( ) " \ ")"         an address there is shown by some
//	addr    = local "@" domain                           nothing between, no route, no literal
//	local   = dot-atom / quoted-string without specials  no encoded word
//
// A fold must leave something on its line. The text is UTF-8 (RFC 6532).
//
// Some programs (Python's email.utils is one) end a quoted string or a comment at
// a fold, and from there on take names for addresses and addresses for names. So
// where there is such a fold, no name may have an address that is not the field's
// own, and a quoted local-part is not folded at all.

// Bounds in octets, well above what mail has.
const (
	maxSenders = 64 * 1024 // the body of a From or Sender field
	maxAddress = 1024      // one address as it is written
)

// mailbox is one element of a list.
type mailbox struct {
	address mail.Address
	names   []string // what programs show with it: phrase and comments, still encoded
}

// parseMailboxes reads the body of a From or Sender field; most is how many
// mailboxes it may have. An error says what is wrong with it, in one line.
func parseMailboxes(body []byte, most int) ([]mail.Address, error) {
	text, folds, err := foldedText(body)
	if err != nil {
		return nil, err
	}
	p := parser{s: text, folds: folds}
	var list []mailbox
	for {
		m, err := p.mailbox()
		if err != nil {
			return nil, err
		}
		if list = append(list, m); len(list) > most {
			return nil, fmt.Errorf("over %d mailboxes", most)
		}
		if p.i == len(p.s) {
			break
		}
		if !p.take(',') {
			return nil, p.unexpected()
		}
	}
	addresses := make([]mail.Address, len(list))
	for i, m := range list {
		addresses[i] = m.address
	}
	for _, m := range list {
		for _, name := range m.names {
			if err := checkName(name, addresses); err != nil {
				return nil, err
			}
			if p.torn {
				if err := checkAddresses(name, addresses); err != nil {
					return nil, err
				}
			}
		}
	}
	return addresses, nil
}

// foldedText unfolds the body of a structured field (RFC 5322 §2.2.3), and says
// at which octets of the text it was folded.
func foldedText(body []byte) (text string, folds []int, err error) {
	body = bytes.TrimSuffix(body, []byte("\r\n"))
	switch {
	case len(body) > maxSenders:
		return "", nil, fmt.Errorf("over %d octets", maxSenders)
	case !utf8.Valid(body):
		return "", nil, errors.New("not UTF-8")
	}
	lines := bytes.Split(body, []byte("\r\n"))
	length := 0
	for i, line := range lines {
		// RFC 5322 §4.2 calls a blank line inside a field obsolete; some programs
		// end the header section there.
		if i > 0 && len(bytes.Trim(line, " \t")) == 0 {
			return "", nil, errors.New("blank line")
		}
		for _, c := range line {
			if c < ' ' && c != '\t' || c == 0x7f {
				return "", nil, errors.New("control character")
			}
		}
		if i > 0 {
			folds = append(folds, length)
		}
		length += len(line)
	}
	return string(bytes.Join(lines, nil)), folds, nil
}

// parser walks over one list.
type parser struct {
	s     string
	i     int
	folds []int // octets at which s was folded
	torn  bool  // a quoted string or a comment was
}

// tears reports whether there is a fold between two octets.
func (p *parser) tears(start, end int) bool {
	i, _ := slices.BinarySearch(p.folds, start)
	torn := i < len(p.folds) && p.folds[i] < end
	p.torn = p.torn || torn
	return torn
}

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *parser) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.i++
	return true
}

func (p *parser) unexpected() error {
	if p.i == len(p.s) {
		return errors.New("a mailbox is missing or not complete")
	}
	r, _ := utf8.DecodeRuneInString(p.s[p.i:])
	return fmt.Errorf("unexpected %q at octet %d", r, p.i+1)
}

// mailbox reads one element and the gap after it.
func (p *parser) mailbox() (mailbox, error) {
	var m mailbox
	var phrase strings.Builder
	if err := p.gap(&m); err != nil {
		return m, err
	}
	for words := 0; ; words++ {
		if p.peek() == '<' {
			m.names = append(m.names, phrase.String())
			return m, p.angle(&m)
		}
		start := p.i
		text, err := p.word()
		if err != nil {
			return m, err
		}
		if p.peek() == '@' {
			if words > 0 {
				return m, p.unexpected()
			}
			if err := p.address(&m, start); err != nil {
				return m, err
			}
			return m, p.gap(&m)
		}
		if words > 0 {
			phrase.WriteByte(' ')
		}
		phrase.WriteString(text)
		end := p.i
		if err := p.gap(&m); err != nil {
			return m, err
		}
		if p.i == end && p.peek() != '<' {
			return m, p.unexpected()
		}
	}
}

// angle reads "<" addr ">" and the gap after it.
func (p *parser) angle(m *mailbox) error {
	p.i++
	p.space()
	start := p.i
	if _, err := p.word(); err != nil {
		return err
	}
	if p.peek() != '@' {
		return p.unexpected()
	}
	if err := p.address(m, start); err != nil {
		return err
	}
	p.space()
	if !p.take('>') {
		return p.unexpected()
	}
	return p.gap(m)
}

// address reads "@" and the domain behind the local-part that began at start.
func (p *parser) address(m *mailbox, start int) error {
	local := p.s[start:p.i]
	if err := checkLocal(local); err != nil {
		return err
	}
	if p.tears(start, p.i) {
		return errors.New("a fold in the local-part")
	}
	p.i++
	p.atoms()
	text := p.s[start:p.i]
	switch {
	case len(text) > maxAddress:
		return fmt.Errorf("an address over %d octets", maxAddress)
	case strings.HasSuffix(text, "."):
		return p.unexpected()
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("a character in an address that cannot be seen")
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return err
	}
	m.address = a
	if c := p.peek(); p.i < len(p.s) && strings.IndexByte(" \t(,>", c) < 0 {
		return p.unexpected()
	}
	return nil
}

// checkLocal refuses a local-part in which some programs see another address: an
// encoded word, which they decode before they look for the @, or specials in quotes.
func checkLocal(local string) error {
	if strings.Contains(local, "=?") {
		return errors.New("an encoded word in the local-part")
	}
	if strings.HasPrefix(local, `"`) && strings.ContainsAny(local[1:len(local)-1], `@<>,;:()[]"\`) {
		return errors.New("specials in the local-part")
	}
	return nil
}

// word reads an atom, in which dots may stand, or a quoted string; the text is unquoted.
func (p *parser) word() (string, error) {
	if p.peek() == '"' {
		return p.quoted()
	}
	start := p.i
	p.atoms()
	if p.i == start {
		return "", p.unexpected()
	}
	return p.s[start:p.i], nil
}

// atoms walks over RFC 5322 §3.2.3 atext and dots.
func (p *parser) atoms() {
	for p.i < len(p.s) && isAtext(p.s[p.i]) {
		p.i++
	}
}

// isAtext is RFC 5322 §3.2.3 and the dot, with the bytes of UTF-8 (RFC 6532 §3.2).
func isAtext(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>[]:;@\,"`, c) < 0
}

// quoted reads a quoted string, RFC 5322 §3.2.4.
func (p *parser) quoted() (string, error) {
	var b strings.Builder
	start := p.i
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '"':
			p.i++
			p.tears(start, p.i)
			return b.String(), nil
		case '\\':
			if p.i++; p.i == len(p.s) {
				return "", p.unexpected()
			}
			b.WriteByte(p.s[p.i])
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a quote is not closed")
}

// space walks over white space.
func (p *parser) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t') {
		p.i++
	}
}

// gap walks over white space and comments, which many programs show as the name.
func (p *parser) gap(m *mailbox) error {
	for p.space(); p.peek() == '('; p.space() {
		p.i++
		n := strings.IndexAny(p.s[p.i:], `()@<>"\`)
		if n < 0 {
			return errors.New("a comment is not closed")
		}
		text := p.s[p.i : p.i+n]
		if p.i += n; !p.take(')') {
			return p.unexpected()
		}
		p.tears(p.i-n, p.i)
		m.names = append(m.names, text)
	}
	return nil
}
