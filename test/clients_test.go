package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"strings"
	"testing"
	"time"
)

const large = 25 << 20 // octets of content

// awkward makes a body that a careless hop would change: octets over 127 that are
// no UTF-8, lines of dots, spaces at the end of lines, empty lines at its end.
func awkward(size int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	odd := []string{".", "..", "...a", "", " ", "\t", "From me", "x  \t ", "--", "caf\xe9 \xc3\xa8 \xff\x80", ".\tdot"}
	const letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ 0123456789 =.,;:-+*/<>()\"'\xe0\xc3\xa9"
	b := make([]byte, 0, size+1024)
	for len(b) < size {
		if random.IntN(8) == 0 {
			b = append(b, odd[random.IntN(len(odd))]...)
		} else {
			for range random.IntN(900) {
				b = append(b, letters[random.IntN(len(letters))])
			}
		}
		b = append(b, "\r\n"...)
	}
	return append(b, "end\r\n\r\n\r\n"...)
}

// header is a complete header section; none of its fields may be touched.
func header(to, subject string) []byte {
	return fmt.Appendf(nil, "From: \"Alice \\\"A\\\"\" <%s>\r\nTO:   %s\r\nSubject: =?utf-8?q?caf=C3=A9?= %s\r\n"+
		"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@client.test>\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\nX-Folded: a\r\n\tb\r\n  c\r\n",
		fromAddr, to, subject, subject)
}

// international is a local part that can be reached by SMTPUTF8 only.
const international = "j\u00f6rg"

// modes are the two ways in: in clear and by STARTTLS.
func modes() []string { return []string{"plain", "starttls"} }

// correspondence is what the clients of one test share.
type correspondence struct {
	relay      *relay
	user       user
	receiver   *postfix
	published  map[string]string // DKIM records
	small, big []byte            // bodies
}

// address is where a client sends to. Postfix as a client chooses its transport by
// the domain.
func (m mailer) address(what, mode string) string {
	return what + "-" + m.name + "@" + mode + "." + rcptDomain
}

// What each client sends, in clear and by STARTTLS, arrives at the Postfix that the
// DNS names as MX: every field of the header and every octet of the body as it was,
// and two DKIM signatures that verify. Whom a client puts in Bcc gets the mail, and no
// other recipient reads the name. Who knows SMTPUTF8 reaches an international
// address; who does not is told so. What is refused, the client's user reads why.
func TestS8_EveryClientsMailArrivesIntactAndSigned(t *testing.T) {
	t.Parallel()
	need(t, "linux", "root", "postfix", "python3-dkim", "python3-nacl", "opendkim")
	var addresses []string
	for _, m := range mailers(nil) {
		for _, mode := range modes() {
			for _, what := range []string{"small", "large", "to", "cc", "bcc", international} {
				addresses = append(addresses, m.address(what, mode))
			}
		}
	}
	receiver := startReceiver(t, addresses...)
	d := startDNS(t, "mx."+rcptDomain+". 300 IN A 127.0.0.1")
	for _, mode := range modes() {
		d.add(mode + "." + rcptDomain + ". 300 IN MX 10 mx." + rcptDomain + ".")
	}
	r := startRelay(t, relayConfig{dns: d, deliveryPort: receiver.port})
	c := &correspondence{
		relay: r, user: r.setUp(), receiver: receiver, published: keys(r.records(fromDomain)),
		small: awkward(3000, 7), big: awkward(large, 8),
	}
	for _, m := range mailers(startForwarder(t, r.smtp, c.user, rcptDomain)) {
		for _, mode := range modes() {
			t.Run(m.name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				need(t, m.tools...)
				t.Run("small", func(t *testing.T) { c.one(t, m, mode, "small", c.small) })
				t.Run("25 MB", func(t *testing.T) { c.one(t, m, mode, "large", c.big) })
				t.Run("Bcc", func(t *testing.T) { c.several(t, m, mode) })
				t.Run("SMTPUTF8", func(t *testing.T) { c.international(t, m, mode) })
				t.Run("refused", func(t *testing.T) {
					e := c.errand(t, mode, c.small, "bob@"+mode+"."+rcptDomain)
					e.from = "eve@" + m.name + "." + mode + ".test"
					m.refused(t, e, "5.7.1 Sender <"+e.from+"> is not authorised for "+c.user.Username)
				})
			})
		}
	}
}

// errand makes a message to the recipients: one, or three as To, Cc and Bcc.
func (c *correspondence) errand(t *testing.T, mode string, body []byte, to ...string) errand {
	t.Helper()
	head := header(to[0], strings.ReplaceAll(t.Name(), "/", "."))
	if len(to) == 3 {
		head = fmt.Appendf(nil, "Cc: %s\r\nBcc: %s\r\n%s", to[1], to[2], head)
	}
	file := scratch(t, bytes.Join([][]byte{head, body}, []byte("\r\n")))
	return errand{relay: c.relay.smtp, mode: mode, user: c.user, from: fromAddr, to: to, file: file}
}

// one sends a body to one recipient.
func (c *correspondence) one(t *testing.T, m mailer, mode, what string, body []byte) {
	t.Helper()
	e := c.errand(t, mode, body, m.address(what, mode))
	m.send(t, e)
	got := c.receiver.one(e.to[0], time.Minute)
	c.arrived(t, got, m, e, body)
	if what == "small" || m.name == "smtplib" {
		verifyInPython(t, got, fromDomain, c.published)
		verifyInOpenDKIM(t, got, fromDomain, c.published)
	}
}

// arrived asserts that a message came as it was sent.
func (c *correspondence) arrived(t *testing.T, got []byte, m mailer, e errand, body []byte) {
	t.Helper()
	head, _, _ := bytes.Cut(read(t, e.file), []byte("\r\n\r\n"))
	if m.rewrites {
		head = nil
	}
	intact(t, got, head, body)
	want := map[string]string{"plain": "SMTPA ", "starttls": "SMTPSA "}[e.mode]
	if e.to[0] == m.address(international, e.mode) {
		want = "UTF8" + want
	} else {
		want = "E" + want
	}
	came(t, got, want)
	verifyInGo(t, got, fromDomain, c.published)
}

// several sends to To, Cc and Bcc.
func (c *correspondence) several(t *testing.T, m mailer, mode string) {
	t.Helper()
	e := c.errand(t, mode, c.small, m.address("to", mode), m.address("cc", mode), m.address("bcc", mode))
	m.send(t, e)
	for _, to := range e.to {
		got := c.receiver.one(to, time.Minute)
		verifyInGo(t, got, fromDomain, c.published)
		if m.attaches {
			attached(t, got, read(t, e.file))
		} else {
			intact(t, got, nil, c.small)
		}
		if to != e.to[2] && bytes.Contains(got, []byte(e.to[2])) {
			t.Errorf("%s reads the name of the Bcc recipient:\n%.3000s", to, got)
		}
		if !bytes.Contains(got, []byte(e.to[1])) {
			t.Errorf("%s does not read the name of the Cc recipient:\n%.3000s", to, got)
		}
	}
}

// international sends to an address that only SMTPUTF8 reaches.
func (c *correspondence) international(t *testing.T, m mailer, mode string) {
	t.Helper()
	e := c.errand(t, mode, c.small, m.address(international, mode))
	if !m.utf8 {
		m.refused(t, e, "5.6.7")
		return
	}
	m.send(t, e)
	c.arrived(t, c.receiver.one(e.to[0], time.Minute), m, e, c.small)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// attached asserts that the message has a file attached, octet for octet.
func attached(t *testing.T, got, file []byte) {
	t.Helper()
	message, err := netmail.ReadMessage(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for parts := multipart.NewReader(message.Body, params["boundary"]); ; {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatalf("no attachment: %v", err)
		}
		if part.FileName() == "" {
			continue
		}
		content, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, part))
		if err != nil || sha256.Sum256(content) != sha256.Sum256(file) {
			t.Fatalf("the attachment was changed: %d octets, %d were sent; %v", len(content), len(file), err)
		}
		return
	}
}

// intact asserts that a delivered message has every field and the very body that was sent.
func intact(t *testing.T, got, head, body []byte) {
	t.Helper()
	gotHead, gotBody, found := bytes.Cut(got, []byte("\r\n\r\n"))
	if !found {
		t.Fatal("the delivered message has no body")
	}
	if !bytes.Contains(gotHead, bytes.TrimSuffix(head, []byte("\r\n"))) {
		t.Errorf("the header was changed:\n%s\nsent:\n%s", gotHead, head)
	}
	if sha256.Sum256(gotBody) != sha256.Sum256(body) {
		t.Fatalf("the body was changed: %d octets arrived, %d were sent; first difference at %d", len(gotBody), len(body), difference(gotBody, body))
	}
}

func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// came asserts what the relay's trace field says of the client's connection (RFC 3848, RFC 6531 §4.3).
func came(t *testing.T, got []byte, want string) {
	t.Helper()
	head, _, _ := bytes.Cut(got, []byte("\r\n\r\n"))
	unfolded := strings.ReplaceAll(strings.ReplaceAll(string(head), "\r\n\t", " "), "\r\n ", " ")
	want = " with " + want
	for field := range strings.SplitSeq(unfolded, "\r\n") {
		if strings.HasPrefix(field, "Received:") && strings.Contains(field, "by "+relayHost) {
			if !strings.Contains(field, want) {
				t.Errorf("%s; want %q", field, want)
			}
			return
		}
	}
	t.Errorf("no Received field by %s:\n%s", relayHost, head)
}

// A script that ends its lines by LF alone gets its mail through: CRLF arrives, the
// signatures hold, and a dot alone between two LF neither ends the message nor goes.
func TestLoneLineFeedsAreRepairedBeforeSigning(t *testing.T) {
	t.Parallel()
	need(t, "linux", "root", "postfix", "python3-dkim", "python3-nacl")
	receiver := startReceiver(t, "bob@"+rcptDomain)
	r := startRelay(t, relayConfig{dns: mailDNS(t, rcptDomain, "127.0.0.1"), deliveryPort: receiver.port})
	c := dialAs(t, r.smtp, r.setUp())
	c.want("250", "MAIL FROM:<"+fromAddr+">")
	c.want("250", "RCPT TO:<bob@"+rcptDomain+">")
	c.want("354", "DATA")
	head := "From: <" + fromAddr + ">\nSubject: lone\nDate: Tue, 24 Nov 2026 10:00:00 +0000\nMessage-ID: <lone@client.test>\n"
	body := "one\n.\n.two\n..three\n\nfour\n"
	if err := c.write([]byte(head + "\n" + body + "\r\n.\r\n")); err != nil {
		t.Fatal(err)
	}
	rep, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	queuedID(t, rep)
	got := receiver.one("bob@"+rcptDomain, 20*time.Second)
	intact(t, got, crlf([]byte(head)), crlf([]byte(body+"\n")))
	published := keys(r.records(fromDomain))
	verifyInGo(t, got, fromDomain, published)
	verifyInPython(t, got, fromDomain, published)
}
