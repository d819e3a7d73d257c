package mail

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Status is an enhanced status code, class.subject.detail (RFC 3463). The zero
// value says that none is known.
type Status struct{ Class, Subject, Detail int }

// ParseStatus reads "5.7.1" at the start of a reply's text; ok is false when
// none stands there, and rest is then s. Class is 2, 4 or 5, the others 0 to 999
// without zeros in front (RFC 3463 §2); a space or the end follows.
func ParseStatus(s string) (status Status, rest string, ok bool) {
	class, rest, ok := cutNumber(s, '.')
	if !ok || class != 2 && class != 4 && class != 5 {
		return Status{}, s, false
	}
	subject, rest, ok := cutNumber(rest, '.')
	if !ok {
		return Status{}, s, false
	}
	detail, rest, ok := cutNumber(rest, ' ')
	if !ok {
		return Status{}, s, false
	}
	return Status{Class: class, Subject: subject, Detail: detail}, rest, true
}

// cutNumber reads up to three digits and the octet after them, which at the end
// of s may be missing only where it is the last number.
func cutNumber(s string, after byte) (n int, rest string, ok bool) {
	i := 0
	for ; i < len(s) && i < 3 && s[i] >= '0' && s[i] <= '9'; i++ {
		n = n*10 + int(s[i]-'0')
	}
	switch {
	case i == 0 || i > 1 && s[0] == '0':
		return 0, s, false
	case i == len(s):
		return n, "", after == ' '
	}
	return n, s[i+1:], s[i] == after
}

// String returns "5.7.1", or "" when no status is known.
func (s Status) String() string {
	if s.IsZero() {
		return ""
	}
	var text [len("5.999.999")]byte
	b := strconv.AppendInt(text[:0], int64(s.Class), 10)
	b = strconv.AppendInt(append(b, '.'), int64(s.Subject), 10)
	b = strconv.AppendInt(append(b, '.'), int64(s.Detail), 10)
	return string(b)
}

// IsZero reports whether no status is known.
func (s Status) IsZero() bool { return s == Status{} }

// MarshalText gives the text form to JSON and the like.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the text form; an empty text is "not known".
func (s *Status) UnmarshalText(text []byte) error {
	parsed, _, ok := ParseStatus(string(text))
	if len(text) > 0 && (!ok || parsed.String() != string(text)) {
		return fmt.Errorf("%q is not an enhanced status code", text)
	}
	*s = parsed
	return nil
}

// Action is what an attempt did with a recipient, in the words of RFC 3464 §2.3.3.
type Action string

// The actions of an attempt.
const (
	Delivered Action = "delivered" // the next hop took responsibility
	Deferred  Action = "delayed"   // to be tried again
	Failed    Action = "failed"    // never to be tried again
)

// Scope says whose trouble an outcome is, so that one recipient's refusal does
// not hold up a site and a site's trouble does not fail its recipients.
type Scope string

// The scopes of an outcome.
const (
	ScopeRecipient Scope = "recipient" // this forward-path only
	ScopeMessage   Scope = "message"   // this content or reverse-path, for any recipient there
	ScopeSite      Scope = "site"      // the destination, or our own side: says nothing about the message
)

// Outcome is what became of one recipient in one attempt. It is one value from
// the wire to the console; empty fields are "not known".
type Outcome struct {
	Action     Action `json:"action"`
	Scope      Scope  `json:"scope,omitempty"`
	Code       int    `json:"code,omitempty"`       // SMTP reply code; 0 when no reply came
	Status     Status `json:"status,omitzero"`      // RFC 3463
	Diagnostic string `json:"diagnostic,omitempty"` // the reply's text, or the error, on one line, at most 1,000 octets
	RemoteMTA  string `json:"remote_mta,omitempty"` // host name
	RemoteAddr string `json:"remote_addr,omitempty"`
	TLS        string `json:"tls,omitempty"` // "TLS1.3 TLS_AES_128_GCM_SHA256 verified"; empty: in clear
	// DSN: the next hop took over the duty to report (RFC 3461 §5.2.1).
	DSN bool `json:"dsn,omitempty"`
	// RetryAfter is how long the next hop asks to wait before the next attempt,
	// 10 s to 24 h; 0: it does not say.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	// Ours: the trouble is this house's own, and stays until an operator acts (a
	// source address that is blocked, a password that a smarthost refuses).
	Ours bool `json:"ours,omitempty"`
}

// maxDiagnostic bounds a diagnostic, in octets.
const maxDiagnostic = 1000

// Diagnostic makes text fit for Outcome.Diagnostic, whoever wrote it: one line of
// valid UTF-8 without control characters, at most 1,000 octets.
func Diagnostic(text string) string {
	if len(text) > 4*maxDiagnostic {
		text = text[:4*maxDiagnostic]
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= maxDiagnostic {
		return text
	}
	end := maxDiagnostic
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Reply returns code, status and text as one line, as a postmaster expects to read it.
func (o Outcome) Reply() string {
	parts := make([]string, 0, 3)
	if o.Code != 0 {
		parts = append(parts, strconv.Itoa(o.Code))
	}
	if !o.Status.IsZero() {
		parts = append(parts, o.Status.String())
	}
	if o.Diagnostic != "" {
		parts = append(parts, o.Diagnostic)
	}
	return strings.Join(parts, " ")
}
