package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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

// way is one kind of client, in clear or by STARTTLS.
type way struct {
	name string
	tls  bool
	send func(t *testing.T, to, file string)
}

// ways lists the independent clients; each sends a file with CRLF line ends.
func ways(r *relay, u user, forwarder *postfix) []way {
	var all []way
	host, port, _ := net.SplitHostPort(r.smtp)
	for _, tls := range []bool{false, true} {
		mode := map[bool]string{false: "plain", true: "starttls"}[tls]
		all = append(all, way{"swaks/" + mode, tls, func(t *testing.T, to, file string) {
			t.Helper()
			// swaks ends what it sends by a line end of its own.
			unended := filepath.Join(t.TempDir(), "unended")
			if err := os.WriteFile(unended, bytes.TrimSuffix(read(t, file), []byte("\r\n")), 0o644); err != nil {
				t.Fatal(err)
			}
			args := []string{
				"--server", host, "--port", port, "--ehlo", "client.test", "--from", fromAddr, "--to", to,
				"--auth", "LOGIN", "--auth-user", u.Username, "--auth-password", u.Password, "--data", "@" + unended, "--silent", "2", "--timeout", "60",
			}
			if tls {
				args = append(args, "--tls")
			}
			command(t, "swaks", args...)
		}}, way{"smtplib/" + mode, tls, func(t *testing.T, to, file string) {
			t.Helper()
			command(t, python(), "testdata/send.py", host, port, mode, u.Username, u.Password, fromAddr, to, file)
		}})
	}
	submit := func(t *testing.T, to, file string) {
		t.Helper()
		forwarder.submit(fromAddr, to, read(t, file))
	}
	return append(all,
		way{"postfix/plain", false, submit},
		way{"postfix/encrypt", true, submit})
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%.2000s", name, err, out)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// address is where a client sends to: Postfix chooses its transport by the domain.
func (w way) address(size string) string {
	name, mode, _ := strings.Cut(w.name, "/")
	if mode == "starttls" {
		mode = "encrypt"
	}
	return name + "-" + size + "@" + mode + "." + rcptDomain
}

// What swaks, smtplib and Postfix send, in clear and by STARTTLS, small and 25 MB,
// arrives at the Postfix that the DNS names as MX: every field of the header and
// every octet of the body as it was, and two DKIM signatures that verify.
//
//nolint:tparallel // one client after the other: 25 MB each
func TestS8_EveryClientsMailArrivesIntactAndSigned(t *testing.T) {
	t.Parallel()
	need(t, "linux", "root", "postfix", "swaks", "Net::SSLeay", "python3-dkim", "python3-nacl", "opendkim")
	var addresses []string
	for _, w := range ways(&relay{}, user{}, nil) {
		addresses = append(addresses, w.address("small"), w.address("large"))
	}
	receiver := startReceiver(t, addresses...)
	d := startDNS(t)
	for _, domain := range []string{"plain." + rcptDomain, "encrypt." + rcptDomain} {
		d.add(domain + ". 300 IN MX 10 mx." + rcptDomain + ".")
	}
	d.add("mx." + rcptDomain + ". 300 IN A 127.0.0.1")
	r := startRelay(t, relayConfig{dns: d, deliveryPort: receiver.port})
	u := r.setUp()
	published := keys(r.records(fromDomain))
	forwarder := startForwarder(t, r.smtp, u, rcptDomain)

	small, big := awkward(3000, 7), awkward(large, 8)
	for i, w := range ways(r, u, forwarder) {
		t.Run(w.name, func(t *testing.T) {
			for size, body := range map[string][]byte{"small": small, "large": big} {
				to := w.address(size)
				head := header(to, strings.ReplaceAll(w.name, "/", ".")+"."+size)
				file := filepath.Join(t.TempDir(), "message")
				if err := os.WriteFile(file, bytes.Join([][]byte{head, body}, []byte("\r\n")), 0o644); err != nil {
					t.Fatal(err)
				}
				w.send(t, to, file)
				got := receiver.one(to, time.Minute)
				intact(t, got, head, body)
				overTLS(t, got, w.tls)
				verifyInGo(t, got, fromDomain, published)
				if size == "small" || i == 0 {
					verifyInPython(t, got, fromDomain, published)
					verifyInOpenDKIM(t, got, fromDomain, published)
				}
			}
		})
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

// overTLS asserts what the relay's trace field says of the client's connection (RFC 3848).
func overTLS(t *testing.T, got []byte, tls bool) {
	t.Helper()
	head, _, _ := bytes.Cut(got, []byte("\r\n\r\n"))
	unfolded := strings.ReplaceAll(strings.ReplaceAll(string(head), "\r\n\t", " "), "\r\n ", " ")
	want := map[bool]string{false: "with ESMTPA ", true: "with ESMTPSA "}[tls]
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
	crlf := func(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }
	intact(t, got, crlf(head), crlf(body+"\n"))
	published := keys(r.records(fromDomain))
	verifyInGo(t, got, fromDomain, published)
	verifyInPython(t, got, fromDomain, published)
}
