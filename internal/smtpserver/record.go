package smtpserver

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"mittente/internal/smtp"
)

const (
	maxRecord = 4 << 10 // octets kept of what was said
	keepHead  = 1 << 10 // octets of its beginning that are kept for good
	keepTail  = 2 << 10 // octets of its end that are kept when the middle goes
	maxLine   = 512     // octets kept of a line

	firstRecord = 768 // octets: a session with one message has some 700
)

// record is what was said in a session, with secrets masked: a password is not
// in it in whatever form, nor content, nor a line that is no command, for it
// might be a password out of turn.
type record struct{ text []byte }

// client notes a line of the client.
func (r *record) client(c smtp.Command, line []byte) {
	switch c.Verb {
	case "AUTH":
		mechanism, _, more := bytes.Cut([]byte(c.Args), []byte(" "))
		if !isMechanism(mechanism) {
			mechanism, more = []byte("****"), false
		}
		line = slices.Concat([]byte("AUTH "), mechanism)
		if more {
			line = append(line, " ****"...)
		}
	case "EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP":
	default:
		line = fmt.Appendf(nil, "(%d octets that are no command)", len(line))
	}
	r.add("C: ", line)
}

// secret notes a line of the client that answers a challenge.
func (r *record) secret() { r.add("C: ", []byte("****")) }

// content notes content of the client.
func (r *record) content(octets int64) {
	var line [48]byte
	r.add("C: ", append(strconv.AppendInt(append(line[:0], '('), octets, 10), " octets of content)"...))
}

// server notes a reply as it goes over the wire.
func (r *record) server(reply []byte) {
	for line := range bytes.Lines(reply) {
		r.add("S: ", bytes.TrimRight(line, "\r\n"))
	}
}

func (r *record) add(who string, line []byte) {
	switch {
	case r.text == nil:
		r.text = make([]byte, 0, firstRecord)
	case len(r.text)+maxLine+len(who)+1 > maxRecord:
		r.forget()
	}
	r.text = append(r.text, who...)
	for _, c := range line[:min(len(line), maxLine)] {
		if c < ' ' || c == 0x7f {
			c = '?'
		}
		r.text = append(r.text, c)
	}
	r.text = append(r.text, '\n')
}

// forget drops whole lines out of the middle.
func (r *record) forget() {
	const gap = "...\n"
	head := bytes.LastIndexByte(r.text[:keepHead], '\n') + 1
	if bytes.HasPrefix(r.text[head:], []byte(gap)) {
		head += len(gap)
	}
	tail := r.text[len(r.text)-keepTail:]
	tail = tail[bytes.IndexByte(tail, '\n')+1:]
	kept := r.text[:head]
	if !bytes.HasSuffix(kept, []byte("\n"+gap)) {
		kept = slices.Concat(kept, []byte(gap))
	}
	r.text = append(kept, tail...)
}

// String returns the record, as UTF-8.
func (r *record) String() string { return string(bytes.ToValidUTF8(r.text, []byte("?"))) }

func isMechanism(word []byte) bool {
	switch string(bytes.ToUpper(word)) {
	case "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "XOAUTH2":
		return true
	}
	return false
}
