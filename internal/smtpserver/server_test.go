package smtpserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/mail"
	"mittente/internal/smtp/smtptest"
)

// listening hands out pipes as connections.
type listening struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *listening) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *listening) Close() error   { close(l.closed); return nil }
func (l *listening) Addr() net.Addr { return &net.TCPAddr{} }

// open runs a door over pipes. The function it returns connects a client.
func open(ctx context.Context, v *Server) (connect func(ip string) *smtptest.Client, done chan error) {
	l := &listening{conns: make(chan net.Conn), closed: make(chan struct{})}
	v.listeners = []net.Listener{l}
	done = make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	return func(ip string) *smtptest.Client {
		client, server := smtptest.Pipe(ip)
		p := smtptest.NewClient(client)
		l.conns <- server
		synctest.Wait()
		return p
	}, done
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		gate := &fake{hold: make(chan struct{})}
		connect, done := open(ctx, testServer(t, testConfig(), gate))
		idle, asking, begun, sending, waiting := connect("192.0.2.1"), connect("192.0.2.1"), connect("192.0.2.1"), connect("192.0.2.1"), connect("192.0.2.1")
		idle.Says("HELO c.example")
		asking.Says("HELO c.example", "AUTH LOGIN")
		begun.Says("HELO c.example", login, "MAIL FROM:<a@ours.example>")
		intoData(t, sending)
		intoData(t, waiting)
		waiting.Says("Subject: x", "", ".")

		stop()
		const farewell = "421 4.3.2 mx.example.org is shutting down\r\n"
		for name, p := range map[string]*smtptest.Client{"idle": idle, "in AUTH": asking} {
			if got := p.Says(); got != farewell || !p.HungUp() {
				t.Errorf("%s: %q", name, got)
			}
		}
		if got := begun.Says("RCPT TO:<b@theirs.example>"); got != "250 2.1.5 Recipient ok\r\n" {
			t.Errorf("in a transaction: %q", got)
		}
		if got := begun.Says("RSET"); got != "250 2.0.0 Ok\r\n"+farewell || !begun.HungUp() {
			t.Errorf("after its transaction: %q", got)
		}
		close(gate.hold)
		if got := waiting.Says(); got != "250 2.0.0 Queued as 1\r\n"+farewell || !waiting.HungUp() {
			t.Errorf("waiting for the gate: %q", got)
		}
		if got := sending.Says("Subject: y", "", "."); got != "250 2.0.0 Queued as 2\r\n"+farewell || !sending.HungUp() {
			t.Errorf("sending content: %q", got)
		}
		start := time.Now()
		if err := <-done; err != nil || time.Since(start) > 0 {
			t.Errorf("Run returned %v after %v", err, time.Since(start))
		}
	})
}

// A client that never ends, and a gate that hangs, hold the shutdown up for Drain only.
func TestShutdownIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		v := testServer(t, testConfig(), &fake{hold: make(chan struct{})})
		connect, done := open(ctx, v)
		sending, hanging := connect("192.0.2.1"), connect("192.0.2.1")
		intoData(t, sending)
		intoData(t, hanging)
		hanging.Says("Subject: x", "", ".")
		start := time.Now()
		stop()
		if err := <-done; err != nil || time.Since(start) != 30*time.Second {
			t.Errorf("Run returned %v after %v", err, time.Since(start))
		}
		if got := sending.Says(); got != "" || !sending.HungUp() {
			t.Errorf("sending: %q", got)
		}
		if got := hanging.Says(); strings.Contains(got, "250") || !hanging.HungUp() {
			t.Errorf("hanging: %q", got)
		}
		if len(v.sessions) != 0 || len(v.clients) != 0 {
			t.Errorf("%v sessions, %v clients left", len(v.sessions), len(v.clients))
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		cfg := testConfig()
		cfg.MaxConnections, cfg.MaxPerClient = 5, 2
		connect, done := open(ctx, testServer(t, cfg, &fake{}))
		own := "421 4.7.0 Too many connections from your address, try again later\r\n"
		all := "421 4.7.0 Too many connections, try again later\r\n"
		first := connect("192.0.2.1")
		for _, step := range []struct{ ip, want string }{
			{"192.0.2.1", ""},
			{"192.0.2.1", own},
			{"::ffff:192.0.2.1", own},
			{"2001:db8::1", ""},
			{"2001:db8::ffff:2", ""},
			{"2001:db8::3", own}, // of the same /64
			{"192.0.2.2", ""},
			{"192.0.2.3", all},
		} {
			p := connect(step.ip)
			got := p.Says()
			if step.want == "" && !strings.HasPrefix(got, "220 ") || step.want != "" && (got != step.want || !p.HungUp()) {
				t.Errorf("%s: %q, want %q", step.ip, got, step.want)
			}
		}
		first.Says("QUIT")
		if got := connect("192.0.2.1").Says(); !strings.HasPrefix(got, "220 ") {
			t.Errorf("after one has left: %q", got)
		}
		stop()
		<-done
	})
}

// What a client sends faster than it reads must not pile up in memory, and a
// client that takes no replies is cut off.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := testServer(t, testConfig(), &fake{})
		client, server := smtptest.Pipe("192.0.2.7")
		defer client.Close()
		go v.ServeConn(t.Context(), server)
		start := time.Now()
		for {
			if _, err := client.Write([]byte("NOOP\r\n")); err != nil {
				break
			}
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("cut off after %v", took)
		}
		synctest.Wait()
		if len(v.sessions) != 0 {
			t.Error("the session is still there")
		}
	})
}

// Short commands with long replies in one segment must not fill memory either,
// while their client does not read.
func TestRepliesThatNobodyReadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := testServer(t, testConfig(), &fake{})
		client, server := smtptest.Pipe("192.0.2.7")
		go v.ServeConn(t.Context(), server)
		go func() { _, _ = client.Write(bytes.Repeat([]byte("EHLO a\r\n"), 2*readBuffer/8)) }()
		_, _ = io.CopyN(io.Discard, client, 32<<10) // then it reads no more
		synctest.Wait()
		for s := range v.sessions {
			if n := cap(s.wire.out); n > 2*maxOutput {
				t.Errorf("%d octets wait for a client that does not read", n)
			}
		}
		client.Close()
		synctest.Wait()
	})
}

// A message must not trickle in for ever.
func TestSlowContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxMessageBytes = 1 << 20
		v := testServer(t, cfg, &fake{})
		p := dial(t.Context(), v)
		intoData(t, p)
		start := time.Now()
		for !p.HungUp() {
			time.Sleep(2 * time.Minute)
			p.Says("x")
		}
		if took := time.Since(start); took < time.Hour || took > time.Hour+2*time.Minute {
			t.Errorf("cut off after %v", took)
		}
		_ = p.Conn.Close()
	})
}

// The same by chunks, each with its octet in the same segment.
func TestSlowChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxMessageBytes = 1 << 20
		f := &fake{}
		p := dial(t.Context(), testServer(t, cfg, f))
		p.Says("HELO c.example", login, "MAIL FROM:<a@ours.example>", "RCPT TO:<b@theirs.example>")
		start := time.Now()
		last := ""
		for !p.HungUp() && time.Since(start) < 3*time.Hour {
			time.Sleep(4 * time.Minute)
			last = p.Says("BDAT 3\r\nx")
		}
		if took := time.Since(start); took < time.Hour || took > time.Hour+8*time.Minute || last != "421 4.4.2 Timeout, closing\r\n" || len(f.taken) > 0 {
			t.Errorf("cut off after %v with %q, taken %q", took, last, f.taken)
		}
		_ = p.Conn.Close()
	})
}

// Waiting between two chunks, however busily, is no progress.
func TestIdleBetweenChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t.Context(), testServer(t, testConfig(), &fake{}))
		p.Says("HELO c.example", login, "MAIL FROM:<a@ours.example>", "RCPT TO:<b@theirs.example>", "BDAT 3\r\nx")
		start := time.Now()
		for !p.HungUp() && time.Since(start) < time.Hour {
			time.Sleep(time.Minute)
			p.Says("NOOP")
			p.Says("BDAT 0")
		}
		if took := time.Since(start); took < 14*time.Minute || took > 16*time.Minute {
			t.Errorf("cut off after %v", took)
		}
		_ = p.Conn.Close()
	})
}

// Whatever of a message does not come, nothing of it is taken; and what a client
// wanted to be told is.
func TestTruncatedIsNotTaken(t *testing.T) {
	start := "EHLO c\r\n" + login + "\r\nMAIL FROM:<a@b.example> RET=FULL ENVID=x+2By\r\nRCPT TO:<c@d.example> NOTIFY=DELAY ORCPT=rfc822;o@d.example\r\n"
	for _, content := range []string{
		"DATA\r\nSubject: x\r\n\r\n..\r\n.\r\n", "BDAT 20 LAST\r\nSubject: x\r\n\r\nbody\r\n", "BDAT 10\r\n0123456\r\n\nBDAT 3\r\na\r\nBDAT 2 LAST\r\n\r\n",
	} {
		for n := range len(content) {
			_, f := hear(t, []byte(start+content[:n]), 1000)
			if len(f.taken) > 0 {
				t.Errorf("%q: taken as %q", content[:n], f.taken)
			}
		}
		_, f := hear(t, []byte(start+content), 1000)
		if len(f.taken) != 1 || f.mails[0].ID != "x+y" || f.mails[0].Return != mail.ReturnFull || f.rcpts[0].Notify != mail.NotifyDelay || f.rcpts[0].Original != "rfc822;o@d.example" {
			t.Errorf("%q: taken %q, of %+v to %+v", content, f.taken, f.mails, f.rcpts)
		}
	}
}

// Content far beyond the limit is not read for ever just to say so.
func TestEndlessContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := testServer(t, testConfig(), &fake{})
		p := dial(t.Context(), v)
		intoData(t, p)
		line := strings.Repeat("x", 998) + "\r\n"
		var sent int
		for {
			n, err := p.Conn.Write([]byte(line))
			sent += n
			if err != nil {
				break
			}
		}
		if got := p.Says(); got != "552 5.3.4 Message too big: at most 2000 octets are taken\r\n" || sent > 200_000 {
			t.Errorf("%q after %v octets", got, sent)
		}
		_ = p.Conn.Close()
	})
}

// A failed handshake closes the connection, even with a client that goes on in clear.
func TestFailedHandshakeCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.TLS = smtptest.ServerTLS(t, "mx.example.org")
		v := testServer(t, cfg, &fake{})
		p := dial(t.Context(), v)
		if got := p.Says("EHLO c.example", "STARTTLS"); !strings.HasSuffix(got, "220 2.0.0 Ready for TLS\r\n") {
			t.Fatalf("%q", got)
		}
		if got := p.Says("EHLO c.example", login); strings.Contains(got, "250") || strings.Contains(got, "235") || !p.HungUp() {
			t.Errorf("goes on in clear: %q", got)
		}
		silent := dial(t.Context(), v)
		silent.Says("STARTTLS")
		time.Sleep(30 * time.Second)
		if silent.Says(); !silent.HungUp() {
			t.Error("no timeout of the handshake")
		}
		_, _ = p.Conn.Close(), silent.Conn.Close()
	})
}

func TestAcceptFailureIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		v := testServer(t, testConfig(), &fake{})
		l := &failing{closed: make(chan struct{})}
		l.left.Store(20)
		v.listeners = []net.Listener{l}
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- v.Run(ctx) }()
		time.Sleep(time.Minute)
		if n := l.left.Load(); n != -1 {
			t.Errorf("%v failures to go after %v", n, time.Since(start))
		}
		stop()
		<-done
	})
}

// failing has no file descriptors for a while.
type failing struct {
	left   atomic.Int32
	closed chan struct{}
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	<-f.closed
	return nil, net.ErrClosed
}
func (f *failing) Close() error   { close(f.closed); return nil }
func (f *failing) Addr() net.Addr { return &net.TCPAddr{} }

func TestNewRefusesBadConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no hostname":            func(c *Config) { c.Hostname = "" },
		"hostname":               func(c *Config) { c.Hostname = "a b" },
		"bare_newlines":          func(c *Config) { c.BareNewlines = "keep" },
		"long_lines":             func(c *Config) { c.LongLines = "fold" },
		"ports":                  func(c *Config) { c.Ports = []string{"smtp"} },
		"bind":                   func(c *Config) { c.Bind = []string{"localhost"} },
		"negative recipients":    func(c *Config) { c.MaxRecipients = -1 },
		"negative messages":      func(c *Config) { c.MaxPerConnection = -1 },
		"negative message bytes": func(c *Config) { c.MaxMessageBytes = -1 },
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := New(cfg, Deps{Open: (&fake{}).open}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	deps := Deps{Open: (&fake{}).open, Registerer: prometheus.NewRegistry()}
	if _, err := New(testConfig(), deps); err != nil {
		t.Error(err)
	}
	if _, err := New(testConfig(), deps); err == nil {
		t.Error("metrics registered twice")
	}
	v := testServer(t, testConfig(), &fake{})
	if err := v.Run(t.Context()); !errors.Is(err, ErrNoPort) {
		t.Errorf("Run without Listen: %v", err)
	}
}
