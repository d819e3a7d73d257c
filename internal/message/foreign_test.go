package message

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	netmail "net/mail"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	gomessage "github.com/emersion/go-message"
	gomail "github.com/emersion/go-message/mail"
	"pgregory.net/rapid"

	"mittente/internal/mail"
)

// judged is content as this room takes it: what it will leave as, and the
// mailboxes that were judged. ok is false for content that is refused.
func judged(content string) (sent []byte, own []mail.Address, ok bool) {
	h, rest, err := ReadHeader(strings.NewReader(content), 0)
	if err != nil {
		return nil, nil, false
	}
	reverse := mail.ReversePath{Address: mustAddress("reverse@path.example")}
	from, sender, err := h.Senders()
	switch {
	case err == nil:
	case strings.Contains(err.Error(), ErrNoFrom.Error()):
		from = []mail.Address{reverse.Address}
	default:
		return nil, nil, false
	}
	body, err := io.ReadAll(rest)
	if err != nil {
		return nil, nil, false
	}
	sent = h.Complete(Completion{From: reverse, Hostname: "relay.example", MessageID: "<id@relay.example>"})
	return append(append(sent, "\r\n"...), body...), append(from, sender...), true
}

func mustAddress(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// foreigners holds what leaves against two other readers of mail: no mailbox that
// one of them finds in From or Sender may be one that was not judged.
func foreigners(t failer, content string) {
	t.Helper()
	sent, own, ok := judged(content)
	if !ok {
		return
	}
	for reader, seen := range map[string][]string{"net/mail": seenByLibrary(sent), "go-message": seenByGoMessage(sent)} {
		for _, address := range seen {
			if !known(own, address) {
				t.Fatalf("%s sees %q, judged were %v in\n%s", reader, address, texts(own), sent)
			}
		}
	}
}

// known reports whether an address that another reader found was judged. One
// that is no address to us was not.
func known(own []mail.Address, address string) bool {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return false
	}
	domain, err := mail.ParseDomain(address[at+1:])
	return err == nil && slices.ContainsFunc(own, func(a mail.Address) bool {
		return a.Domain() == domain && a.Local() == address[:at]
	})
}

func seenByLibrary(sent []byte) (seen []string) {
	m, err := netmail.ReadMessage(bytes.NewReader(sent))
	if err != nil {
		return nil
	}
	for _, field := range []string{"From", "Sender"} {
		for _, body := range m.Header[field] {
			list, err := netmail.ParseAddressList(body)
			if err != nil {
				continue
			}
			for _, a := range list {
				seen = append(seen, a.Address)
			}
		}
	}
	return seen
}

func seenByGoMessage(sent []byte) (seen []string) {
	e, err := gomessage.Read(bytes.NewReader(sent))
	if err != nil && !gomessage.IsUnknownCharset(err) && !gomessage.IsUnknownEncoding(err) {
		return nil
	}
	for _, field := range []string{"From", "Sender"} {
		for fields := e.Header.FieldsByKey(field); fields.Next(); {
			var one gomail.Header
			one.Set(field, fields.Value())
			list, err := one.AddressList(field)
			if err != nil {
				continue
			}
			for _, a := range list {
				seen = append(seen, a.Address)
			}
		}
	}
	return seen
}

func contentSeeds() []string {
	seeds := []string{
		"", "\r\n", "From: a@b.example\r\n\r\nx\r\n", "Subject: x\r\n\r\nFrom: a@b.example\r\n",
		"From: a@b.example\r\nfrom : c@d.example\r\n\r\n", "From\t: a@b.example\r\n\r\n", " From: a@b.example\r\n\r\n",
		"X: y\r\n\tFrom: a@b.example\r\n\r\n", "From: a@b.example\r\nSender: c@d.example\r\n\r\n", "FROM:a@b.example\r\n\r\n",
		"From:\r\n a@b.example\r\n\r\n", "Resent-From: a@b.example\r\n\r\n", "X-A: \x00\r\nFrom: a@b.example\r\n\r\n",
		"From: a@b.example\r\n.\r\nFrom: c@d.example\r\n\r\n", "From a@b.example Mon Nov 24\r\nFrom: c@d.example\r\n\r\n",
		"\xef\xbb\xbfFrom: a@b.example\r\n\r\n", "Fr\u043em: a@b.example\r\n\r\n",
	}
	for _, list := range listSeeds() {
		seeds = append(seeds, "From: "+list+"\r\nSubject: x\r\n\r\nbody\r\n")
	}
	return seeds
}

// nearlyRight makes content that is accepted, but for what is put into it here and there.
func nearlyRight() *rapid.Generator[string] {
	mailbox := rapid.SampledFrom([]string{
		"a@b.example", "A. B <a@b.example>", `"c@d.example" <a@b.example>`, "(c) a@b.example", "a@b.example (C, D)", "<a@b.example>",
		"=?utf-8?q?c=40d.example?= <a@b.example>", "=?utf-8?b?w6g=?=\r\n =?utf-8?q?x?= <a@b.example>", `"\"x\"" <a@b.example>`, `"a b"@b.example`,
	})
	piece := rapid.SampledFrom([]string{
		"From: ", "from:", "Sender: ", "FROM :", "\r\nX-A: y\r\n", "\r\n", "\r\n\r\n", "\r\n ", "\r\n\t", "c@d.example", "<c@d.example>", "\r\nFrom: c@d.example",
		`"c@d.example" `, "(c) ", "(c@d.example)", "=?utf-8?q?c=40d.example?= ", "=?utf-8?b?PGNAZC5leGFtcGxlPg==?= ", ", ", "; ", ": ", ":;", "<", ">", `"`,
		"(", ")", `\`, "@", " ", "è", "\x00", "\r", "\n", "\xff", "\u00a0", "\u2028", ".", ",",
	})
	return rapid.Custom(func(t *rapid.T) string {
		text := strings.Join(rapid.SliceOfN(mailbox, 1, 3).Draw(t, "mailboxes"), ", ")
		if rapid.Bool().Draw(t, "has a Sender") {
			text += "\r\nSender: " + mailbox.Draw(t, "sender")
		}
		for range rapid.IntRange(0, 3).Draw(t, "insertions") {
			at := rapid.IntRange(0, len(text)).Draw(t, "at")
			text = text[:at] + piece.Draw(t, "piece") + text[at:]
		}
		return "From: " + text + "\r\n\r\nbody\r\n"
	})
}

// TestNoForeignMailboxPasses: what others see in what leaves was judged (S20).
func TestNoForeignMailboxPasses(t *testing.T) {
	for _, content := range contentSeeds() {
		foreigners(t, content)
	}
	rapid.Check(t, func(t *rapid.T) {
		foreigners(t, nearlyRight().Draw(t, "content"))
	})
}

// FuzzForeignMailbox is the same for whatever the fuzzer thinks of.
func FuzzForeignMailbox(f *testing.F) {
	for _, content := range contentSeeds() {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) { foreigners(t, content) })
}

// pythonReader reads a JSON list of contents in base64, and writes for each the
// addresses that Python's email package finds in From and Sender: by its old
// parser, which is lax, and by its new one.
const pythonReader = `
import base64, email, email.policy, email.utils, json, sys
out = []
for one in json.load(sys.stdin):
    raw, seen = base64.b64decode(one), []
    old = email.message_from_bytes(raw)
    for field in ("from", "sender"):
        try:
            seen += [a for _, a in email.utils.getaddresses([str(v) for v in old.get_all(field, [])]) if a]
        except Exception:
            pass
    new = email.message_from_bytes(raw, policy=email.policy.default)
    for field in ("from", "sender"):
        try:
            for v in new.get_all(field, []):
                seen += [a.addr_spec for a in v.addresses if a.addr_spec]
        except Exception:
            pass
    out.append(seen)
json.dump(out, sys.stdout)
`

// TestNoForeignMailboxPasses_Python: the same against Python's two parsers.
func TestNoForeignMailboxPasses_Python(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("MITTENTE_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Logf("not compared with Python: %v", err)
		return
	}
	all := contentSeeds()
	for i := range 4000 {
		all = append(all, nearlyRight().Example(i))
	}
	var sent []string
	var own [][]mail.Address
	for _, content := range all {
		if b, addresses, ok := judged(content); ok {
			sent, own = append(sent, base64.StdEncoding.EncodeToString(b)), append(own, addresses)
		}
	}
	input, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	read := exec.CommandContext(t.Context(), python, "-c", pythonReader)
	read.Stdin = bytes.NewReader(input)
	output, err := read.Output()
	if err != nil {
		t.Fatal(err)
	}
	var seen [][]string
	if err := json.Unmarshal(output, &seen); err != nil || len(seen) != len(sent) {
		t.Fatalf("%d of %d answers, %v", len(seen), len(sent), err)
	}
	t.Logf("%d of %d contents were accepted", len(sent), len(all))
	for i, addresses := range seen {
		for _, a := range addresses {
			// Where it loses its way it gives pieces; those that are no address are
			// none to a program either. Bytes outside ASCII it reads as unknown.
			_, err := mail.ParseAddress(a)
			if err == nil && !strings.ContainsRune(a, utf8.RuneError) && !known(own[i], unquote(a)) {
				content, _ := base64.StdEncoding.DecodeString(sent[i])
				t.Errorf("Python sees %q, judged were %v in\n%s", a, texts(own[i]), content)
			}
		}
	}
}

// unquote takes the quotes off a local-part.
func unquote(address string) string {
	if a, err := mail.ParseAddress(address); err == nil {
		return a.Local() + address[strings.LastIndexByte(address, '@'):]
	}
	return address
}
