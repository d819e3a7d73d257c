package smtpclient

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// TestMain holds the room to leaving no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newClient(tb testing.TB, cfg Config) *Client {
	tb.Helper()
	cfg.Hostname = "relay.example.org"
	c, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// certificate is one that is its own authority; it is valid until then.
func certificate(tb testing.TB, name string, valid time.Duration) tls.Certificate {
	tb.Helper()
	if valid == 0 {
		valid = 24 * time.Hour
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// server plays one connection: what it is to hear ("C: "), what it says ("S: ")
// and TLS, line by line.
func server(t *testing.T, config *tls.Config, script string) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		done := make(chan struct{})
		t.Cleanup(func() { <-done })
		go func() {
			defer close(done)
			defer far.Close()
			play(t, far, config, script)
		}()
		return near, nil
	}
}

// overTCP is server over a socket, which holds what nobody reads.
func overTCP(t *testing.T, config *tls.Config, script string) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		done := make(chan struct{})
		t.Cleanup(func() { <-done })
		go func() {
			defer close(done)
			defer listener.Close()
			if conn, err := listener.Accept(); err == nil {
				defer conn.Close()
				play(t, conn, config, script)
			}
		}()
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	}
}

func play(t *testing.T, conn net.Conn, config *tls.Config, script string) {
	t.Helper()
	r := bufio.NewReader(conn)
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "S:":
			if _, err := io.WriteString(conn, strings.ReplaceAll(rest, `\n`, "\r\n")+"\r\n"); err != nil {
				t.Errorf("at %q: %v", line, err)
				return
			}
		case "C:":
			if got, err := r.ReadString('\n'); got != rest+"\r\n" {
				t.Errorf("the client says %q, want %q (%v)", got, rest, err)
				return
			}
		case "TLS":
			tc := tls.Server(conn, config)
			if tc.Handshake() != nil {
				return
			}
			conn, r = tc, bufio.NewReader(tc)
		case "SILENCE":
			_, _ = io.Copy(io.Discard, r)
			return
		}
	}
}

// connect opens a connection to what script plays, up to after EHLO.
func connect(t *testing.T, cfg Config, script string) *Conn {
	t.Helper()
	if cfg.Dial == nil {
		cfg.Dial = server(t, nil, script)
	}
	c, err := newClient(t, cfg).Connect(t.Context(), "mx1.example.net", netip.MustParseAddrPort("192.0.2.1:25"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if r, err := c.Greeting(); err != nil || r.Code != 220 {
		t.Fatal(r, err)
	}
	if r, err := c.Hello(); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	return c
}

const hello = "S: 220 mx1.example.net ESMTP\nC: EHLO relay.example.org\n"

func recipients(tb testing.TB, list ...string) []mail.Rcpt {
	tb.Helper()
	to := make([]mail.Rcpt, 0, len(list))
	for _, s := range list {
		p, err := mail.ParseForwardPath(s)
		if err != nil {
			tb.Fatal(err)
		}
		to = append(to, mail.Rcpt{To: p})
	}
	return to
}

func envelope(tb testing.TB, to ...string) Envelope {
	tb.Helper()
	from, err := mail.ParseReversePath("sender@example.org")
	if err != nil {
		tb.Fatal(err)
	}
	return Envelope{From: from, To: recipients(tb, to...), Size: 22}
}

// TestParseExtensions reads what servers in use say, and what they should not.
func TestParseExtensions(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]Extensions{
		"":                               {},
		"PIPELINING|STARTTLS|8BITMIME":   {Pipelining: true, StartTLS: true, EightBit: true},
		"SMTPUTF8|DSN":                   {UTF8: true, DSN: true},
		"size 35882577":                  {Sizes: true, Size: 35882577},
		"SIZE|SIZE x":                    {Sizes: true},
		"SIZE -5":                        {Sizes: true},
		"AUTH PLAIN LOGIN|AUTH=LOGIN":    {Auth: []string{"PLAIN", "LOGIN", "LOGIN"}},
		"auth=login plain":               {Auth: []string{"LOGIN", "PLAIN"}},
		"LIMITS RCPTMAX=20 MAILMAX=5":    {Recipients: 20, Transactions: 5},
		"LIMITS RCPTDOMAINMAX=1 X=2":     {Domains: 1},
		"LIMITS RCPTMAX=0 MAILMAX=-1":    {},
		"LIMITS RCPTMAX=1000000 MAILMAX": {},
		"|  |HELP|ENHANCEDSTATUSCODES":   {},
	} {
		got := parseExtensions(smtp.Reply{Code: 250, Lines: append([]string{"mx DSN"}, strings.Split(lines, "|")...)})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", lines, got)
		}
	}
}
