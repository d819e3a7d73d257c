package smtpserver

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mittente/internal/mail"
	"mittente/internal/smtp"
	"mittente/internal/smtp/smtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// login is how a client of fake authenticates.
const login = "AUTH PLAIN c2VjcmV0"

// fake decides for all sessions of a server: it lets everybody in who says
// "secret", and takes everything in but what begins with "Case: ".
type fake struct {
	hold chan struct{} // Content waits for it before it returns, if not nil

	mu      sync.Mutex
	taken   []string
	mails   []smtp.Mail
	rcpts   []mail.Rcpt
	records []string // of the sessions at the end of content
}

type fakeSession struct {
	*fake

	s *Session
}

func (f *fake) open(s *Session) Handler { //nolint:ireturn // what Deps.Open is
	return &fakeSession{f, s}
}

func (f *fakeSession) Mechanisms() []string { return []string{"PLAIN", "LOGIN"} }

func (f *fakeSession) Auth(_ context.Context, x *Exchange) smtp.Reply {
	if x.Mechanism == "LOGIN" {
		if _, ok := x.Response("Username:"); !ok {
			return smtp.Reply{}
		}
	}
	if password, ok := x.Response(""); !ok || password != "secret" {
		return say(535, status(5, 7, 8), "wrong")
	}
	return say(235, status(2, 7, 0), "Authentication successful")
}

func (f *fakeSession) Mail(_ context.Context, m smtp.Mail) smtp.Reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mails = append(f.mails, m)
	return say(250, status(2, 1, 0), "Sender ok")
}

func (f *fakeSession) Rcpt(_ context.Context, r mail.Rcpt) smtp.Reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rcpts = append(f.rcpts, r)
	return say(250, status(2, 1, 5), "Recipient ok")
}

func (f *fakeSession) Content(ctx context.Context, content *Content) smtp.Reply {
	first := make([]byte, 6)
	n, _ := io.ReadFull(content, first)
	if string(first[:n]) == "Case: " {
		return say(550, status(5, 7, 1), "refused by its first line")
	}
	b, err := io.ReadAll(content)
	if err != nil {
		return smtp.Reply{Code: 599, Lines: []string{"does not matter"}}
	}
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return say(451, status(4, 3, 0), "given up")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken = append(f.taken, string(first[:n])+string(b))
	f.records = append(f.records, f.s.Transcript())
	return say(250, status(2, 0, 0), fmt.Sprintf("Queued as %d", len(f.taken)))
}

func testConfig() Config {
	return Config{Hostname: "mx.example.org", Help: "https://mx.example.org", MaxMessageBytes: 2000, MaxRecipients: 3}
}

func testServer(tb testing.TB, cfg Config, f *fake) *Server {
	tb.Helper()
	v, err := New(cfg, Deps{Open: f.open})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// dial opens a session over a pipe; it ends when the client closes its end.
func dial(ctx context.Context, v *Server) *smtptest.Client {
	client, server := smtptest.Pipe("192.0.2.7")
	go v.ServeConn(ctx, server)
	return smtptest.NewClient(client)
}

// intoData brings a session to the point where content is expected.
func intoData(t *testing.T, p *smtptest.Client) {
	t.Helper()
	got := p.Says("HELO c.example", login, "MAIL FROM:<a@ours.example>", "RCPT TO:<b@theirs.example>", "DATA")
	if !strings.Contains(got, "354 ") {
		t.Fatalf("no DATA: %s", got)
	}
}
