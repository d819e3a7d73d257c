package message

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"
	"unicode"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
)

const (
	maxSubject     = 255       // runes kept of a subject
	maxEncodedText = 32 * 1024 // octets of a field looked at for them
)

// errCharset says that a character set can't be read.
var errCharset = errors.New("unknown character set")

// Subject returns the text of the first Subject field for people: encoded words
// decoded (RFC 2047), valid UTF-8 without control characters, at most 255 runes.
// Text in an unknown character set stays encoded.
func (h Header) Subject() string {
	f, ok := h.first(kindSubject)
	if !ok {
		return ""
	}
	body := f.body()
	if len(body) > maxEncodedText {
		body = body[:maxEncodedText]
	}
	raw := unfold(body)
	text, err := decode(raw)
	if err != nil {
		text = raw
	}
	return clean(text, maxSubject)
}

// decode reads encoded words, wherever they stand.
func decode(s string) (string, error) {
	if !strings.Contains(s, "=?") {
		return s, nil
	}
	d := mime.WordDecoder{CharsetReader: charset}
	return d.DecodeHeader(s)
}

// charset reads what the World Wide Web reads (WHATWG Encoding), which is what mail in the wild has.
func charset(name string, r io.Reader) (io.Reader, error) {
	name, _, _ = strings.Cut(name, "*") // RFC 2231 §5: a language may follow
	e, err := htmlindex.Get(name)
	if err != nil || e == encoding.Replacement {
		return nil, errCharset
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	text, err := e.NewDecoder().Bytes(raw)
	if err != nil {
		return nil, errCharset
	}
	return bytes.NewReader(text), nil
}

// clean makes text fit for people and logs: valid UTF-8 on one line, at most n runes.
func clean(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case n == 0:
			return b.String()
		case r == '\t' || r == '\n':
			r = ' '
		case unicode.IsControl(r):
			continue
		}
		b.WriteRune(r) // an invalid byte has become utf8.RuneError
		n--
	}
	return b.String()
}
