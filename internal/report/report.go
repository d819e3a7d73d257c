// Package report composes what a sender is told of a message, for people and programs (RFC 6522, RFC 3464).
package report

import (
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"strings"
	"time"

	"mittente/internal/mail"
)

// Kind is what a report tells.
type Kind string

// The kinds of reports.
const (
	Failure Kind = "failure" // the recipients will not get the message
	Delay   Kind = "delay"   // they have not got it yet
	Success Kind = "success" // the next hop has taken it, and will not tell
)

// Recipient is one whose fate is reported.
type Recipient struct {
	To          string // forward-path, its domain in A-labels
	Display     string // the same for people; empty: To
	Original    string // ORCPT (RFC 3461 §4.2), "type;address", decoded; empty: not given
	LogID       string // what our logs call it
	Outcome     mail.Outcome
	LastAttempt time.Time // zero: there was none
	RetryUntil  time.Time // of a delay; zero: not known
	Expired     bool      // of a failure: it was tried until its time was over
}

// DSN is a delivery status notification about one message. It is made of values
// only; what in them came from a client or another server is made safe.
type DSN struct {
	Kind      Kind
	From      mail.Address // of the house
	To        mail.Address // the reverse-path of the message
	MessageID string       // of the DSN, with angle brackets
	Date      time.Time

	Reporter   string // host name of this relay
	EnvelopeID string // ENVID, decoded; empty: not given
	Arrival    time.Time
	Subject    string // of the message, decoded
	OriginalID string // Message-ID of the message
	UTF8       bool   // the message is internationalised (RFC 6531)
	Lang       string // what stands first for people: "it", or English
	Zone       Zone   // of the times for people

	Recipients []Recipient // at least one

	// Header is the header section of the message, each line with its CRLF; nil
	// when it is not there any more. Body is what follows the empty line, nil when
	// it is not to be returned (RFC 3461 §4.3).
	Header []byte
	Body   []byte
}

const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700" // RFC 5322 §3.3

// NeedsUTF8 reports whether the DSN can travel by SMTPUTF8 only (RFC 6531),
// because of whom it goes to. Other DSNs are within ASCII, but for a body that is
// returned as it was.
func (d *DSN) NeedsUTF8() bool { return d.To.NeedsUTF8() }

// part is one part of the report.
type part struct {
	header string // without the empty line
	body   []byte
}

// Bytes returns the content: header section and body, lines of at most 998
// octets that end in CRLF (RFC 5322 §2.1.1).
func (d *DSN) Bytes() []byte {
	parts := []part{d.people(), d.status()}
	if d.Header != nil {
		parts = append(parts, d.returned())
	}
	mark := boundary(parts)
	out := d.header(mark)
	for _, p := range parts {
		out = append(out, "\r\n--"+mark+"\r\n"+p.header+"\r\n"...)
		out = append(out, p.body...)
	}
	return append(out, "\r\n--"+mark+"--\r\n"...)
}

// header is the header section of the DSN, the empty line but one not included.
func (d *DSN) header(mark string) []byte {
	var b []byte
	field := func(name, value string) { b = appendField(b, name, value) }
	field("From", `"Mail Delivery System" <`+d.From.String()+">")
	field("To", "<"+d.To.String()+">")
	field("Subject", mime.QEncoding.Encode("utf-8", d.subject()))
	field("Date", d.Date.Format(dateLayout))
	field("Message-ID", d.MessageID)
	if isMessageID(d.OriginalID) {
		field("In-Reply-To", d.OriginalID)
		field("References", d.OriginalID)
	}
	field("Auto-Submitted", "auto-replied") // RFC 3834 §5
	field("MIME-Version", "1.0")
	field("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+mark+`"`) // RFC 6522 §3
	return b
}

// boundary is text that none of the parts has: who chose their bytes could not
// know it.
func boundary(parts []part) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p.header))
		h.Write(p.body)
	}
	return "=_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// global reports whether the DSN is to be one of RFC 6533: its message was
// internationalised, or one of the addresses in it is.
func (d *DSN) global() bool {
	if d.UTF8 || d.To.NeedsUTF8() {
		return true
	}
	for _, r := range d.Recipients {
		if !isASCII(r.To) || !isASCII(r.Original) {
			return true
		}
	}
	return false
}

// isMessageID reports whether the text can be repeated as a Message-ID.
func isMessageID(s string) bool {
	return len(s) > 4 && len(s) <= 500 && s[0] == '<' && strings.IndexByte(s, '>') == len(s)-1 && strings.Contains(s, "@") &&
		strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}
