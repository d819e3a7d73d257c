package message

import (
	"errors"
	"io"
	"mime"
	netmail "net/mail"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mittente/internal/mail"
)

// failer is a test or a property.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sameAsLibrary holds what we accept against the list parser of the standard
// library: where it accepts too, the mailboxes must be the same. Nor may a program
// that decodes first and takes what stands in angle brackets find another one.
func sameAsLibrary(t failer, text string) {
	t.Helper()
	own, err := parseMailboxes([]byte(text+"\r\n"), maxMailboxes)
	if err != nil {
		return
	}
	if len(own) == 0 {
		t.Fatalf("%q: no mailbox and no error", text)
	}
	if decoded, err := decodeName(text); err == nil {
		for _, lax := range regexp.MustCompile(`<([^<>]*@[^<>]*)>`).FindAllStringSubmatch(decoded, -1) {
			if a, err := mail.ParseAddress(strings.TrimSpace(lax[1])); err == nil && !contains(own, a) {
				t.Fatalf("%q: we see %v, a lax program %s", text, texts(own), a)
			}
		}
	}
	p := netmail.AddressParser{WordDecoder: &mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}}
	theirs, err := p.ParseList(strings.NewReplacer("\r\n", "").Replace(text))
	if err != nil {
		return
	}
	if len(theirs) != len(own) {
		t.Fatalf("%q: we see %v, the library %d: %v", text, texts(own), len(theirs), theirs)
	}
	for i, theirs := range theirs {
		at := strings.LastIndexByte(theirs.Address, '@')
		domain, err := mail.ParseDomain(theirs.Address[at+1:])
		if err != nil || own[i].Local() != theirs.Address[:at] || own[i].Domain() != domain {
			t.Fatalf("%q: we see %s, the library %s", text, own[i], theirs.Address)
		}
	}
}

func listSeeds() []string {
	return []string{
		"a@b.example", "A <a@b.example>", `"A, B" <a@b.example>, c@d.example (C)`, "a@b.example, <c@d.example>", "g: a@b.example;", "g:;",
		"<@a.example:b@c.example>", `"a b"@c.example`, "a@[192.0.2.1]", "=?utf-8?q?a=40b?= <c@d.example>", "(a) b@c.example", "a (b) <c@d.example>",
		"a@b.example c@d.example", "A. B. <a@b.example>", "\r\n a@b.example", "a@bücher.example", "ñ@b.example", `"\"" <a@b.example>`,
		`"=?utf-8?b?PGJvc3NAYmFuay5leGFtcGxlPg==?=" <a@b.example>`, "a@b.example,", ",", "<>", "a.@b.example", "\u3000a@b.example",
	}
}

// TestMailboxes_AsTheLibrary: every text of these tests, and whatever is made of their pieces.
func TestMailboxes_AsTheLibrary(t *testing.T) {
	for _, text := range listSeeds() {
		sameAsLibrary(t, text)
	}
	piece := rapid.SampledFrom([]string{
		"a", "b.example", "@", "a@b.example", "<", ">", "<a@b.example>", `"`, `"A"`, `\`, "(", ")", "(c)", " ", "\t", "\r\n ", ",", ", ", ";", ":",
		".", "..", "[", "]", "=?utf-8?q?=3C?=", "=?utf-8?q?a?=", "è", "\xff", "'", "xn--bcher-kva.example", "_",
	})
	rapid.Check(t, func(t *rapid.T) {
		sameAsLibrary(t, strings.Join(rapid.SliceOfN(piece, 1, 10).Draw(t, "pieces"), ""))
	})
}

// FuzzMailboxes: whenever we accept, the library sees the same or refuses.
func FuzzMailboxes(f *testing.F) {
	for _, text := range listSeeds() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { sameAsLibrary(t, text) })
}

// TestMailboxes_RoundTrip: any address of ours that may stand in From is read back as itself.
func TestMailboxes_RoundTrip(t *testing.T) {
	letters := rapid.SampledFrom([]string{"a", "Z", "9", "+", "'", "-", "_", "è", " ", ".", "!", "{"})
	rapid.Check(t, func(t *rapid.T) {
		local := strings.Join(rapid.SliceOfN(letters, 1, 12).Draw(t, "local"), "")
		a, err := mail.ParseAddress(`"` + local + `"@b.example`)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{a.String(), "<" + a.String() + ">", `"x, y" <` + a.String() + ">", "(x) " + a.String() + " (y)"} {
			got, err := parseMailboxes([]byte(form+"\r\n"), 1)
			if err != nil || got[0] != a {
				t.Fatalf("%s: %v, %v", form, got, err)
			}
		}
	})
}

// TestMailboxes_Linear: the worst text of the largest size is read in a moment.
func TestMailboxes_Linear(t *testing.T) {
	for name, piece := range map[string]string{
		"comments": "(a)", "quotes": `"a" `, "encoded words": "=?utf-8?q?a?= ", "open encoded words": "=?", "angles": "<", "own addresses": `<a@b.example>`,
		"backslashes": `\\`, "dots": ".", "folds": "a\r\n ", "half words": "=?utf-8?q?", "commas": "a@b.example,",
	} {
		text := strings.Repeat(piece, maxSenders/len(piece)-10)
		for _, form := range []string{text + " <a@b.example>", `"` + text + `" <a@b.example>`, text} {
			start := time.Now()
			_, err := parseMailboxes([]byte(form), maxMailboxes)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("%s: %v", name, took)
			}
			if err != nil && (len(err.Error()) > 2000 || errors.Is(err, io.EOF)) {
				t.Errorf("%s: error of %d octets", name, len(err.Error()))
			}
		}
	}
}
