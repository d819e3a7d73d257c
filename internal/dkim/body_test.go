package dkim

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// relaxedBody is RFC 6376 §3.4.4 word by word, on the whole body.
func relaxedBody(body string) string {
	if body == "" {
		return ""
	}
	lines := strings.Split(strings.TrimSuffix(body, "\r\n"), "\r\n")
	for i, line := range lines {
		line = strings.TrimRight(line, " \t")
		lines[i] = regexp.MustCompile("[ \t]+").ReplaceAllString(line, " ")
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

func hashOf(pieces ...string) [32]byte {
	b := NewBodyHasher()
	for _, p := range pieces {
		_, _ = io.WriteString(b, p)
	}
	return b.Sum()
}

func oddBodies() map[string]string {
	return map[string]string{
		"empty":                     "",
		"one empty line":            "\r\n",
		"empty lines":               strings.Repeat("\r\n", 5000),
		"empty lines with spaces":   " \r\n\t\r\n \t \r\n",
		"one line":                  "Hello\r\n",
		"no line end":               "Hello",
		"no line end, but space":    "Hello \t",
		"CR at the end":             "Hello\r",
		"empty lines at the end":    "Hello\r\n\r\n \r\n\t\r\n",
		"empty lines at the start":  "\r\n\r\nHello\r\n",
		"empty lines between":       "a\r\n\r\n\r\n" + strings.Repeat("\r\n", 3000) + "b\r\n",
		"runs of white space":       " a  b\t\tc \t d\t \r\n\t e  \r\n",
		"tab alone":                 "a\tb\r\n",
		"RFC 6376 §3.4.5":           " C \r\nD \t E\r\n\r\n\r\n",
		"eight bits":                "Perch\u00e9 s\u00ec\r\n\xff\xfe \x80 \xa0  \x8d\x8a\r\n",
		"controls":                  "a\x01\x02 \x1f  \x0b\x0c\r\n\x7f\r\n",
		"lone CR and LF":            "a\rb\nc \r d\n \r\r\n\n\r\n",
		"two CR and LF":             "a\r\r\n\r\r\n",
		"base64":                    strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 200),
		"long line":                 strings.Repeat("x ", 40_000) + "\r\n",
		"indented":                  strings.Repeat("\r\n        <td>  x </td>\t", 300),
		"quoted-printable soft end": strings.Repeat("caf=C3=A8 =\r\n", 100),
		"space at eighth octet":     "1234567 \r\n1234567  x\r\n123456 \t1234567 1\r\n",
		"format flowed":             strings.Repeat("a line that goes on \r\n", 100) + "-- \r\nx\r\n",
		"dots":                      ".\r\n..\r\n. \r\n",
	}
}

// TestBodyHasher_AsTheRFC: every odd body hashes as its relaxed form does, in one piece and octet by octet.
func TestBodyHasher_AsTheRFC(t *testing.T) {
	for name, body := range oddBodies() {
		want := sha256.Sum256([]byte(relaxedBody(body)))
		if got := hashOf(body); got != want {
			t.Errorf("%s: in one piece: not the hash of the relaxed form", name)
		}
		if got := hashOf(strings.Split(body, "")...); got != want {
			t.Errorf("%s: octet by octet: not the hash of the relaxed form", name)
		}
	}
}

// TestBodyHasher_Empty: a constant that RFC 6376 §3.4.4 prints.
func TestBodyHasher_Empty(t *testing.T) {
	sum := hashOf()
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Errorf("got %s", got)
	}
}

// TestBodyHasher_SumTwice: the sum stays.
func TestBodyHasher_SumTwice(t *testing.T) {
	b := NewBodyHasher()
	_, _ = io.WriteString(b, "Hello \r")
	if first, second := b.Sum(), b.Sum(); first != second || first != hashOf("Hello \r") {
		t.Error("the second sum differs")
	}
}

// TestBodyHasher_AnyPieces: however a body is cut, its hash is that of its relaxed form.
func TestBodyHasher_AnyPieces(t *testing.T) {
	token := rapid.SampledFrom([]string{
		" ", "  ", "\t", "\r\n", "\r\n\r\n", "\r", "\n", "a", "word", "sixteen letters!", "\xe8", "\x00", strings.Repeat("z", 1025),
	})
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Join(rapid.SliceOfN(token, 0, 60).Draw(t, "tokens"), "")
		cuts := rapid.SliceOfN(rapid.IntRange(0, 40), 1, 8).Draw(t, "cuts")
		b := NewBodyHasher()
		rest := body
		for i := 0; rest != ""; i++ {
			n := min(cuts[i%len(cuts)], len(rest))
			if i > 2*len(body)+10 {
				n = len(rest)
			}
			if wrote, err := io.WriteString(b, rest[:n]); wrote != n || err != nil {
				t.Fatalf("Write(%d) = %d, %v", n, wrote, err)
			}
			rest = rest[n:]
		}
		if b.Sum() != sha256.Sum256([]byte(relaxedBody(body))) {
			t.Fatalf("%q: not the hash of %q", body, relaxedBody(body))
		}
	})
}

// FuzzBodyHasher: any body, cut anywhere.
func FuzzBodyHasher(f *testing.F) {
	for _, body := range oddBodies() {
		if len(body) < 4096 {
			f.Add([]byte(body), uint16(3))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, cut uint16) {
		n := min(int(cut), len(body))
		if hashOf(string(body[:n]), string(body[n:])) != sha256.Sum256([]byte(relaxedBody(string(body)))) {
			t.Errorf("%q cut at %d: not the hash of %q", body, n, relaxedBody(string(body)))
		}
	})
}

// TestBodyHasher_DoesNotAllocate: bodies are large and pass in many pieces.
func TestBodyHasher_DoesNotAllocate(t *testing.T) {
	b := NewBodyHasher()
	body := []byte(typicalBody(10_000))
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Write(body) }); n != 0 {
		t.Errorf("%v allocations per Write", n)
	}
}

// typicalBody is text as people write it, in lines of some 72 octets.
func typicalBody(size int) string {
	const line = "Gentile cliente, il suo ordine numero 4711 del 3 maggio e' in viaggio;\r\n" +
		"lo ricevera' entro due giorni lavorativi. Per ogni domanda ci scriva.\r\n\r\n" +
		"    Articolo                 Quantita'    Prezzo\r\n"
	return strings.Repeat(line, size/len(line)+1)[:size]
}

// BenchmarkBodyHasher compares with SHA-256 of the body as it is.
func BenchmarkBodyHasher(b *testing.B) {
	html := strings.Repeat("      <tr>\r\n        <td style=\"padding: 4px\">Articolo numero 12</td>\r\n      </tr>\r\n", 1000)[:64<<10]
	coded := strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 1000)[:64<<10]
	prose := strings.Repeat("Gentile cliente, il suo ordine del 3 maggio e' in viaggio; lo riceve\r\nentro due giorni lavorativi.\r\n", 1000)[:64<<10]
	for name, body := range map[string]string{"prose": prose, "table": typicalBody(64 << 10), "html": html, "base64": coded} {
		data := []byte(body)
		b.Run(name+"/relaxed", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				h := NewBodyHasher()
				_, _ = h.Write(data)
				h.Sum()
			}
		})
		b.Run(name+"/sha256", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				sha256.Sum256(data)
			}
		})
	}
}
