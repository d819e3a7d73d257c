package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"golang.org/x/text/encoding/charmap"

	"mittente/internal/mail"
)

// checkName refuses a display name in which a program that decodes before it
// parses, or that takes the first thing in angle brackets, would find a mailbox
// other than those of the field. A name that merely is an address is a name.
func checkName(name string, own []mail.Address) error {
	text, err := decodeName(name)
	if err != nil {
		return err
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return errors.New("a control character in a name")
	}
	specials := "<>"
	if text != name {
		specials = "<>,;:" // they cut a list where the name is decoded first
	}
	if !strings.Contains(text, "@") || !strings.ContainsAny(text, specials) {
		return nil
	}
	return checkAddresses(text, own)
}

// checkAddresses refuses every address in text that is not one of the field's own.
func checkAddresses(text string, own []mail.Address) error {
	between := func(r rune) bool { return strings.ContainsRune(" \t<>,;:()[]\"", r) }
	for word := range strings.FieldsFuncSeq(text, between) {
		if !strings.Contains(word, "@") {
			continue
		}
		a, err := mail.ParseAddress(strings.Trim(word, ".'"))
		if err != nil || !contains(own, a) {
			return fmt.Errorf("another address in a name: %.100q", word)
		}
	}
	return nil
}

func contains(own []mail.Address, a mail.Address) bool {
	for _, o := range own {
		if o.Key() == a.Key() {
			return true
		}
	}
	return false
}

// decodeName decodes the encoded words of a name in quotes or out of them. A
// character set that is not known here may be to the recipient's program: where
// it is sure to contain ASCII, bytes are taken for characters, which shows the
// ASCII; any other is an error (in EBCDIC or UTF-7 "<" is not the byte "<"). So
// is a word that does not decode, since programs repair it in their own ways.
func decodeName(name string) (string, error) {
	if !strings.Contains(name, "=?") {
		return name, nil
	}
	d := mime.WordDecoder{CharsetReader: func(set string, r io.Reader) (io.Reader, error) {
		raw, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if text, err := charset(set, bytes.NewReader(raw)); err == nil {
			return text, nil
		}
		if !containsASCII(set) {
			return nil, errCharset
		}
		return charmap.ISO8859_1.NewDecoder().Reader(bytes.NewReader(raw)), nil
	}}
	text, err := d.DecodeHeader(name)
	if err != nil || strings.Contains(text, "=?") && strings.Contains(text, "?=") {
		return "", errors.New("a name that cannot be decoded")
	}
	return text, nil
}

// containsASCII tells character sets that are met in mail, are not known to
// charset, and have ASCII in its place.
func containsASCII(set string) bool {
	set, _, _ = strings.Cut(strings.ToLower(set), "*") // RFC 2231 §5: a language may follow
	switch set {
	case "unknown-8bit", "x-unknown", "utf8mb4", "utf-8mb4",
		"cp437", "ibm437", "cp850", "ibm850", "cp852", "ibm852", "cp858", "ibm858":
		return true
	}
	return false
}
