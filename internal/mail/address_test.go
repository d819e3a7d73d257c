package mail_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mittente/internal/mail"
)

func address(tb testing.TB, s string) mail.Address {
	tb.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// TestParseAddress: what stands for an address, on the wire and for people.
func TestParseAddress(t *testing.T) {
	for _, c := range []struct{ in, wire, display, key string }{
		{"a@b.example", "a@b.example", "a@b.example", "a@b.example"},
		{"Anna.Rossi@B.Example", "Anna.Rossi@b.example", "Anna.Rossi@b.example", "anna.rossi@b.example"},
		{"A+Tag@b.example", "A+Tag@b.example", "A+Tag@b.example", "a+tag@b.example"},
		{"a@b.example.", "a@b.example", "a@b.example", "a@b.example"},
		{"!#$%&'*+-/=?^_`{|}~@b.example", "!#$%&'*+-/=?^_`{|}~@b.example", "!#$%&'*+-/=?^_`{|}~@b.example", "!#$%&'*+-/=?^_`{|}~@b.example"},
		{`"a"@b.example`, "a@b.example", "a@b.example", "a@b.example"},
		{`"a.b"@b.example`, "a.b@b.example", "a.b@b.example", "a.b@b.example"},
		{`"\a"@b.example`, "a@b.example", "a@b.example", "a@b.example"},
		{`"a b"@b.example`, `"a b"@b.example`, `"a b"@b.example`, "a b@b.example"},
		{`"A@C"@b.example`, `"A@C"@b.example`, `"A@C"@b.example`, "a@c@b.example"},
		{`"a..b"@b.example`, `"a..b"@b.example`, `"a..b"@b.example`, "a..b@b.example"},
		{`".a"@b.example`, `".a"@b.example`, `".a"@b.example`, ".a@b.example"},
		{`"\"\\"@b.example`, `"\"\\"@b.example`, `"\"\\"@b.example`, `"\@b.example`},
		{"Ñandú@b.example", "Ñandú@b.example", "Ñandú@b.example", "Ñandú@b.example"}, // RFC 6531: only ASCII is folded
		{"a@Bücher.Example", "a@xn--bcher-kva.example", "a@bücher.example", "a@xn--bcher-kva.example"},
		{"a@xn--bcher-kva.example", "a@xn--bcher-kva.example", "a@bücher.example", "a@xn--bcher-kva.example"},
		{"a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example", "a@bücher.example", "a@xn--bcher-kva.example"},
		{strings.Repeat("x", 64) + "@b.example", strings.Repeat("x", 64) + "@b.example", strings.Repeat("x", 64) + "@b.example", strings.Repeat("x", 64) + "@b.example"},
	} {
		a, err := mail.ParseAddress(c.in)
		if err != nil || a.String() != c.wire || a.Display() != c.display || a.Key() != c.key {
			t.Errorf("%s: %s, %s, %s, %v", c.in, a, a.Display(), a.Key(), err)
		}
		if back, err := mail.ParseAddress(a.String()); err != nil || back != a {
			t.Errorf("%s: its wire form %s is read as %v, %v", c.in, a, back, err)
		}
		if back, err := mail.ParseAddress(a.Display()); err != nil || back != a {
			t.Errorf("%s: its form for people %s is read as %v, %v", c.in, a.Display(), back, err)
		}
	}
}

// TestParseAddress_Refuses: what is no mailbox, with the right error and a short one.
func TestParseAddress_Refuses(t *testing.T) {
	for in, want := range map[string]error{
		"": mail.ErrAddress, "@": mail.ErrAddress, "a": mail.ErrAddress, "a@": mail.ErrDomain, "@b.example": mail.ErrAddress,
		" a@b.example": mail.ErrAddress, "a@b.example ": mail.ErrDomain, "a @b.example": mail.ErrAddress, "a@ b.example": mail.ErrDomain,
		"a@b@c.example": mail.ErrDomain, ".a@b.example": mail.ErrAddress, "a.@b.example": mail.ErrAddress, "a..b@b.example": mail.ErrAddress,
		"<a@b.example>": mail.ErrAddress, "a@b.example>": mail.ErrDomain, "a,b@c.example": mail.ErrAddress, "a:b@c.example": mail.ErrAddress,
		"@x.example:a@b.example": mail.ErrAddress, "a(c)@b.example": mail.ErrAddress, "a@b.example(c)": mail.ErrDomain,
		"a\r\nRCPT TO:<x@y>@b.example": mail.ErrAddress, "a\x00@b.example": mail.ErrAddress, "a\x7f@b.example": mail.ErrAddress,
		"a\xff@b.example": mail.ErrAddress, "a@b\xff.example": mail.ErrDomain,
		`"a@b.example`: mail.ErrAddress, `""@b.example`: mail.ErrAddress, `"a"b@c.example`: mail.ErrAddress, `"a"`: mail.ErrAddress,
		`"a"@`: mail.ErrDomain, `"a\`: mail.ErrAddress, `"a\"@b.example`: mail.ErrAddress, "\"a\tb\"@c.example": mail.ErrAddress,
		"\"a\\\tb\"@c.example": mail.ErrAddress, "\"a\r\n\"@b.example": mail.ErrAddress, "\"\xff\"@b.example": mail.ErrAddress, `a"b"@c.example`: mail.ErrAddress,
		"a@localhost": mail.ErrDomain, "a@b..example": mail.ErrDomain, "a@é\xff.example": mail.ErrDomain, "a@192.0.2.1": mail.ErrDomain,
		"a@[192.0.2.1]": mail.ErrLiteral, "a@[IPv6:2001:db8::1]": mail.ErrLiteral, "a@[": mail.ErrLiteral,
		strings.Repeat("x", 65) + "@b.example":                                     mail.ErrAddress,
		"aa@" + strings.Repeat("b234567.", 30) + "exampleabcde":                    mail.ErrAddress, // 255 octets
		strings.Repeat("x", 1<<20) + "@b.example":                                  mail.ErrAddress,
		"a@" + strings.Repeat("b.", 1<<20) + "example":                             mail.ErrAddress,
		`"` + strings.Repeat(`\x`, 1<<20) + `"@b.example`:                          mail.ErrAddress,
		strings.Repeat("é", 33) + "@b.example":                                     mail.ErrAddress, // 66 octets
		"a@" + strings.Repeat("x", 64) + ".example":                                mail.ErrDomain,
		strings.Repeat("x", 64) + "@" + strings.Repeat("b234567.", 22) + "example": nil,
	} {
		a, err := mail.ParseAddress(in)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%.60q: %v, %.200v", in, a, err)
		}
		if err != nil && (!a.IsZero() || len(err.Error()) > 5000 || strings.ContainsAny(err.Error(), "\r\n\x00")) {
			t.Errorf("%.60q: %v, error of %d octets", in, a, len(err.Error()))
		}
	}
}

// TestS20_Key: local-part in any case, tags kept, domain exact.
func TestS20_Key(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"Info@B.example", "iNFO@b.EXAMPLE", true},
		{`"info"@b.example`, "info@b.example", true},
		{"a@bücher.example", "a@XN--BCHER-KVA.example", true},
		{"a+x@b.example", "a@b.example", false},
		{"a.b@b.example", "ab@b.example", false},
		{"a@b.example", "a@x.b.example", false},
		{"é@b.example", "É@b.example", false},
		{"K@b.example", "\u212a@b.example", false}, // Kelvin is no ASCII letter
	} {
		if got := address(t, c.a).Key() == address(t, c.b).Key(); got != c.same {
			t.Errorf("%s and %s: same %v", c.a, c.b, got)
		}
	}
}

// TestAddress_Zero: the zero value is no address anywhere.
func TestAddress_Zero(t *testing.T) {
	var a mail.Address
	if !a.IsZero() || a.String() != "" || a.Display() != "" || a.NeedsUTF8() {
		t.Errorf("%q, %q", a, a.Display())
	}
	if address(t, "a@b.example").IsZero() {
		t.Error("an address is none")
	}
}

// TestAddress_Parts: local-part unquoted, domain in A-labels, SMTPUTF8 for the local-part only.
func TestAddress_Parts(t *testing.T) {
	for in, want := range map[string]struct {
		local, domain string
		utf8          bool
	}{
		"a@b.example":        {"a", "b.example", false},
		`"a \" b"@B.example`: {`a " b`, "b.example", false},
		"é@b.example":        {"é", "b.example", true},
		"a@bücher.example":   {"a", "xn--bcher-kva.example", false},
	} {
		a := address(t, in)
		if a.Local() != want.local || string(a.Domain()) != want.domain || a.NeedsUTF8() != want.utf8 {
			t.Errorf("%s: %q, %q, %v", in, a.Local(), a.Domain(), a.NeedsUTF8())
		}
	}
}

// TestAddress_JSON: as on the wire; empty for none.
func TestAddress_JSON(t *testing.T) {
	type doc struct {
		A mail.Address `json:"a"`
		B mail.Address `json:"b"`
	}
	want := doc{A: address(t, "Ñ@bücher.example")}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `{"a":"Ñ@xn--bcher-kva.example","b":""}` {
		t.Fatalf("%s, %v", text, err)
	}
	got := doc{B: want.A}
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"a":"no"}`), &got); !errors.Is(err, mail.ErrAddress) || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestAddress_AnyLocalPart: whatever printable local-part is read, its wire form is read as the same.
func TestAddress_AnyLocalPart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringOfN(rapid.RuneFrom([]rune(` ab.Z9@"\<>,;:()[]é日+`)), 1, 20, 64).Draw(t, "local")
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"@b.example`
		a, err := mail.ParseAddress(quoted)
		if err != nil || a.Local() != local {
			t.Fatalf("%s: %q, %v", quoted, a.Local(), err)
		}
		if back, err := mail.ParseAddress(a.String()); err != nil || back != a {
			t.Fatalf("%s: %v, %v", a, back, err)
		}
	})
}

// FuzzParseAddress: what is accepted has one wire form, short and on one line.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{
		"a@b.example", `"a b"@b.example`, `"\"\\"@b.example`, "é@bücher.example", "a@xn--bcher-kva.example", "a@[192.0.2.1]", "a@1.2.3.4",
		"a..b@c.example", `"a"b@c.example`, "a@b_c.example", "a@b。example", "a@ⓑ.example", "a@b.example.", "@x:a@b.example",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := mail.ParseAddress(s)
		if err != nil {
			if !a.IsZero() {
				t.Errorf("%q: %v and %v", s, a, err)
			}
			return
		}
		wire := a.String()
		if len(wire) > 2*254 || strings.ContainsAny(wire, "\r\n\x00") || a.Local() == "" || a.Domain() == "" {
			t.Errorf("%q: wire form %q", s, wire)
		}
		if back, err := mail.ParseAddress(wire); err != nil || back != a || back.Key() != a.Key() {
			t.Errorf("%q: wire form %q is read as %v, %v", s, wire, back, err)
		}
	})
}

// BenchmarkParseAddress is MAIL and RCPT of every message.
func BenchmarkParseAddress(b *testing.B) {
	for _, s := range []string{"anna.rossi@firma.example", "a@bücher.example"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := mail.ParseAddress(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
