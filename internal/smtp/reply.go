package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"mittente/internal/mail"
)

// MaxReply is a sensible limit for ReadReply, in octets: the longest EHLO
// replies in use are below 1 KiB, and a line may have 512 (RFC 5321 §4.5.3.1.5).
const MaxReply = 16 << 10

// ErrReply says that what came is no reply of RFC 5321 §4.2. It comes wrapped.
var ErrReply = errors.New("not an SMTP reply")

// Reply is an answer of a server (RFC 5321 §4.2): a code from 200 to 599, an
// enhanced status (RFC 2034; zero when there is none) and one or more lines of
// text without either.
type Reply struct {
	Code   int
	Status mail.Status
	Lines  []string
}

// Class returns the first digit of the code: 2 done, 3 go on, 4 not now, 5 no.
func (r Reply) Class() int { return r.Code / 100 }

// Text returns the text as one line.
func (r Reply) Text() string { return strings.Join(r.Lines, " ") }

// String returns code, status and text as one line, for people and logs.
func (r Reply) String() string {
	return strings.TrimRight(string(r.appendHead(nil, ' '))+r.Text(), " ")
}

// Append appends the reply as it goes over the wire. Octets that would end the
// line or are control characters become '?', so that nothing a client sent can
// forge a reply.
func (r Reply) Append(b []byte) []byte {
	for i := range max(len(r.Lines), 1) {
		sep := byte('-')
		if i >= len(r.Lines)-1 {
			sep = ' '
		}
		b = r.appendHead(b, sep)
		if i < len(r.Lines) {
			b = appendText(b, r.Lines[i])
		}
		b = append(b, '\r', '\n')
	}
	return b
}

// WriteTo writes the reply as it goes over the wire, in one write.
func (r Reply) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r.Append(nil))
	return int64(n), err
}

// appendHead appends "550-5.7.1 ": every line carries the status (RFC 2034 §4).
func (r Reply) appendHead(b []byte, sep byte) []byte {
	b = append(strconv.AppendInt(b, int64(r.Code), 10), sep)
	if r.Status.IsZero() {
		return b
	}
	b = append(strconv.AppendInt(b, int64(r.Status.Class), 10), '.')
	b = append(strconv.AppendInt(b, int64(r.Status.Subject), 10), '.')
	return append(strconv.AppendInt(b, int64(r.Status.Detail), 10), ' ')
}

func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if isControl(c) {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

// readOver is how many times its limit ReadReply reads to find the end of a reply.
const readOver = 16

// ReadReply reads one reply and keeps of it at most limit octets, in whole lines;
// of what goes beyond, up to sixteen times as much, only the code counts. A status is taken
// from the text only where its class is the code's (RFC 2034 §4). Text is made
// printable UTF-8. Errors of r come as they are, io.ErrUnexpectedEOF for a
// stream that ends within a reply; ErrReply and ErrLineTooLong come wrapped,
// and after them the connection can't be used any more.
func ReadReply(r *bufio.Reader, limit int) (Reply, error) {
	var reply Reply
	left, read := limit, 0
	for {
		line, err := ReadLine(r, limit)
		if err != nil {
			if errors.Is(err, io.EOF) && reply.Code != 0 {
				err = io.ErrUnexpectedEOF
			}
			return Reply{}, err
		}
		left -= len(line) + 2
		read += len(line) + 2
		last, err := addLine(&reply, line)
		if n := len(reply.Lines); err == nil && left < 0 && n > 1 {
			reply.Lines = reply.Lines[:n-1]
		}
		if err != nil || last {
			return reply, err
		}
		if read > limit*readOver {
			return Reply{}, fmt.Errorf("%w: %w", ErrReply, ErrLineTooLong)
		}
	}
}

// addLine takes one line into r, and reports whether it was the last one.
func addLine(r *Reply, line []byte) (last bool, err error) {
	code, ok := replyCode(line)
	if !ok || r.Code != 0 && r.Code != code {
		shown := line[:min(len(line), 80)]
		*r = Reply{}
		return false, fmt.Errorf("%w: %q", ErrReply, shown)
	}
	text := ""
	if len(line) > 4 {
		text = printable(string(line[4:]))
	}
	status, rest, ok := lineStatus(text, code/100)
	switch {
	case ok && r.Code == 0:
		r.Status, text = status, rest
	case ok && status == r.Status:
		text = rest
	}
	r.Code = code
	r.Lines = append(r.Lines, text)
	return len(line) == 3 || line[3] == ' ', nil
}

// lineStatus reads a status of the given class at the start of text.
func lineStatus(text string, class int) (status mail.Status, rest string, ok bool) {
	if len(text) < 5 || int(text[0]-'0') != class || text[1] != '.' {
		return mail.Status{}, text, false
	}
	return mail.ParseStatus(text)
}

// replyCode reads "250" before the end of the line, a space or a hyphen.
func replyCode(line []byte) (int, bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	code := int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	return code, code >= 200 && code <= 599
}

// printable replaces control characters and what is not UTF-8 by '?'.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' {
			return '?'
		}
		return r
	}, s)
	return clean
}
