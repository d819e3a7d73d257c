package message

import (
	"bytes"
	"iter"
	"strings"
)

// kind tells the fields that this room reads or may change.
type kind uint8

const (
	kindOther kind = iota
	kindFrom
	kindSender
	kindBcc // and Resent-Bcc
	kindDate
	kindMessageID
	kindSubject
	kindReceived
	kindXPriority
	kindImportance
	kindMSPriority
)

func kindOf(name []byte) kind {
	var lower [len("x-msmail-priority")]byte
	if len(name) > len(lower) {
		return kindOther
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(name)]) {
	case "from":
		return kindFrom
	case "sender":
		return kindSender
	case "bcc", "resent-bcc":
		return kindBcc
	case "date":
		return kindDate
	case "message-id":
		return kindMessageID
	case "subject":
		return kindSubject
	case "received":
		return kindReceived
	case "x-priority":
		return kindXPriority
	case "importance":
		return kindImportance
	case "x-msmail-priority":
		return kindMSPriority
	}
	return kindOther
}

// Field is one header field as it came.
type Field struct {
	raw  []byte
	name int
}

// Name returns the name as the client wrote it.
func (f Field) Name() string { return string(f.raw[:f.name]) }

// Value returns what follows the colon, unfolded (RFC 5322 §2.2.3), without white
// space around it; bytes outside ASCII and encoded words are as they came.
func (f Field) Value() string { return unfold(f.body()) }

// Raw returns the bytes of the field, from its name to its last CRLF. They must not be changed.
func (f Field) Raw() []byte { return f.raw }

// body is what follows the colon.
func (f Field) body() []byte { return f.raw[f.name+1:] }

// Fields gives the fields in the order in which they came.
func (h Header) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for _, s := range h.fields {
			if !yield(h.at(s)) {
				return
			}
		}
	}
}

// Get returns the value of the first field of that name, in any case, as
// Field.Value does; ok is false when there is none.
func (h Header) Get(name string) (value string, ok bool) {
	for f := range h.Fields() {
		if len(name) == f.name && strings.EqualFold(name, f.Name()) {
			return f.Value(), true
		}
	}
	return "", false
}

// Raw returns the header section as it came, without the empty line. It must not be changed.
func (h Header) Raw() []byte { return h.raw }

// MessageID returns the text of the first Message-ID field, angle brackets and
// all, at most 998 octets; empty when there is none.
func (h Header) MessageID() string {
	f, ok := h.first(kindMessageID)
	if !ok {
		return ""
	}
	return clean(f.Value(), 998)
}

func (h Header) at(s span) Field { return Field{raw: h.raw[s.start:s.end:s.end], name: s.name} }

func (h Header) first(k kind) (f Field, ok bool) {
	for _, s := range h.fields {
		if s.kind == k {
			return h.at(s), true
		}
	}
	return Field{}, false
}

// unfold takes the CRLFs out of the body of a field and the white space off its ends.
func unfold(b []byte) string {
	b = bytes.Trim(b, " \t\r\n")
	if bytes.IndexByte(b, '\r') < 0 {
		return string(b)
	}
	return string(bytes.ReplaceAll(b, []byte("\r\n"), nil))
}
