package report

import (
	"bytes"
	"mime/quotedprintable"
)

const maxLine = 998 // octets, RFC 5322 §2.1.1

// returned is the message, or as much of it as is to be returned and can be: in
// a message/rfc822 nothing may be encoded (RFC 2046 §5.2.1), so what no server
// would have to take as it is, comes back as its header alone.
func (d *DSN) returned() part {
	if d.Body != nil && fits(d.Header) && fits(d.Body) {
		return d.whole()
	}
	if d.global() && !isASCII(string(d.Header)) {
		return d.international("Content-Type: message/global-headers\r\n", d.Header)
	}
	const kind = "Content-Type: text/rfc822-headers\r\n" // RFC 6522 §4
	if isASCII(string(d.Header)) && fits(d.Header) {
		return part{kind, d.Header}
	}
	return part{kind + "Content-Transfer-Encoding: quoted-printable\r\n", quotedPrintable(d.Header)}
}

// whole is the message as it was.
func (d *DSN) whole() part {
	content := make([]byte, 0, len(d.Header)+2+len(d.Body))
	content = append(append(append(content, d.Header...), "\r\n"...), d.Body...)
	switch {
	case isASCII(string(content)):
		return part{"Content-Type: message/rfc822\r\n", content}
	case !isASCII(string(d.Header)) && d.global(): // RFC 6532 §3.7
		return d.international("Content-Type: message/global\r\n", content)
	case !isASCII(string(d.Header)): // RFC 5322 has no such header
		return d.withoutBody().returned()
	}
	return part{"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n", content}
}

func (d *DSN) withoutBody() *DSN {
	without := *d
	without.Body = nil
	return &without
}

// fits reports whether text has nothing but lines of at most 998 octets.
func fits(text []byte) bool {
	for line := range bytes.SplitSeq(text, []byte("\r\n")) {
		if len(line) > maxLine || bytes.ContainsAny(line, "\r\n\x00") {
			return false
		}
	}
	return true
}

// quotedPrintable encodes lines (RFC 2045 §6.7).
func quotedPrintable(text []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write(text) // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}
