package smtpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/smtp" //nolint:depguard // a second opinion, in tests only
	"strings"
	"testing"
	"time"

	"mittente/internal/smtp/smtptest"
)

// A second client, over TCP and TLS: the standard library's.
func TestStandardLibraryClient(t *testing.T) {
	cfg := testConfig()
	cfg.Bind, cfg.Ports = []string{"127.0.0.1"}, []string{"0"}
	cfg.TLS = smtptest.ServerTLS(t, "mx.example.org")
	gate := &fake{}
	v := testServer(t, cfg, gate)
	bound, skipped, err := v.Listen(t.Context())
	if err != nil || len(bound) != 1 || len(skipped) != 0 {
		t.Fatalf("bound %v, skipped %v: %v", bound, skipped, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	c, err := smtp.Dial(bound[0].String())
	if err != nil {
		t.Fatal(err)
	}
	body := "Subject: x\r\n\r\n.dot\r\nend\r\n"
	steps := []error{
		c.StartTLS(&tls.Config{InsecureSkipVerify: true, ServerName: "mx.example.org"}),
		c.Auth(plain{}),
		c.Mail("a@ours.example"),
		c.Rcpt("b@theirs.example"),
		write(c, body),
		c.Quit(),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	if len(gate.taken) != 1 || gate.taken[0] != body || !gate.mails[0].EightBit {
		t.Errorf("taken %+v", gate.taken)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A listener that was quiet for long has no goroutine, and answers all the same.
func TestQuietListener(t *testing.T) {
	cfg := testConfig()
	cfg.Bind, cfg.Ports = []string{"127.0.0.1", "127.0.0.2"}, []string{"0"}
	v := testServer(t, cfg, &fake{})
	v.quiet = time.Millisecond
	bound, _, err := v.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	for i := range 200 {
		conn, err := net.Dial("tcp", bound[i%2].String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if got, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(got, "220 ") {
			t.Fatalf("call %d: %q, %v", i, got, err)
		}
		_ = conn.Close()
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The reply to a client that goes on sending reaches it: the connection is not reset.
func TestLastReplyArrives(t *testing.T) {
	cfg := testConfig()
	cfg.Bind, cfg.Ports = []string{"127.0.0.1"}, []string{"0"}
	v := testServer(t, cfg, &fake{})
	bound, _, err := v.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	conn, err := net.Dial("tcp", bound[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Repeat("XYZZY\r\n", 20_000))); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(got), "421 4.7.0 Too many errors, closing\r\n") {
		t.Errorf("%v: %.100q", err, got)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// plain is the way in of fake.
type plain struct{}

func (plain) Start(*smtp.ServerInfo) (string, []byte, error) { return "PLAIN", []byte("secret"), nil }
func (plain) Next([]byte, bool) ([]byte, error)              { return nil, nil }

func write(c *smtp.Client, body string) error {
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, body); err != nil {
		return err
	}
	return w.Close()
}
