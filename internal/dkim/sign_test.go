package dkim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	verifier "github.com/emersion/go-msgauth/dkim"
	"pgregory.net/rapid"

	"mittente/internal/mail"
)

const testDomain = mail.Domain("firma.example")

// testKeys are made once: an RSA key takes a while.
var testKeys = sync.OnceValue(func() []Key {
	rsa, err := NewRSA(testDomain, "m202611r")
	if err != nil {
		panic(err)
	}
	ed, err := NewEd25519(testDomain, "m202611e")
	if err != nil {
		panic(err)
	}
	return []Key{ed, rsa}
})

func signingTime() time.Time { return time.Unix(1_763_000_000, 5) }

// signed returns the whole content with its signatures.
func signed(tb testing.TB, header, body string, keys []Key) string {
	tb.Helper()
	signature, err := Sign([]byte(header), hashOf(body), keys, signingTime())
	if err != nil {
		tb.Fatalf("Sign: %v", err)
	}
	return string(signature) + header + "\r\n" + body
}

// verify returns what an independent verifier says of each signature.
func verify(tb testing.TB, content string, keys []Key) []error {
	tb.Helper()
	records := map[string]string{}
	for _, k := range keys {
		name, value := k.Record()
		records[name] = value
	}
	found, err := verifier.VerifyWithOptions(strings.NewReader(content), &verifier.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) {
			if value, ok := records[name]; ok {
				return []string{value}, nil
			}
			return nil, fmt.Errorf("no record %s", name)
		},
	})
	if err != nil {
		tb.Fatalf("verify: %v\n%s", err, content)
	}
	var errs []error
	for _, v := range found {
		if v.Err == nil && v.Domain != string(testDomain) {
			v.Err = fmt.Errorf("domain %s", v.Domain)
		}
		errs = append(errs, v.Err)
	}
	return errs
}

// wantVerified expects our signatures, which come first, to be right.
func wantVerified(tb testing.TB, content string, keys []Key) {
	tb.Helper()
	errs := verify(tb, content, keys)
	if len(errs) < len(keys) || errors.Join(errs[:len(keys)]...) != nil {
		tb.Fatalf("%d signatures, want %d: %v\n%s", len(errs), len(keys), errs, content)
	}
}

func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n" }

func typicalHeader() string {
	return lines("Received: from php.firma.example by relay.example with ESMTPSA id msg_x;", "\tMon, 2 Nov 2026 10:00:00 +0100",
		"Date: Mon, 2 Nov 2026 10:00:00 +0100", `From: "Rossi, Anna" <anna@firma.example>`, "To: Cliente <c@altra.example>",
		"Reply-To: visitatore@altra.example", "Subject: =?utf-8?q?Il_suo_ordine_=C3=A8_in_viaggio?=", "Message-ID: <4711@firma.example>",
		"MIME-Version: 1.0", `Content-Type: multipart/alternative;`, ` boundary="b1_abc"`, "X-Mailer: PHPMailer 6.9",
		"List-Unsubscribe: <https://firma.example/u/1>,", " <mailto:u@firma.example>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click")
}

func oddHeaders() map[string]string {
	return map[string]string{
		"typical":             typicalHeader(),
		"From alone":          lines("From: a@firma.example"),
		"odd case":            lines("fROM: a@firma.example", "SUBJECT: x", "mEssage-iD: <1@x>"),
		"white space":         lines("From:a@firma.example", "Subject:   many   blanks \t and\ttabs   ", "To:\tx@y.example"),
		"folded at once":      lines("From:", " a@firma.example", "Subject:", "\t x", "\t y", " "),
		"blank continuation":  lines("From: a@firma.example", "Subject: x", " \t", " y"),
		"empty values":        lines("From: a@firma.example", "Subject:", "To: ", "Cc:\t"),
		"eight bits":          lines("From: Società <a@firma.example>", "Subject: perch\xe9 \xff"),
		"several of one name": lines("From: a@firma.example", "To: 1@x.example", "Subject: 1", "To: 2@x.example", "Subject: 2", "To: 3@x.example"),
		"resent twice":        lines("Resent-From: b@x", "Resent-Date: 2", "Resent-From: a@x", "Resent-Date: 1", "From: a@firma.example"),
		"already signed":      lines("DKIM-Signature: v=1; a=rsa-sha256; d=x.example; s=s; h=from; bh=; b=", "From: a@firma.example"),
		"long line":           lines("From: a@firma.example", "Subject: "+strings.Repeat("x", 5000)),
		"many recipients":     lines("From: a@firma.example", "To: "+strings.Repeat("x@y.example,\r\n ", 500)+"z@y.example"),
		"colons":              lines("From: a@firma.example", "Subject: Re: a:b::c", "X-Colon::x"),
		"no space at fold":    lines("From: a@firma.example", "References: <1@x>", "\t<2@x>", " <3@x>"),
	}
}

// TestSign_OddHeaders: an independent verifier agrees on every odd header.
func TestSign_OddHeaders(t *testing.T) {
	for name, header := range oddHeaders() {
		t.Run(name, func(t *testing.T) {
			wantVerified(t, signed(t, header, "Ciao\r\n", testKeys()), testKeys())
		})
	}
}

// TestSign_OddBodies: an independent verifier agrees on every odd body.
func TestSign_OddBodies(t *testing.T) {
	for name, body := range oddBodies() {
		if strings.ContainsAny(strings.ReplaceAll(body, "\r\n", ""), "\r\n") {
			continue // the door lets no lone CR or LF pass
		}
		t.Run(name, func(t *testing.T) {
			wantVerified(t, signed(t, typicalHeader(), body, testKeys()), testKeys())
		})
	}
}

// TestSign_AnyMessage: whatever header and body, the independent verifier agrees.
func TestSign_AnyMessage(t *testing.T) {
	names := rapid.SampledFrom([]string{"To", "Subject", "X-Other", "Cc", "List-Id", "REFERENCES", "Content-type"})
	pieces := rapid.SampledFrom([]string{"a", " ", "  ", "\t", "\r\n ", "\r\n\t", "parola", "è", "\xff", ":", ";", "="})
	rapid.Check(t, func(rt *rapid.T) {
		fields := []string{"From: a@firma.example\r\n"}
		for range rapid.IntRange(0, 8).Draw(rt, "n") {
			value := strings.Join(rapid.SliceOfN(pieces, 0, 12).Draw(rt, "value"), "")
			fields = append(fields, names.Draw(rt, "name")+":"+value+"\r\n")
		}
		fields = rapid.Permutation(fields).Draw(rt, "order")
		body := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", " ", "\t", "\r\n", "\r\n", "riga", "\xe8"}), 0, 40).Draw(rt, "body"), "") + "\r\n"
		keys := testKeys()[:1]
		wantVerified(t, signed(t, strings.Join(fields, ""), body, keys), keys)
	})
}

// TestSign_WhatIsProtected: a signature breaks where it must, and only there.
func TestSign_WhatIsProtected(t *testing.T) {
	content := signed(t, typicalHeader(), "Ciao\r\n", testKeys())
	for name, c := range map[string]struct {
		content string
		ok      bool
	}{
		"unchanged":           {content, true},
		"a From on top":       {"From: boss@bank.example\r\n" + content, false},
		"a From at the end":   {strings.Replace(content, "\r\n\r\n", "\r\nFrom: boss@bank.example\r\n\r\n", 1), false},
		"another subject":     {strings.Replace(content, "ordine", "debito", 1), false},
		"no Reply-To":         {strings.Replace(content, "Reply-To: visitatore@altra.example\r\n", "", 1), false},
		"another body":        {content + "P.S.\r\n", false},
		"a hop more":          {"Received: from a by b; Mon, 2 Nov 2026 10:00:01 +0100\r\n" + content, true},
		"a list's fields":     {"List-Id: <l.example>\r\nPrecedence: list\r\n" + content, true},
		"white space":         {strings.Replace(content, "Ciao\r\n", "Ciao \r\n\r\n", 1), true},
		"refolded":            {strings.Replace(content, ", Anna\" <", ", Anna\"\r\n   <", 1), true},
		"name in other case":  {strings.Replace(content, "\r\nSubject:", "\r\nSUBJECT:", 1), true},
		"importance changed":  {"X-Priority: 1\r\n" + content, true},
		"an unsigned changed": {strings.Replace(content, "PHPMailer", "Other", 1), true},
	} {
		for i, err := range verify(t, c.content, testKeys()) {
			if (err == nil) != c.ok {
				t.Errorf("%s: signature %d: %v", name, i+1, err)
			}
		}
	}
}

// tags cuts a signature field into its tags.
func tags(field string) map[string]string {
	_, value, _ := strings.Cut(field, ":")
	found := map[string]string{}
	for tag := range strings.SplitSeq(value, ";") {
		name, value, _ := strings.Cut(tag, "=")
		found[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
	}
	return found
}

// TestSign_Text: the tags of RFC 6376 §3.5, on short lines.
func TestSign_Text(t *testing.T) {
	out, err := Sign([]byte(typicalHeader()), hashOf("Ciao\r\n"), testKeys(), signingTime())
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Split(strings.ReplaceAll(string(out), "\r\n ", " "), "\r\n")
	if len(fields) != 3 || fields[2] != "" {
		t.Fatalf("not two fields:\n%s", out)
	}
	const h = "from:from:reply-to:to:subject:date:message-id:mime-version:content-type:list-unsubscribe:list-unsubscribe-post"
	for i, alg := range []string{"ed25519-sha256", "rsa-sha256"} {
		got := tags(fields[i])
		sum := hashOf("Ciao\r\n")
		for tag, want := range map[string]string{
			"v": "1", "a": alg, "c": "relaxed/relaxed", "d": "firma.example", "s": testKeys()[i].Selector,
			"t": "1763000000", "h": h, "bh": base64.StdEncoding.EncodeToString(sum[:]),
		} {
			if got[tag] != want {
				t.Errorf("%s: %s=%s, want %s", alg, tag, got[tag], want)
			}
		}
		if len(got) != 9 {
			t.Errorf("%s: tags %v", alg, got)
		}
	}
	for line := range strings.SplitSeq(string(out), "\r\n") {
		if len(line) > lineLength || strings.TrimRight(line, " ") != line {
			t.Errorf("line of %d octets: %q", len(line), line)
		}
	}
}

// TestSign_LongNames: a long domain takes a line of its own; nothing is cut.
func TestSign_LongNames(t *testing.T) {
	domain := mail.Domain(strings.Repeat(strings.Repeat("a", 49)+".", 3) + "example")
	k, err := NewEd25519(domain, strings.Repeat("s", 40))
	if err != nil {
		t.Fatal(err)
	}
	out, err := Sign([]byte(lines("From: a@firma.example")), hashOf(), []Key{k}, signingTime())
	if err != nil || !bytes.Contains(out, []byte(" d="+string(domain)+";")) {
		t.Errorf("%v\n%s", err, out)
	}
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("To: %d@x.example", i))
	}
	wantVerified(t, signed(t, lines(append(many, "From: a@firma.example")...), "", testKeys()), testKeys())
}

// TestSign_Errors: what cannot be signed is not signed in part.
func TestSign_Errors(t *testing.T) {
	header := []byte(lines("From: a@firma.example"))
	good := testKeys()[0]
	for name, c := range map[string]struct {
		header string
		keys   []Key
		want   error
	}{
		"no header":           {"", []Key{good}, ErrHeader},
		"no From":             {lines("To: a@firma.example"), []Key{good}, ErrHeader},
		"two From":            {lines("From: a@firma.example", "from: b@firma.example"), []Key{good}, ErrHeader},
		"no line end":         {"From: a@firma.example", []Key{good}, ErrHeader},
		"half a line end":     {"From: a@firma.example\n", []Key{good}, ErrHeader},
		"the empty line":      {lines("From: a@firma.example", ""), []Key{good}, ErrHeader},
		"continuation first":  {lines(" x", "From: a@firma.example"), []Key{good}, ErrHeader},
		"no colon":            {lines("From: a@firma.example", "x"), []Key{good}, ErrHeader},
		"space in a name":     {lines("From: a@firma.example", "x y: z"), []Key{good}, ErrHeader},
		"no signer":           {string(header), []Key{{Domain: testDomain, Selector: "s"}}, ErrKey},
		"bad selector":        {string(header), []Key{{Domain: testDomain, Selector: "s; x=1", Signer: good.Signer}}, ErrKey},
		"no selector":         {string(header), []Key{{Domain: testDomain, Signer: good.Signer}}, ErrKey},
		"no domain":           {string(header), []Key{{Selector: "s", Signer: good.Signer}}, ErrKey},
		"second key is wrong": {string(header), []Key{good, {}}, ErrKey},
	} {
		if out, err := Sign([]byte(c.header), [32]byte{}, c.keys, signingTime()); !errors.Is(err, c.want) || out != nil {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	if out, err := Sign(header, [32]byte{}, nil, signingTime()); err != nil || len(out) != 0 {
		t.Errorf("no keys: %q, %v", out, err)
	}
}

// TestSign_LeavesHeaderAlone: the header handed in is read only.
func TestSign_LeavesHeaderAlone(t *testing.T) {
	header := []byte(typicalHeader())
	before := slices.Clone(header)
	if _, err := Sign(slices.Clip(header), hashOf(), testKeys(), signingTime()); err != nil || !bytes.Equal(header, before) {
		t.Errorf("changed: %v", err)
	}
}

// FuzzSign: Sign takes any header; it signs what the verifier then accepts, or refuses it.
func FuzzSign(f *testing.F) {
	for _, header := range oddHeaders() {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		keys := testKeys()[:1]
		out, err := Sign(header, sha256.Sum256(nil), keys, signingTime())
		if err != nil || bytes.IndexByte(header, 0) >= 0 || hasLoneEnds(header) {
			return
		}
		content := string(out) + string(header) + "\r\n"
		found, err := verifier.VerifyWithOptions(strings.NewReader(content), &verifier.VerifyOptions{
			LookupTXT: func(string) ([]string, error) {
				_, value := keys[0].Record()
				return []string{value}, nil
			},
		})
		if err != nil || len(found) == 0 || found[0].Err != nil {
			t.Errorf("%v %+v\n%q", err, found, content)
		}
	})
}

func hasLoneEnds(header []byte) bool {
	return bytes.ContainsAny(bytes.ReplaceAll(header, []byte("\r\n"), nil), "\r\n")
}

// BenchmarkSign signs the typical header.
func BenchmarkSign(b *testing.B) {
	header, sum := []byte(typicalHeader()), hashOf("Ciao\r\n")
	for name, keys := range map[string][]Key{"ed25519": testKeys()[:1], "rsa": testKeys()[1:], "both": testKeys()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Sign(header, sum, keys, signingTime()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
