package message

import (
	"net/netip"
	"strings"
	"time"
)

// dateLayout is RFC 5322 §3.3.
const dateLayout = "Mon, 2 Jan 2006 15:04:05 -0700"

// Trace is what a Received field says of the session that brought a message (RFC
// 5321 §4.4). Who was authenticated is none of the recipients' business.
type Trace struct {
	Helo          string     // as the client said it
	Client        netip.Addr // zero: not to be told, which is the default of a list
	Authenticated bool       // RFC 3848: the A of ESMTPSA
	SMTPUTF8      bool       // RFC 6531 §4.3: UTF8SMTP for ESMTP
	TLS           string     // version and cipher suite; empty: in clear
	ID            string     // of the message
}

// appendTo writes the field, folded, CRLF and all.
func (t Trace) appendTo(out []byte, hostname string, now time.Time) []byte {
	out = append(out, "Received: from "...)
	out = append(out, t.from()...)
	out = append(out, "\r\n\tby "...)
	out = append(out, hostname...)
	out = append(out, " with "...)
	out = append(out, t.protocol()...)
	out = append(out, " id "...)
	out = append(out, t.ID...)
	if t.TLS != "" {
		out = append(out, "\r\n\t("...)
		out = append(out, printable(t.TLS)...)
		out = append(out, ')')
	}
	out = append(out, ";\r\n\t"...)
	return append(now.AppendFormat(out, dateLayout), "\r\n"...)
}

// protocol is a word of the registry of mail transmission types (RFC 3848, RFC
// 6531 §4.3). A session that knows AUTH or STARTTLS is ESMTP, even after HELO.
func (t Trace) protocol() string {
	p := "ESMTP"
	if t.SMTPUTF8 {
		p = "UTF8SMTP"
	}
	if t.TLS != "" {
		p += "S"
	}
	if t.Authenticated {
		p += "A"
	}
	return p
}

// from is the Extended-Domain of RFC 5321 §4.4. What the client called itself is
// hostile text; an address there is told only where the client's address is.
func (t Trace) from() string {
	name := t.Helo
	if !isHostName(name) {
		name = "unknown"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		name = "unknown"
	}
	client := t.Client.Unmap().WithZone("")
	switch {
	case !client.IsValid():
		return name
	case client.Is6():
		return name + " ([IPv6:" + client.String() + "])"
	}
	return name + " ([" + client.String() + "])"
}

func isHostName(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !alnum && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// printable keeps the text of a comment inside its comment and on its line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f || r == '(' || r == ')' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
