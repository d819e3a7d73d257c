package sender

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"mittente/internal/account"
	"mittente/internal/mail"
)

func mustDomain(t *testing.T, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// S17: pasted lists.
func TestS17_ParseEntries(t *testing.T) {
	cases := []struct {
		name, text, want string
	}{
		{"nothing", "", "[]"},
		{"separators alone", " ;,\n\t; ", "[]"},
		{"one domain", "example.com", "[example.com]"},
		{"every separator", "a.it;b.it,c.it d.it\ne.it\r\nf.it\tg.it", "[a.it b.it c.it d.it e.it f.it g.it]"},
		{"doubled separators", "a.it; b.it ,\n c.it;", "[a.it b.it c.it]"},
		{"no-break space", "a.it\u00a0b.it", "[a.it b.it]"},
		{"kinds", "example.com *.example.com info@example.com", "[example.com *.example.com info@example.com]"},
		{"once each", "a.it A.IT a.it. *.a.it x@a.it X@A.it", "[a.it *.a.it x@a.it]"},
		{"brackets", "<info@example.com>", "[info@example.com]"},
		{"quoted local-part", `"a b; c\", d"@example.com e@example.com`, `["a b; c\", d"@example.com e@example.com]`},
		{"international", "Müller.example; post@müller.example", "[xn--mller-kva.example post@xn--mller-kva.example]"},
		{"underscore", "_x.example.com", "[_x.example.com]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseEntries(c.text)
			if err != nil || fmt.Sprint(got) != c.want {
				t.Errorf("%v, %v, want %s", got, err, c.want)
			}
		})
	}
}

// What can not be an entry is refused, and named.
func TestParseEntriesRefuses(t *testing.T) {
	cases := []struct{ name, text, shown string }{
		{"one label", "localhost", "localhost"},
		{"address literal", "a@[192.0.2.1]", "192.0.2.1"},
		{"IP address", "192.0.2.1", "192.0.2.1"},
		{"two stars", "*.*.example.com", "*.example.com"},
		{"star alone", "*", "*"},
		{"star inside", "mail.*.com", "mail.*.com"},
		{"star of one label", "*.com", "com"},
		{"star in an address", "*@example.com@", "*@example.com@"},
		{"no local-part", "@example.com", "@example.com"},
		{"no domain", "info@", "info@"},
		{"URL", "https://example.com/", "https://example.com/"},
		{"a name before", "Mario <mario@example.com>", "Mario"},
		{"open quote", `"a b@example.com`, "a b"},
		{"bad one among good ones", "a.it b@@c d.it", "b@@c"},
		{"too long", strings.Repeat("a ", maxPasted/2+1), "longer"},
		{"one too long", strings.Repeat("a", maxItem) + ".it", "too long"},
		{"too many", manyDomains(maxEntries + 1), "more than"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseEntries(c.text)
			if !errors.Is(err, account.ErrInvalid) || !strings.Contains(err.Error(), c.shown) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	if _, err := ParseEntries(strings.Repeat(strings.Repeat("x", 5000)+" ", 12)); len(err.Error()) > 2000 {
		t.Errorf("an error of %d octets", len(err.Error()))
	}
}

func manyDomains(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "d%d.example\n", i)
	}
	return b.String()
}

// Options that take one kind refuse the other.
func TestParseOneKindOnly(t *testing.T) {
	if got, err := ParseDomains([]string{"a.it,b.it", "*.c.it"}); err != nil || fmt.Sprint(got) != "[a.it b.it *.c.it]" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ParseAddresses([]string{"x@a.it;y@a.it", "z@a.it"}); err != nil || fmt.Sprint(got) != "[x@a.it y@a.it z@a.it]" {
		t.Errorf("%v, %v", got, err)
	}
	for name, err := range map[string]error{
		"address as domain": second(ParseDomains([]string{"a.it", "x@a.it"})),
		"domain as address": second(ParseAddresses([]string{"x@a.it", "a.it"})),
		"nonsense":          second(ParseDomains([]string{"x y z"})),
		"more nonsense":     second(ParseAddresses([]string{"x y z"})),
	} {
		if !errors.Is(err, account.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// S17: www. is pointed out where a domain was meant.
func TestS17_WWWIsPointedOut(t *testing.T) {
	for text, hint := range map[string]string{
		"www.example.com": "example.com?", "WWW.Example.com": "example.com?",
		"example.com": "", "www.com": "", "wwwx.example.com": "", "info@www.example.com": "", "*.www.example.com": "",
	} {
		got, err := ParseEntries(text)
		if err != nil || (got[0].Warning == "") != (hint == "") || !strings.HasSuffix(got[0].Warning, hint) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// Pasted text is read or refused, and what was read is shown so that it reads the same.
func FuzzParseEntries(f *testing.F) {
	for _, s := range []string{"", "a.it;b@c.it,*.d.it", `"a b"@c.it "`, "<a@b.it>", "www.x.it\\", "müller.example\u00a0x", "\xff@a.it", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseEntries(text)
		if err != nil {
			if !errors.Is(err, account.ErrInvalid) || got != nil {
				t.Fatalf("%v with %v", err, got)
			}
			return
		}
		// What was read is shown so that it reads the same.
		shown := make([]string, len(got))
		for i, w := range got {
			shown[i] = w.String()
		}
		again, err := ParseEntries(strings.Join(shown, "\n"))
		if err != nil || len(again) != len(got) {
			t.Fatalf("%q: %v, %v", shown, again, err)
		}
		for i := range got {
			if again[i].String() != got[i].String() || again[i].Kind != got[i].Kind || again[i].key() != got[i].key() {
				t.Fatalf("%q became %q", got[i], again[i])
			}
		}
	})
}
