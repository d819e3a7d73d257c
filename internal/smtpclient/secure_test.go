package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const starttls = hello + "S: 250-mx\\n250 STARTTLS\nC: STARTTLS\nS: 220 go\nTLS\nSILENCE"

// TestSecurity: what a server can do, and what is asked of it at least.
func TestSecurity(t *testing.T) {
	t.Parallel()
	known, foreign := certificate(t, "mx1.example.net", 0), certificate(t, "mx1.example.net", 0)
	other := certificate(t, "other.example", 0)
	roots := x509.NewCertPool()
	for _, c := range []tls.Certificate{known, other} {
		roots.AddCert(c.Leaf)
	}
	old := func(c tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	}
	with := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	for name, c := range map[string]struct {
		config *tls.Config
		want   Security
		word   string
	}{
		"valid":           {with(known), Verified, "TLS1.3 TLS_AES_128_GCM_SHA256 verified"},
		"unknown issuer":  {with(foreign), Encrypted, "TLS1.3 TLS_AES_128_GCM_SHA256 unverified"},
		"of another host": {with(other), Encrypted, "TLS1.3 TLS_AES_128_GCM_SHA256 unverified"},
		"too old":         {old(known), Weak, "TLS1.1 TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA verified"},
	} {
		for _, least := range []Security{Clear, Encrypted, Verified} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				conn := connect(t, Config{Roots: roots, Dial: overTCP(t, c.config, starttls)}, "")
				if r, err := conn.StartTLS(); err != nil || r.Code != 220 {
					t.Fatal(r, err)
				}
				err := conn.Handshake(t.Context(), least)
				switch {
				case (err == nil) != (c.want >= least):
					t.Errorf("asked for %d: %v", least, err)
				case err != nil:
					if !conn.Broken() || conn.TLS() != "" {
						t.Error("to be used after a failed handshake")
					}
				case conn.Security() != c.want || conn.TLS() != c.word:
					t.Errorf("got %d, %s", conn.Security(), conn.TLS())
				}
				conn.Close()
			})
		}
	}
}

// TestResumedAndExpired: a session is resumed, and its certificate judged by
// today's date all the same.
func TestResumedAndExpired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cert := certificate(t, "mx1.example.net", time.Hour)
		roots := x509.NewCertPool()
		roots.AddCert(cert.Leaf)
		resumed := 0
		config := &tls.Config{Certificates: []tls.Certificate{cert}, VerifyConnection: func(s tls.ConnectionState) error {
			if s.DidResume {
				resumed++
			}
			return nil
		}}
		client := newClient(t, Config{Roots: roots})
		handshake := func(least Security) (Security, error) {
			client.cfg.Dial = server(t, config, starttls[:len(starttls)-len("SILENCE")]+"C: EHLO relay.example.org\nS: 250 mx\nSILENCE")
			c, err := client.Connect(t.Context(), "mx1.example.net", netip.MustParseAddrPort("192.0.2.1:25"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = c.Greeting()
			_, _ = c.Hello()
			_, _ = c.StartTLS()
			if err := c.Handshake(t.Context(), least); err != nil {
				return 0, err
			}
			_, err = c.Hello() // the session comes with what is read
			return c.Security(), err
		}
		for i := range 2 {
			if s, err := handshake(Verified); s != Verified || err != nil || resumed != i {
				t.Errorf("%d: %d, %v; %d resumed", i, s, err, resumed)
			}
		}
		time.Sleep(2 * time.Hour)
		if s, err := handshake(Encrypted); s != Encrypted || err != nil {
			t.Errorf("expired: %d, %v", s, err)
		}
		if _, err := handshake(Verified); err == nil {
			t.Error("an expired certificate is verified")
		}
	})
}

// TestAuthenticate: PLAIN before LOGIN, and nothing else.
func TestAuthenticate(t *testing.T) {
	t.Parallel()
	for offers, c := range map[string]struct {
		dialogue string
		code     int
		err      error
	}{
		"AUTH LOGIN PLAIN": {"C: AUTH PLAIN AHUAcA==\nS: 235 ok", 235, nil},
		"AUTH LOGIN":       {"C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dQ==\nS: 334 UGFzc3dvcmQ6\nC: cA==\nS: 535 5.7.8 no", 535, nil},
		"AUTH LOGIN X":     {"C: AUTH LOGIN\nS: 504 not today", 504, nil},
		"AUTH CRAM-MD5":    {"SILENCE", 0, ErrNoMechanism},
		"HELP":             {"SILENCE", 0, ErrNoMechanism},
	} {
		conn := connect(t, Config{}, hello+`S: 250-mx\n250 `+offers+"\n"+c.dialogue)
		if r, err := conn.Authenticate("u", "p"); r.Code != c.code || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", offers, r, err)
		}
		conn.Close()
	}
}

// TestCalls: what a server calls itself, EHLO or not.
func TestCalls(t *testing.T) {
	t.Parallel()
	if c := connect(t, Config{}, hello+"S: 250 MX1.example.net at your service"); c.Calls() != "MX1.example.net" {
		t.Error(c.Calls())
	}
	if c := connect(t, Config{}, hello+"S: 502 what\nC: HELO relay.example.org\nS: 250 old.example"); c.Calls() != "old.example" {
		t.Error(c.Calls())
	}
}

// TestConnect: who is not there, and who does not want to wait.
func TestConnect(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("no name to say")
	}
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t, Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		at := netip.MustParseAddrPort("[2001:db8::1]:25")
		began := time.Now()
		if _, err := client.Connect(t.Context(), "mx", at); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrInterrupted) || time.Since(began) != 15*time.Second {
			t.Error(err, time.Since(began))
		}
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, err := client.Connect(ctx, "mx", at); !errors.Is(err, ErrInterrupted) || !errors.Is(err, cause) {
			t.Error(err)
		}
	})
}

// TestStages: each has a time of its own.
func TestStages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for offers, want := range map[string]time.Duration{
			"S: 250 mx\nC: STARTTLS\nSILENCE":                             5 * time.Minute,
			"S: 250 mx\nC: MAIL FROM:<sender@example.org>\nSILENCE":       5 * time.Minute,
			"S: 250-mx\\n250 STARTTLS\nC: STARTTLS\nS: 220 go\nSILENCE":   5 * time.Minute,
			"S: 250-mx\\n250 AUTH PLAIN\nC: AUTH PLAIN AHUAcA==\nSILENCE": 5 * time.Minute,
		} {
			conn := connect(t, Config{}, hello+offers)
			began := time.Now()
			var err error
			switch {
			case strings.Contains(offers, "AUTH"):
				_, err = conn.Authenticate("u", "p")
			case strings.Contains(offers, "220"):
				_, _ = conn.StartTLS()
				err = conn.Handshake(t.Context(), Clear)
			case strings.Contains(offers, "MAIL"):
				tx, _ := conn.Begin(bufio.NewWriter(nil), envelope(t, "a@example.net"), Grouped)
				_, err = tx.Mail()
			default:
				_, err = conn.StartTLS()
			}
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != want || !conn.Broken() {
				t.Errorf("%q: %v after %v", offers, err, took)
			}
			conn.Close()
		}
	})
}

// holding keeps what is written until it is let go, in one write.
type holding struct {
	net.Conn
	held *bytes.Buffer // nil: nothing is kept
}

func (h *holding) Write(p []byte) (int, error) {
	if h.held != nil {
		return h.held.Write(p)
	}
	return h.Conn.Write(p)
}

func (h *holding) flush() error {
	text := h.held.Bytes()
	h.held = nil
	_, err := h.Conn.Write(text)
	return err
}

// TestQuiet: what TLS has read in excess of a reply is noticed, too.
func TestQuiet(t *testing.T) {
	t.Parallel()
	for want, replies := range map[bool][]string{true: {"250 ok\r\n"}, false: {"250 ok\r\n", "250 and what is this\r\n"}} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			server := &holding{Conn: far}
			go func() {
				cert := certificate(t, "mx1.example.net", 0)
				tc := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert}})
				if err := tc.Handshake(); err != nil {
					t.Error(err)
					return
				}
				server.held = new(bytes.Buffer)
				for _, r := range replies {
					_, _ = io.WriteString(tc, r)
				}
				if err := server.flush(); err != nil {
					t.Error(err)
				}
			}()
			nc := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
			client := newClient(t, Config{})
			c := &Conn{client: client, nc: nc, socket: near, r: bufio.NewReader(nc), timeouts: &client.cfg.Timeouts}
			if r, err := c.reply(AtRcpt); err != nil || r.Code != 250 {
				t.Fatal(r, err)
			}
			if c.r.Buffered() > 0 {
				t.Error("that is seen without asking TLS")
			}
			if got := c.Quiet(); got != want {
				t.Errorf("%q: quiet %v", replies, got)
			}
		})
	}
}
