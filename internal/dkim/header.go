package dkim

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// field is one header field, CRLF and all.
type field struct {
	raw  []byte
	name int // length of its name
	rank int // place of its name among those that are signed; unsigned: not signed
}

// split cuts a header section into its fields.
func split(header []byte) ([]field, error) {
	fields := make([]field, 0, 24)
	from := 0
	for len(header) > 0 {
		end := fieldEnd(header)
		name := bytes.IndexByte(header, ':')
		if end < 0 || name <= 0 || name > end || bytes.ContainsAny(header[:name], " \t\r\n") {
			return nil, fmt.Errorf("%w: field %d is not one", ErrHeader, len(fields)+1)
		}
		f := field{raw: header[:end], name: name}
		if f.rank = rank(header[:name]); f.rank == rankFrom {
			from++
		}
		fields = append(fields, f)
		header = header[end:]
	}
	if from != 1 {
		return nil, fmt.Errorf("%w: %d From fields", ErrHeader, from)
	}
	return fields, nil
}

// fieldEnd returns where the first field ends: at a CRLF that no white space follows.
func fieldEnd(header []byte) int {
	for i := 0; ; {
		n := bytes.Index(header[i:], []byte("\r\n"))
		if n < 0 {
			return -1
		}
		i += n + 2
		if i == len(header) || header[i] != ' ' && header[i] != '\t' {
			return i
		}
	}
}

// chosen returns the fields to sign in the order of signing: by rank, and those of
// one name from the last up to the first (RFC 6376 §5.4.2), so that what is put
// on top later does not matter.
func chosen(fields []field) []field {
	slices.Reverse(fields)
	fields = slices.DeleteFunc(fields, func(f field) bool { return f.rank == unsigned })
	slices.SortStableFunc(fields, func(a, b field) int { return cmp.Compare(a.rank, b.rank) })
	return fields
}

// appendRelaxed writes the relaxed form of the field (RFC 6376 §3.4.2).
func (f field) appendRelaxed(out []byte) []byte {
	for _, c := range f.raw[:f.name] {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	out = append(out, ':')
	start, space := len(out), false
	for _, c := range f.raw[f.name+1:] {
		switch c {
		case ' ', '\t', '\r', '\n':
			space = true
			continue
		}
		if space && len(out) > start {
			out = append(out, ' ')
		}
		space = false
		out = append(out, c)
	}
	return append(out, "\r\n"...)
}

// The ranks that have a meaning of their own.
const (
	unsigned = -1
	rankFrom = 0
)

// rank returns the place of a name in any case in signedNames, or unsigned.
func rank(name []byte) int {
	for i, signed := range signedNames() {
		if len(name) == len(signed) && strings.EqualFold(string(name), signed) {
			return i
		}
	}
	return unsigned
}

// signedNames returns what is signed, in the order of h=: the fields of RFC 6376
// §5.4.1 that people see or programs act on, and those that providers take only
// when signed (RFC 8058 §4; Feedback-ID). Not among them: what hops add or change
// (Received, Return-Path, DKIM-Signature) and what only shows importance.
func signedNames() [33]string {
	return [...]string{
		"from",
		"sender", "reply-to", "to", "cc", "subject", "date", "message-id",
		"in-reply-to", "references",
		"resent-from", "resent-sender", "resent-to", "resent-cc", "resent-date", "resent-message-id",
		"mime-version", "content-type", "content-transfer-encoding", "content-disposition",
		"content-id", "content-description", "content-language",
		"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe",
		"list-post", "list-owner", "list-archive",
		"feedback-id", "auto-submitted",
	}
}
