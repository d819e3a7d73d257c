package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mittente/internal/mail"
)

// maxValue bounds a value that came from elsewhere, in octets as it is written.
const maxValue = 4000

// status is the part for programs (RFC 3464 §2), or its international form (RFC
// 6533 §4), which is written in quoted-printable where the DSN itself is ASCII.
func (d *DSN) status() part {
	global := d.global()
	clean := ascii
	if global {
		clean = printable
	}
	b := appendField(nil, "Reporting-MTA", "dns; "+clean(d.Reporter))
	if d.EnvelopeID != "" { // RFC 3464 §2.2.1
		b = appendField(b, "Original-Envelope-Id", ascii(d.EnvelopeID))
	}
	b = appendTime(b, "Arrival-Date", d.Arrival)
	for _, r := range d.Recipients {
		b = d.recipient(append(b, "\r\n"...), r, clean)
	}
	if !global {
		return part{"Content-Type: message/delivery-status\r\n", b}
	}
	const kind = "Content-Type: message/global-delivery-status\r\n"
	return d.international(kind, b)
}

// recipient appends the fields of one recipient (RFC 3464 §2.3).
func (d *DSN) recipient(b []byte, r Recipient, clean func(string) string) []byte {
	if kind, address, ok := strings.Cut(r.Original, ";"); ok { // RFC 3461 §6.3
		b = appendField(b, "Original-Recipient", clean(kind)+"; "+clean(address))
	}
	kind := "rfc822"
	if !isASCII(r.To) {
		kind = "utf-8" // RFC 6533 §3
	}
	b = appendField(b, "Final-Recipient", kind+"; "+clean(r.To))
	b = appendField(b, "Action", d.action())
	b = appendField(b, "Status", d.code(r).String())
	o := r.Outcome
	if o.RemoteMTA != "" {
		b = appendField(b, "Remote-MTA", "dns; "+clean(o.RemoteMTA))
	}
	switch {
	case o.Code != 0: // RFC 3464 §2.3.6: of the remote server only, and as it was
		b = appendField(b, "Diagnostic-Code", "smtp; "+clean(o.Reply()))
	case o.Diagnostic != "":
		b = appendField(b, "Diagnostic-Code", "x-mittente; "+clean(o.Diagnostic))
	}
	b = appendTime(b, "Last-Attempt-Date", r.LastAttempt)
	if r.LogID != "" {
		b = appendField(b, "Final-Log-ID", clean(r.LogID))
	}
	if d.Kind == Delay {
		b = appendTime(b, "Will-Retry-Until", r.RetryUntil)
	}
	return b
}

// action is RFC 3464 §2.3.3. This relay hands over to other servers: what it can
// report as done is relayed, never delivered.
func (d *DSN) action() string {
	switch d.Kind {
	case Failure:
		return "failed"
	case Delay:
		return "delayed"
	case Success:
	}
	return "relayed"
}

// code is the status of a recipient. That of a reply stands, also where its time
// is over: "the code for the actual problem found […] should be returned" (RFC
// 3463 §3.5 on X.4.7).
func (d *DSN) code(r Recipient) mail.Status {
	s := r.Outcome.Status
	switch {
	case d.Kind == Success:
		if s.Class != 2 {
			s = mail.Status{Class: 2}
		}
	case !s.IsZero() && s.Class != 2:
	case d.Kind == Delay || r.Expired:
		s = mail.Status{Class: 4, Subject: 4, Detail: 7}
	default:
		s = mail.Status{Class: 5}
	}
	return s
}

// international is a part that may hold UTF-8.
func (d *DSN) international(header string, b []byte) part {
	switch {
	case isASCII(string(b)):
		return part{header, b}
	case d.NeedsUTF8():
		return part{header + "Content-Transfer-Encoding: 8bit\r\n", b}
	}
	// RFC 6532 §3.6 and RFC 6533 §4 let message/global and its like be encoded.
	return part{header + "Content-Transfer-Encoding: quoted-printable\r\n", quotedPrintable(b)}
}

func appendTime(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return appendField(b, name, t.Format(dateLayout))
}

const (
	foldAt   = 76  // octets of a line where there is a space to fold at
	breakAt  = 900 // and where there is none
	maxField = 8 * breakAt
)

// appendField appends a field, folded (RFC 5322 §2.2.3). A value that does not end
// is cut.
func appendField(b []byte, name, value string) []byte {
	if len(value) > maxField {
		value = strings.ToValidUTF8(value[:maxField], "")
	}
	b = append(append(b, name...), ':')
	used := len(name) + 1
	for word := range strings.SplitSeq(value, " ") {
		for len(word) > breakAt {
			at := breakAt
			for !utf8.RuneStart(word[at]) {
				at--
			}
			b = append(append(b, "\r\n "...), word[:at]...)
			word, used = word[at:], foldAt
		}
		if used+1+len(word) > foldAt && used > 1 && word != "" {
			b, used = append(b, "\r\n"...), 0
		}
		b = append(append(b, ' '), word...)
		used += 1 + len(word)
	}
	return append(b, "\r\n"...)
}

// printable is text without controls, on one line.
func printable(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool {
		return unicode.IsControl(r) || r == ' ' || r == '\u2028' || r == '\u2029'
	}), " ")
}

// ascii is printable text in ASCII; other characters stand as RFC 6533 §3 writes
// them in addresses.
func ascii(s string) string {
	s = printable(s)
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, `\x{%s}`, strings.ToUpper(strconv.FormatInt(int64(r), 16)))
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
