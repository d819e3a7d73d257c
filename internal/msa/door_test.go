package msa

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/submission"
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
func open(ctx context.Context, d *Door) (connect func(ip string) *player, done chan error) {
	l := &listening{conns: make(chan net.Conn), closed: make(chan struct{})}
	d.listeners = []net.Listener{l}
	done = make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func(ip string) *player {
		client, server := net.Pipe()
		p := &player{}
		p.connect(client)
		l.conns <- addressed{server, &net.TCPAddr{IP: net.ParseIP(ip), Port: 4711}}
		synctest.Wait()
		return p
	}, done
}

// says sends lines and returns what the server has said since the last time.
func (p *player) says(lines ...string) string {
	for _, line := range lines {
		if _, err := p.conn.Write([]byte(line + "\r\n")); err != nil {
			break
		}
	}
	synctest.Wait()
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	defer p.in.buf.Reset()
	return p.in.buf.String()
}

func (p *player) hungUp() bool {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	return p.in.closed
}

func authPlain(name, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+name+"\x00"+password))
}

// intoData brings a session to the point where content is expected.
func (p *player) intoData(t *testing.T) {
	t.Helper()
	got := p.says("HELO c.example", authPlain("s1_1", "secret"), "MAIL FROM:<a@ours.example>", "RCPT TO:<b@theirs.example>", "DATA")
	if !strings.Contains(got, "354 ") {
		t.Fatalf("no DATA: %s", got)
	}
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		gate := &fakeGate{hold: make(chan struct{})}
		connect, done := open(ctx, testDoor(t, testConfig(), gate))
		idle, asking, begun, sending, waiting := connect("192.0.2.1"), connect("192.0.2.1"), connect("192.0.2.1"), connect("192.0.2.1"), connect("192.0.2.1")
		idle.says("HELO c.example")
		asking.says("HELO c.example", "AUTH LOGIN")
		begun.says("HELO c.example", authPlain("s1_1", "secret"), "MAIL FROM:<a@ours.example>")
		sending.intoData(t)
		waiting.intoData(t)
		waiting.says("Subject: x", "", ".")

		stop()
		const farewell = "421 4.3.2 mx.example.org is shutting down\r\n"
		for name, p := range map[string]*player{"idle": idle, "in AUTH": asking} {
			if got := p.says(); got != farewell || !p.hungUp() {
				t.Errorf("%s: %q", name, got)
			}
		}
		if got := begun.says("RCPT TO:<b@theirs.example>"); got != "250 2.1.5 Recipient ok\r\n" {
			t.Errorf("in a transaction: %q", got)
		}
		if got := begun.says("RSET"); got != "250 2.0.0 Ok\r\n"+farewell || !begun.hungUp() {
			t.Errorf("after its transaction: %q", got)
		}
		close(gate.hold)
		if got := waiting.says(); got != "250 2.0.0 Queued as msg_00000000000000000000000004\r\n"+farewell || !waiting.hungUp() {
			t.Errorf("waiting for the gate: %q", got)
		}
		if got := sending.says("Subject: y", "", "."); got != "250 2.0.0 Queued as msg_00000000000000000000000008\r\n"+farewell || !sending.hungUp() {
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
		d := testDoor(t, testConfig(), &fakeGate{hold: make(chan struct{})})
		connect, done := open(ctx, d)
		sending, hanging := connect("192.0.2.1"), connect("192.0.2.1")
		sending.intoData(t)
		hanging.intoData(t)
		hanging.says("Subject: x", "", ".")
		start := time.Now()
		stop()
		if err := <-done; err != nil || time.Since(start) != 30*time.Second {
			t.Errorf("Run returned %v after %v", err, time.Since(start))
		}
		if got := sending.says(); got != "" || !sending.hungUp() {
			t.Errorf("sending: %q", got)
		}
		if got := hanging.says(); strings.Contains(got, "250") || !hanging.hungUp() {
			t.Errorf("hanging: %q", got)
		}
		if len(d.sessions) != 0 || len(d.clients) != 0 {
			t.Errorf("%d sessions, %d clients left", len(d.sessions), len(d.clients))
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		cfg := testConfig()
		cfg.MaxConnections, cfg.MaxPerClient = 5, 2
		connect, done := open(ctx, testDoor(t, cfg, &fakeGate{}))
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
			got := p.says()
			if step.want == "" && !strings.HasPrefix(got, "220 ") || step.want != "" && (got != step.want || !p.hungUp()) {
				t.Errorf("%s: %q, want %q", step.ip, got, step.want)
			}
		}
		first.says("QUIT")
		if got := connect("192.0.2.1").says(); !strings.HasPrefix(got, "220 ") {
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
		d := testDoor(t, testConfig(), &fakeGate{})
		conn := dial(t.Context(), d)
		defer conn.Close()
		start := time.Now()
		for {
			if _, err := conn.Write([]byte("NOOP\r\n")); err != nil {
				break
			}
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("cut off after %v", took)
		}
		synctest.Wait()
		if len(d.sessions) != 0 {
			t.Error("the session is still there")
		}
	})
}

// A message must not trickle in for ever.
func TestSlowContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxMessageBytes = 1 << 20
		d := testDoor(t, cfg, &fakeGate{})
		p := &player{}
		p.connect(dial(t.Context(), d))
		p.intoData(t)
		start := time.Now()
		for !p.hungUp() {
			time.Sleep(2 * time.Minute)
			p.says("x")
		}
		if took := time.Since(start); took < time.Hour || took > time.Hour+2*time.Minute {
			t.Errorf("cut off after %v", took)
		}
		_ = p.conn.Close()
	})
}

// Content far beyond the limit is not read for ever just to say so.
func TestEndlessContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDoor(t, testConfig(), &fakeGate{})
		p := &player{}
		p.connect(dial(t.Context(), d))
		p.intoData(t)
		line := strings.Repeat("x", 998) + "\r\n"
		var sent int
		for {
			n, err := p.conn.Write([]byte(line))
			sent += n
			if err != nil {
				break
			}
		}
		if got := p.says(); got != "552 5.3.4 Message too big: at most 2000 octets are taken\r\n" || sent > 200_000 {
			t.Errorf("%q after %d octets", got, sent)
		}
		_ = p.conn.Close()
	})
}

// A failed handshake closes the connection, even with a client that goes on in clear.
func TestFailedHandshakeCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.TLS = testTLS(t)
		d := testDoor(t, cfg, &fakeGate{})
		p := &player{}
		p.connect(dial(t.Context(), d))
		if got := p.says("EHLO c.example", "STARTTLS"); !strings.HasSuffix(got, "220 2.0.0 Ready for TLS\r\n") {
			t.Fatalf("%q", got)
		}
		if got := p.says("EHLO c.example", authPlain("s1_1", "secret")); strings.Contains(got, "250") || strings.Contains(got, "235") || !p.hungUp() {
			t.Errorf("goes on in clear: %q", got)
		}
		silent := &player{}
		silent.connect(dial(t.Context(), d))
		silent.says("STARTTLS")
		time.Sleep(30 * time.Second)
		if silent.says(); !silent.hungUp() {
			t.Error("no timeout of the handshake")
		}
		_, _ = p.conn.Close(), silent.conn.Close()
	})
}

// S10: no password, in whatever form it was sent, gets into a log or a reply.
func TestNoSecretInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		d, err := New(testConfig(), Deps{Gate: &fakeGate{}, Authenticator: fakeAuthenticator{}, Registerer: reg, Log: logger})
		if err != nil {
			t.Fatal(err)
		}
		p := &player{}
		p.connect(dial(t.Context(), d))
		b := base64.StdEncoding.EncodeToString
		said := p.says("HELO c.example", authPlain("hunter2", "hunter3"))
		time.Sleep(time.Minute)
		said += p.says("AUTH LOGIN", b([]byte("s1_1")), b([]byte("hunter3")))
		time.Sleep(time.Minute)
		said += p.says("AUTH PLAIN hunter3!", authPlain("s1_1", "secret"), "MAIL FROM:<a@ours.example>", "RCPT TO:<>", "RCPT TO:<b@theirs.example>", "DATA", "Subject: x", ".", "MAIL FROM:<pending@ours.example>")
		for _, secret := range []string{"hunter", "secret", b([]byte("hunter3")), authPlain("s1_1", "secret"), authPlain("hunter2", "hunter3")} {
			if strings.Contains(log.String(), secret) || strings.Contains(said, secret) {
				t.Errorf("%q can be read in\n%s%s", secret, log.String(), said)
			}
		}
		for _, want := range []string{
			`msg="authentication refused"`, `name="(not the form of a user name)" reason=bad_credentials`, "name=s1_1",
			`msg="message accepted"`, "client=192.0.2.7:4711", "user=s1_1", "message=msg_00000000000000000000000004", "recipients=1",
			`msg="recipient refused"`, `msg="message refused"`, "from=pending@ours.example", `reply="550 5.7.1 Sender <pending@ours.example>`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%q is not in\n%s", want, log.String())
			}
		}
		_ = p.conn.Close()
		synctest.Wait()
		got := gathered(t, reg)
		for name, want := range map[string]float64{
			"mittente_msa_connections_total{admitted}": 1,
			"mittente_msa_connections_open{}":          0,
			"mittente_msa_auth_total{ok}":              1,
			"mittente_msa_auth_total{bad_credentials}": 2,
			"mittente_msa_messages_total{accepted}":    1,
			"mittente_msa_messages_total{refused}":     1,
			"mittente_msa_sessions_total{gone}":        1,
			"mittente_msa_data_bytes_total{}":          12,
			"mittente_msa_replies_total{4}":            0,
		} {
			if got[name] != want {
				t.Errorf("%s = %v, want %v", name, got[name], want)
			}
		}
	})
}

func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := ""
			for _, l := range m.GetLabel() {
				label = l.GetValue()
			}
			got[fmt.Sprintf("%s{%s}", f.GetName(), label)] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

// The gate is told what the session is, and gets what the client sent.
func TestWhatTheGateGets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &fakeGate{}
		p := &player{}
		p.connect(dial(t.Context(), testDoor(t, testConfig(), gate)))
		p.says("EHLO client.example", authPlain("s1_1", "secret"),
			"MAIL FROM:<a@ours.example> BODY=8BITMIME SMTPUTF8", "RCPT TO:<b@theirs.example>", "RCPT TO:<gr\u00fc\u00df@theirs.example>", "DATA",
			"Subject: x", "", "..dot\nlone", ".")
		_ = p.conn.Close()
		if len(gate.taken) != 1 || len(gate.sessions) != 1 {
			t.Fatalf("taken %d, sessions %d", len(gate.taken), len(gate.sessions))
		}
		got := gate.taken[0]
		if got.content != "Subject: x\r\n\r\n.dot\r\nlone\r\n" {
			t.Errorf("content %q", got.content)
		}
		if e := got.env; e.From.String() != "a@ours.example" || !e.EightBit || !e.SMTPUTF8 || len(e.To) != 2 || e.To[0].To.String() != "b@theirs.example" || e.To[1].To.String() != "gr\u00fc\u00df@theirs.example" {
			t.Errorf("envelope %+v", e)
		}
		s := gate.sessions[0]
		if s.Helo != "client.example" || s.TLS != "" || s.Client != netip.MustParseAddrPort("192.0.2.7:4711") || s.Principal.User.Name != "s1_1" {
			t.Errorf("session %+v", s)
		}
	})
}

func TestAcceptFailureIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		d := testDoor(t, testConfig(), &fakeGate{})
		l := &failing{closed: make(chan struct{})}
		l.left.Store(20)
		d.listeners = []net.Listener{l}
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- d.Run(ctx) }()
		time.Sleep(time.Minute)
		if n := l.left.Load(); n != -1 {
			t.Errorf("%d failures to go after %v", n, time.Since(start))
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
		"plaintext_auth":         func(c *Config) { c.PlaintextAuth = "maybe" },
		"refuse without TLS":     func(c *Config) { c.PlaintextAuth = PlaintextRefuse },
		"ports":                  func(c *Config) { c.Ports = []string{"smtp"} },
		"bind":                   func(c *Config) { c.Bind = []string{"localhost"} },
		"negative recipients":    func(c *Config) { c.MaxRecipients = -1 },
		"negative message bytes": func(c *Config) { c.MaxMessageBytes = -1 },
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := New(cfg, Deps{Gate: &fakeGate{}, Authenticator: fakeAuthenticator{}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	reg := prometheus.NewRegistry()
	deps := Deps{Gate: &fakeGate{}, Authenticator: fakeAuthenticator{}, Registerer: reg}
	if _, err := New(testConfig(), deps); err != nil {
		t.Error(err)
	}
	if _, err := New(testConfig(), deps); err == nil {
		t.Error("metrics registered twice")
	}
	d := testDoor(t, testConfig(), &fakeGate{})
	if err := d.Run(t.Context()); !errors.Is(err, ErrNoPort) {
		t.Errorf("Run without Listen: %v", err)
	}
}

// No refusal is longer than a reply line may be (RFC 5321 §4.5.3.1.5).
func TestRepliesKeepToTheirLine(t *testing.T) {
	long := strings.Repeat("a", 64) + "@" + strings.TrimSuffix(strings.Repeat(strings.Repeat("b", 30)+".", 6), ".")
	for _, reason := range []submission.Reason{
		submission.NotAuthorised, submission.Pending, submission.FormVisitor, submission.Malformed,
		submission.Loop, submission.StorageFull, submission.StorageDown, submission.CredentialSpent,
	} {
		r, ok := gateRefused(&submission.Rejection{Reason: reason, User: "s12345_12345", Address: long, Event: id.Event{1}, Cause: errors.New(strings.Repeat("x", 5000) + "\r\n250 forged")}, "https://mx.example.org")
		wire := r.Append(nil)
		if len(wire) > 512 || bytes.Count(wire, []byte("\n")) != 1 || !ok {
			t.Errorf("%s: %d octets: %s", reason, len(wire), wire)
		}
	}
	if _, err := mail.ParseAddress(long); err != nil {
		t.Error(err)
	}
	if r, ok := gateRefused(&submission.Rejection{Reason: "new"}, ""); ok || r.Code != 451 {
		t.Errorf("unknown reason: %v", r)
	}
	r, _ := gateRefused(&submission.Rejection{Reason: submission.NotAuthorised, User: "s1_1", Address: "a@b.example"}, "https://mx.example.org")
	if got := r.String(); got != "550 5.7.1 Sender <a@b.example> is not authorised for s1_1: see https://mx.example.org" {
		t.Errorf("without event: %s", got)
	}
}
