// Package message reads RFC 5322 content and completes its header without disturbing a byte it does not own.
package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Bounds on what a client may make us hold and look at.
const (
	// MaxHeader is the size of a header section, in octets, that ReadHeader takes by default.
	MaxHeader = 256 << 10

	maxFields    = 10_000
	maxMailboxes = 100 // in one From field
	maxReceived  = 100 // RFC 5321 §6.3
)

// Errors of ReadHeader and Senders; they come wrapped with the cause.
var (
	// ErrMalformed says that the header section is not one that every mail
	// program reads in the same way (reply 550 5.6.0).
	ErrMalformed = errors.New("malformed header")
	// ErrTooLarge says that the header section has too many octets or fields.
	ErrTooLarge = errors.New("header too large")
	// ErrLoop says that the content went through too many hops (reply 554 5.4.6).
	ErrLoop = errors.New("too many hops")
	// ErrMultipleFrom says that there is more than one From field.
	ErrMultipleFrom = errors.New("more than one From field")
	// ErrNoFrom says that a well-formed header section has no From field.
	ErrNoFrom = errors.New("no From field")
)

// Header is a header section: its fields in order, byte for byte. The zero value
// has none.
type Header struct {
	raw    []byte
	fields []span
}

// span is where a field stands in the raw header section.
type span struct {
	start, end int // end is past the CRLF
	name       int // length of the name
	kind       kind
}

// ReadHeader reads the header section of content whose lines all end in CRLF.
// The body is what rest gives: the empty line between them belongs to neither,
// and an end of content takes its place. Content that begins with the empty line
// has a header section without fields.
//
// At most limit octets of header are taken, MaxHeader if limit is not positive.
// Errors wrap ErrMalformed, ErrTooLarge or ErrLoop, or are those of r. The reader
// rest is never nil; after an error it gives what r has left.
func ReadHeader(r io.Reader, limit int) (h Header, rest io.Reader, err error) {
	if limit <= 0 {
		limit = MaxHeader
	}
	s := scanner{buf: make([]byte, 0, 4096), limit: limit}
	for !s.done {
		if err := s.fill(r); err != nil {
			return Header{}, r, err
		}
	}
	h = Header{raw: s.buf[:s.end:s.end], fields: s.fields}
	if s.received > maxReceived {
		return Header{}, r, fmt.Errorf("%w: %d Received fields", ErrLoop, s.received)
	}
	return h, &body{held: s.buf[s.line:], r: r}, nil
}

// scanner cuts a header section into fields while it arrives.
type scanner struct {
	buf      []byte
	limit    int
	fields   []span
	line     int // where the line begins that is not looked at yet
	seen     int // up to here there is no further LF
	end      int // where the header section ends, once done
	received int
	done     bool
}

// fill reads once and takes all lines that are complete.
func (s *scanner) fill(r io.Reader) error {
	if len(s.buf) == cap(s.buf) {
		grown := make([]byte, len(s.buf), 2*cap(s.buf))
		copy(grown, s.buf)
		s.buf = grown
	}
	n, err := readSome(r, s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	if lineErr := s.lines(); lineErr != nil || s.done {
		return lineErr
	}
	switch {
	case len(s.buf) > s.limit:
		return fmt.Errorf("%w: over %d octets", ErrTooLarge, s.limit)
	case errors.Is(err, io.EOF) && s.line < len(s.buf):
		return fmt.Errorf("%w: the last line does not end in CRLF", ErrMalformed)
	case errors.Is(err, io.EOF):
		s.end, s.done = s.line, true
		return nil
	}
	return err
}

// readSome is one Read that gives something or an error.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		if n, err := r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// lines takes the lines that are complete, up to the empty one.
func (s *scanner) lines() error {
	for {
		i := bytes.IndexByte(s.buf[s.seen:], '\n')
		if i < 0 {
			s.seen = len(s.buf)
			return nil
		}
		next := s.seen + i + 1
		if next > s.limit+2 {
			return fmt.Errorf("%w: over %d octets", ErrTooLarge, s.limit)
		}
		if err := s.take(s.buf[s.line:next]); err != nil {
			return err
		}
		if s.done {
			s.line = next
			return nil
		}
		s.line, s.seen = next, next
	}
}

// take looks at one line, CRLF and all.
func (s *scanner) take(line []byte) error {
	if bytes.IndexByte(line, '\r') != len(line)-2 || bytes.IndexByte(line, 0) >= 0 {
		return fmt.Errorf("%w: CR, LF or NUL inside a line", ErrMalformed)
	}
	switch {
	case len(line) == 2:
		s.end, s.done = s.line, true
		return nil
	case line[0] != ' ' && line[0] != '\t':
		return s.field(line)
	case len(s.fields) == 0:
		return fmt.Errorf("%w: it begins with a continuation line", ErrMalformed)
	}
	s.fields[len(s.fields)-1].end += len(line)
	return nil
}

// field takes the first line of a field. The obsolete space before the colon
// (RFC 5322 §4.5) is refused: programs differ on what it names.
func (s *scanner) field(line []byte) error {
	name := bytes.IndexByte(line, ':')
	if name <= 0 || !isFieldName(line[:name]) {
		return fmt.Errorf("%w: line %d is not a header field", ErrMalformed, len(s.fields)+1)
	}
	if len(s.fields) == maxFields {
		return fmt.Errorf("%w: over %d fields", ErrTooLarge, maxFields)
	}
	if s.fields == nil {
		s.fields = make([]span, 0, 24)
	}
	k := kindOf(line[:name])
	if k == kindReceived {
		s.received++
	}
	s.fields = append(s.fields, span{start: s.line, end: s.line + len(line), name: name, kind: k})
	return nil
}

// isFieldName is RFC 5322 §2.2: printable US-ASCII except the colon.
func isFieldName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return true
}

// body gives what was read past the header section, then what is left to read.
type body struct {
	held []byte
	r    io.Reader
}

func (b *body) Read(p []byte) (int, error) {
	if len(b.held) == 0 {
		return b.r.Read(p)
	}
	n := copy(p, b.held)
	b.held = b.held[n:]
	return n, nil
}
