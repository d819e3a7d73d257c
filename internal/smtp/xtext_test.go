package smtp

import (
	"cmp"
	"errors"
	"strings"
	"testing"
)

func TestXtext(t *testing.T) {
	for text, encoded := range map[string]string{
		"": "", "abc": "abc", "a+b=c": "a+2Bb+3Dc", "a b": "a+20b", "gr\u00fc\u00df": "gr+C3+BC+C3+9F", "\x00\x7f": "+00+7F",
	} {
		if got := EncodeXtext(text); got != encoded {
			t.Errorf("%q encodes as %q, want %q", text, got, encoded)
		}
		if got, err := DecodeXtext(encoded); got != text || err != nil {
			t.Errorf("%q decodes as %q, %v", encoded, got, err)
		}
	}
	for _, bad := range []string{"+", "+2", "a+zz", "a=b", "a b", "a\tb", "gr\u00fc", "++2B", "+-1"} {
		if got, err := DecodeXtext(bad); !errors.Is(err, ErrValue) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

func TestOriginal(t *testing.T) {
	for _, tt := range []struct{ value, want, ascii, utf8 string }{
		{"rfc822;a@b.example", "rfc822;a@b.example", "", ""},
		{"RFC822;a+2Bb@c.example", "rfc822;a+b@c.example", "rfc822;a+2Bb@c.example", "rfc822;a+2Bb@c.example"},
		{"x400;/C=no/S=x", "", "", ""}, // "=" is to be encoded
		{"x400;/C+3Dno", "x400;/C=no", "x400;/C+3Dno", "x400;/C+3Dno"},
		{`utf-8;gr\x{FC}\x{DF}@c.example`, "utf-8;gr\u00fc\u00df@c.example", "", "utf-8;gr\u00fc\u00df@c.example"},
		{"utf-8;gr\u00fc@c.example", "utf-8;gr\u00fc@c.example", `utf-8;gr\x{FC}@c.example`, ""},
		{"utf-8;gr+C3+BC@c.example", "utf-8;gr\u00fc@c.example", `utf-8;gr\x{FC}@c.example`, "utf-8;gr\u00fc@c.example"},
		{`utf-8;a\x{2B}b`, "utf-8;a+b", "", `utf-8;a\x{2B}b`},
		{"utf-8;a+2Bb", "utf-8;a+b", `utf-8;a\x{2B}b`, `utf-8;a\x{2B}b`},
		{"rfc822;" + strings.Repeat("x", 493), "rfc822;" + strings.Repeat("x", 493), "", "rfc822;" + strings.Repeat("x", 493)},
		{"rfc822;" + strings.Repeat("x", 494), "", "", ""},
		{"rfc822", "", "", ""},
		{"rfc822;", "", "", ""},
		{";a@b", "", "", ""},
		{"a b;c", "", "", ""},
		{"gr\u00fc;c", "", "", ""},
		{"rfc822;a+0D+0ABcc:x", "", "", ""}, // no header field of a report is forged
		{"rfc822;gr+C3+BC", "", "", ""},
		{`utf-8;a\x{0A}b`, "", "", ""},
		{`utf-8;a\x{D800}b`, "", "", ""},
		{`utf-8;a\x{110000}`, "", "", ""},
		{`utf-8;a\x{-1}`, "", "", ""},
		{`utf-8;a\x{`, "", "", ""},
		{`utf-8;a\b`, "", "", ""},
		{"utf-8;a\xff", "", "", ""},
		{"utf-8;a+FF", "", "", ""},
	} {
		got, err := parseOriginal(tt.value)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %q, %v; want %q", tt.value, got, err, tt.want)
			continue
		}
		if got == "" {
			continue
		}
		if encoded, want := EncodeOriginal(got), cmp.Or(tt.ascii, tt.value); encoded != want {
			t.Errorf("%q encodes as %q, want %q", got, encoded, want)
		}
		if encoded, want := EncodeOriginalUTF8(got), cmp.Or(tt.utf8, tt.value); encoded != want {
			t.Errorf("%q encodes as %q, want %q", got, encoded, want)
		}
	}
}

func FuzzXtext(f *testing.F) {
	for _, s := range []string{"", "a+b", "+2B", `\x{FC}`, "gr\u00fc", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := DecodeXtext(EncodeXtext(s)); got != s || err != nil {
			t.Errorf("%q comes back as %q, %v", s, got, err)
		}
		_, _ = DecodeXtext(s)
		for _, kind := range []string{"rfc822;", "utf-8;"} {
			original, err := parseOriginal(kind + s)
			if err != nil {
				continue
			}
			for _, encode := range []func(string) string{EncodeOriginal, EncodeOriginalUTF8} {
				encoded := encode(original)
				if again, err := parseOriginal(encoded); (again != original || err != nil) && len(encoded) <= maxOriginal {
					t.Errorf("%q as %q comes back as %q, %v", original, encoded, again, err)
				}
			}
		}
	})
}
