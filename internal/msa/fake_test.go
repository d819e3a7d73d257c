package msa

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mittente/internal/account"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/sender"
	"mittente/internal/smtp/smtptest"
	"mittente/internal/smtpserver"
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
	refused  []string // authentications
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
	if reason == "pending-address" {
		return &submission.Rejection{Reason: submission.Pending, User: s.Principal.User.Name, Address: address, Event: id.Event{1, 2, 3}, Kind: sender.KindAddress}
	}
	switch r := submission.Reason(reason); r {
	case submission.NotAuthorised, submission.Pending, submission.FormVisitor, submission.Malformed, submission.Loop:
		return &submission.Rejection{Reason: r, User: s.Principal.User.Name, Address: address, Event: id.Event{1, 2, 3}, Cause: errors.New("two From fields")}
	case submission.OverQuota:
		return &submission.Rejection{Reason: r, User: s.Principal.User.Name, Limit: 100, Wait: 7 * time.Minute}
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

func (g *fakeGate) AuthRefused(_ context.Context, why *account.AuthError, s submission.Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused = append(g.refused, fmt.Sprintf("%s %s %s", why.Name, why.Reason, s.Client.Addr()))
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
type fakeAuthenticator struct{ wrong map[string]bool }

func (f *fakeAuthenticator) Authenticate(_ context.Context, a account.AuthAttempt) (account.Principal, error) {
	refuse := func(why account.Reason) (account.Principal, error) {
		return account.Principal{}, &account.AuthError{Reason: why, Name: a.Name}
	}
	switch {
	case a.Name == "s1_9":
		return account.Principal{}, errors.New("database is down")
	case a.Name == "s1_5":
		return account.Principal{}, &account.AuthError{Reason: account.TooMany, Name: a.Name, Wait: 90 * time.Second}
	case a.Name == "s1_6":
		return refuse(account.Unbound)
	case a.Password != "secret":
		known := f.wrong[a.Name+a.Password]
		f.wrong[a.Name+a.Password] = true
		return account.Principal{}, &account.AuthError{Reason: account.BadCredentials, Name: a.Name, Repeated: known}
	case a.Name == "s1_2":
		return refuse(account.Inactive)
	case a.Name == "s1_3" && !a.TLS:
		return refuse(account.TLSRequired)
	case a.Name == "s1_4":
		return refuse(account.NotFromHere)
	}
	return account.Principal{User: account.User{Name: a.Name}}, nil
}

func newFakeAuthenticator() *fakeAuthenticator { return &fakeAuthenticator{map[string]bool{}} }

func testConfig() Config {
	return Config{
		PublicURL: "https://mx.example.org/",
		Wire:      smtpserver.Config{Hostname: "mx.example.org", MaxMessageBytes: 2000, MaxRecipients: 3},
	}
}

func testDoor(tb testing.TB, cfg Config, gate Gate) *Door {
	tb.Helper()
	d, err := New(cfg, Deps{Gate: gate, Authenticator: newFakeAuthenticator()})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// dial opens a session over a pipe; it ends when the client closes its end.
func dial(ctx context.Context, d *Door) *smtptest.Client {
	client, server := smtptest.Pipe("192.0.2.7")
	go d.ServeConn(ctx, server)
	return smtptest.NewClient(client)
}

func authPlain(name, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+name+"\x00"+password))
}
