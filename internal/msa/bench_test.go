package msa

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"mittente/internal/account"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/smtp/smtptest"
	"mittente/internal/submission"
)

// sink takes everything in.
type sink struct{}

func (sink) Mail(_ context.Context, s submission.Session, _ mail.ReversePath) (account.Principal, error) {
	return s.Principal, nil
}

func (sink) Rcpt(context.Context, submission.Session, *mail.Envelope, mail.Rcpt) error {
	return nil
}

func (sink) AuthRefused(context.Context, *account.AuthError, submission.Session) {}

func (sink) Submit(_ context.Context, _ submission.Session, _ mail.Envelope, content io.Reader) (id.Message, error) {
	_, err := io.Copy(io.Discard, content)
	return id.Message{1}, err
}

func benchDoor(b *testing.B) (*Door, []byte) {
	b.Helper()
	cfg := testConfig()
	cfg.Wire.MaxMessageBytes, cfg.Wire.MaxPerConnection = 1<<20, 1<<30
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("abcdefghi ", 7)+"\r\n", 142) + ".\r\n" // 10 KB
	return testDoor(b, cfg, sink{}), []byte(body)
}

// pipe opens a session over a pipe.
func pipe(ctx context.Context, d *Door) net.Conn {
	client, server := smtptest.Pipe("192.0.2.7")
	go d.ServeConn(ctx, server)
	return client
}

// talk sends a segment and reads the replies to it.
func talk(b *testing.B, conn net.Conn, r *bufio.Reader, segment []byte, replies int) {
	b.Helper()
	if len(segment) > 0 {
		if _, err := conn.Write(segment); err != nil {
			b.Fatal(err)
		}
	}
	for range replies {
		if _, err := r.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
	}
}

var (
	hello   = []byte("HELO c.example\r\n" + authPlain("s1_1", "secret") + "\r\n")
	envelop = []byte("MAIL FROM:<a@ours.example>\r\nRCPT TO:<b@theirs.example>\r\nDATA\r\n")
)

// One message of 10 KB per connection, with AUTH: the PHP pattern.
func BenchmarkSessionPerMessage(b *testing.B) {
	d, body := benchDoor(b)
	r := bufio.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		conn := pipe(b.Context(), d)
		r.Reset(conn)
		talk(b, conn, r, nil, 1)
		talk(b, conn, r, hello, 2)
		talk(b, conn, r, envelop, 3)
		talk(b, conn, r, body, 1)
		talk(b, conn, r, []byte("QUIT\r\n"), 1)
		_ = conn.Close()
	}
}

// Messages of 10 KB over one connection.
func BenchmarkSessionReused(b *testing.B) {
	d, body := benchDoor(b)
	conn := pipe(b.Context(), d)
	defer conn.Close()
	r := bufio.NewReader(conn)
	talk(b, conn, r, nil, 1)
	talk(b, conn, r, hello, 2)
	b.ReportAllocs()
	for b.Loop() {
		talk(b, conn, r, envelop, 3)
		talk(b, conn, r, body, 1)
	}
}
