package msa

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mittente/internal/account"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/submission"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGate refuses by the local-part of the reverse-path, or by a line "Case:
// reason" at the start of the content, and remembers what it took in.
type fakeGate struct {
	mu       sync.Mutex
	taken    []taken
	begun    chan struct{} // gets a value when Submit begins, if not nil
	hold     chan struct{} // Submit waits for it before it returns, if not nil
	sessions []submission.Session
}

type taken struct {
	env     mail.Envelope
	content string
}

func (g *fakeGate) Mail(_ context.Context, s submission.Session, from mail.ReversePath) (account.Principal, error) {
	g.mu.Lock()
	g.sessions = append(g.sessions, s)
	g.mu.Unlock()
	if why, ok := strings.CutPrefix(from.Address.Local(), "ended-"); ok {
		return account.Principal{}, &account.AuthError{Reason: account.Reason(why), Name: s.Principal.User.Name}
	}
	return s.Principal, rejection(from.Address.Local(), s, from.Address.Display())
}

// rejection makes the refusal that is asked for.
func rejection(reason string, s submission.Session, address string) error {
	switch r := submission.Reason(reason); r {
	case submission.NotAuthorised, submission.Pending, submission.FormVisitor, submission.Malformed, submission.Loop:
		return &submission.Rejection{Reason: r, User: s.Principal.User.Name, Address: address, Event: id.Event{1, 2, 3}, Cause: errors.New("two From fields")}
	case submission.StorageFull, submission.StorageDown, submission.Busy, submission.CredentialSpent:
		return &submission.Rejection{Reason: r, User: s.Principal.User.Name}
	case "broken":
		return errors.New("an error the client is told nothing of")
	case "panic":
		panic("a fault of ours")
	}
	return nil
}

func (*fakeGate) Rcpt(_ context.Context, s submission.Session, _ *mail.Envelope, r mail.Rcpt) error {
	return rejection(strings.TrimPrefix(r.To.Address.Local(), "rcpt-"), s, r.To.Address.Display())
}

func (g *fakeGate) Submit(ctx context.Context, s submission.Session, env mail.Envelope, content io.Reader) (id.Message, error) {
	if g.begun != nil {
		g.begun <- struct{}{}
	}
	if env.From.Address.Local() == "early" {
		return id.Message{}, rejection("not_authorised", s, "early@ours.example")
	}
	if env.From.Address.Local() == "lazy" {
		return id.Message{}, nil
	}
	b, err := io.ReadAll(content)
	if err != nil {
		return id.Message{}, fmt.Errorf("read content: %w", err)
	}
	if g.hold != nil {
		select {
		case <-g.hold:
		case <-ctx.Done():
			return id.Message{}, ctx.Err()
		}
	}
	first, _, _ := strings.Cut(string(b), "\r\n")
	if reason, ok := strings.CutPrefix(first, "Case: "); ok {
		return id.Message{}, rejection(reason, s, "x@foreign.example")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken = append(g.taken, taken{env, string(b)})
	return id.Message{15: byte(len(g.taken))}, nil
}

// fakeAuthenticator knows the password "secret"; the rest is in the user's name.
type fakeAuthenticator struct{}

func (fakeAuthenticator) Authenticate(_ context.Context, a account.AuthAttempt) (account.Principal, error) {
	refuse := func(why account.Reason) (account.Principal, error) {
		return account.Principal{}, &account.AuthError{Reason: why, Name: a.Name}
	}
	switch {
	case a.Name == "s1_9":
		return account.Principal{}, errors.New("database is down")
	case a.Password != "secret":
		return refuse(account.BadCredentials)
	case a.Name == "s1_2":
		return refuse(account.Inactive)
	case a.Name == "s1_3" && !a.TLS:
		return refuse(account.TLSRequired)
	case a.Name == "s1_4":
		return refuse(account.NotFromHere)
	}
	return account.Principal{User: account.User{Name: a.Name}}, nil
}

// addressed gives a pipe the address of a TCP connection.
type addressed struct {
	net.Conn
	addr *net.TCPAddr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

func testConfig() Config {
	return Config{Hostname: "mx.example.org", PublicURL: "https://mx.example.org/", MaxMessageBytes: 2000, MaxRecipients: 3}
}

func testDoor(tb testing.TB, cfg Config, gate Gate) *Door {
	tb.Helper()
	d, err := New(cfg, Deps{Gate: gate, Authenticator: fakeAuthenticator{}})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// dial opens a session over a pipe; it ends when the client closes its end.
func dial(ctx context.Context, d *Door) net.Conn {
	client, server := net.Pipe()
	if s := d.admit(addressed{server, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}}); s != nil {
		go s.serve(ctx)
	}
	return client
}

// testTLS makes a certificate.
func testTLS(tb testing.TB) *tls.Config {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example.org"}, DNSNames: []string{"mx.example.org"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }}
}
