package mail_test

import (
	"errors"
	"strings"
	"testing"

	"mittente/internal/mail"
)

// TestParseDomain: the form in which domains are compared, and the one for people.
func TestParseDomain(t *testing.T) {
	for in, want := range map[string]struct{ ascii, unicode string }{
		"b.example":                          {"b.example", "b.example"},
		"B.EXAMPLE.":                         {"b.example", "b.example"},
		"a.b.c.d.example":                    {"a.b.c.d.example", "a.b.c.d.example"},
		"123.example":                        {"123.example", "123.example"},
		"1.2.3.4.example":                    {"1.2.3.4.example", "1.2.3.4.example"},
		"a-b.example":                        {"a-b.example", "a-b.example"},
		"r3---sn.example":                    {"r3---sn.example", "r3---sn.example"},
		"_dmarc.a_b.example":                 {"_dmarc.a_b.example", "_dmarc.a_b.example"},
		"Bücher.example":                     {"xn--bcher-kva.example", "bücher.example"},
		"BÜCHER.example":                     {"xn--bcher-kva.example", "bücher.example"},
		"bu\u0308cher.example":               {"xn--bcher-kva.example", "bücher.example"}, // decomposed
		"XN--BCHER-KVA.example":              {"xn--bcher-kva.example", "bücher.example"},
		"faß.example":                        {"xn--fa-hia.example", "faß.example"}, // RFC 5895, not as in IDNA 2003
		"例え.テスト":                             {"xn--r8jz45g.xn--zckzah", "例え.テスト"},
		"b。example":                          {"b.example", "b.example"},
		"ｂ.ｅｘａｍｐｌｅ":                          {"b.example", "b.example"},
		"b.xn--p1ai":                         {"b.xn--p1ai", "b.рф"},
		strings.Repeat("x", 63) + ".example": {strings.Repeat("x", 63) + ".example", strings.Repeat("x", 63) + ".example"},
	} {
		d, err := mail.ParseDomain(in)
		if err != nil || string(d) != want.ascii || d.Unicode() != want.unicode {
			t.Errorf("%s: %s, %s, %v", in, d, d.Unicode(), err)
		}
		for _, form := range []string{want.ascii, want.unicode} {
			if back, err := mail.ParseDomain(form); err != nil || back != d {
				t.Errorf("%s: %s is read as %s, %v", in, form, back, err)
			}
		}
	}
}

// TestParseDomain_Refuses: what cannot stand in the DNS as a mail domain.
func TestParseDomain_Refuses(t *testing.T) {
	for _, in := range []string{
		"", ".", "..", "localhost", "example", "example.", ".b.example", "b..example", "b.example..",
		"-b.example", "b-.example", "b c.example", "b\t.example", "b.example\r\n", "b\x00.example", "b/c.example", "b@c.example", "*.b.example",
		"b,c.example", "b.exam'ple", "b:25.example", "192.0.2.1", "192.0.2.1.", "192.0.2", "1.2.3.4.5", "[192.0.2.1]", "::1", "１９２.0.2.1", "x.123",
		"b\xff.example", "\xc0\xae.example", "b\u202e.example", "xn--.example", "xn--a.example", "xn--zz-zz--.example",
		"\u2135z.b.example", // maps to a Hebrew letter, in a label that then breaks RFC 5893
		"☃\u200d.example", "-ü.example", strings.Repeat("x", 64) + ".example", strings.Repeat("ü", 60) + ".example",
		strings.Repeat("abcdefg.", 31) + "examples", strings.Repeat("x.", 1<<20) + "example",
	} {
		d, err := mail.ParseDomain(in)
		if !errors.Is(err, mail.ErrDomain) || d != "" {
			t.Errorf("%.80q: %q, %.300v", in, d, err)
		}
		if err != nil && len(err.Error()) > 5000 {
			t.Errorf("%.80q: error of %d octets", in, len(err.Error()))
		}
	}
}

// TestDomain_Unicode: what is no A-label is shown as it is.
func TestDomain_Unicode(t *testing.T) {
	for _, d := range []mail.Domain{"", "xn--a.example", "a_b.example"} {
		if got := d.Unicode(); got != string(d) {
			t.Errorf("%s: %s", d, got)
		}
	}
}

// FuzzParseDomain: what is accepted is its own normal form, fit for the DNS.
func FuzzParseDomain(f *testing.F) {
	for _, s := range []string{"b.example", "Bücher.example", "xn--bcher-kva.example", "a_b.example", "192.0.2.1", "b。example", "ｂ.example", "-.example", "b.example.", "faß.de", "xn--a.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := mail.ParseDomain(s)
		if err != nil {
			return
		}
		if len(d) > 253 || strings.Trim(string(d), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || !strings.Contains(string(d), ".") {
			t.Errorf("%q: %q", s, d)
		}
		if back, err := mail.ParseDomain(string(d)); err != nil || back != d {
			t.Errorf("%q: %q is read as %q, %v", s, d, back, err)
		}
		d.Unicode()
	})
}

// What is accepted is read back as itself: it is stored, and read again, by its
// A-labels. A mapping that does not hold to that once stood in the way of a whole queue.
func TestParseDomain_ReadsBack(t *testing.T) {
	for r := rune(0x80); r < 0x30000; r++ {
		for _, text := range []string{string(r) + "z.b.example", "z" + string(r) + ".b.example", string(r) + ".example"} {
			d, err := mail.ParseDomain(text)
			if err != nil {
				continue
			}
			if again, err := mail.ParseDomain(string(d)); err != nil || again != d {
				t.Errorf("%q (%U): %q, then %q, %v", text, r, d, again, err)
			}
		}
	}
}
