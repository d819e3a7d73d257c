package msa

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/sender"
	"mittente/internal/submission"
)

// S10: no password, in whatever form it was sent, gets into a log or a reply.
func TestNoSecretInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		d, err := New(testConfig(), Deps{Gate: &fakeGate{}, Authenticator: newFakeAuthenticator(), Registerer: reg, Log: logger})
		if err != nil {
			t.Fatal(err)
		}
		p := dial(t.Context(), d)
		b := base64.StdEncoding.EncodeToString
		said := p.Says("HELO c.example", authPlain("hunter2", "hunter3"))
		time.Sleep(time.Minute)
		said += p.Says("AUTH LOGIN", b([]byte("s1_1")), b([]byte("hunter3")))
		time.Sleep(time.Minute)
		said += p.Says("AUTH PLAIN hunter3!", authPlain("s1_1", "secret"), "MAIL FROM:<a@ours.example>", "RCPT TO:<>", "RCPT TO:<b@theirs.example>", "DATA", "Subject: x", ".", "MAIL FROM:<pending@ours.example>")
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
		_ = p.Conn.Close()
		synctest.Wait()
		got := gathered(t, reg)
		for name, want := range map[string]float64{
			"mittente_msa_auth_total{ok}":                      1,
			"mittente_msa_auth_total{bad_credentials}":         2,
			"mittente_msa_faults_total{}":                      0,
			"mittente_smtpserver_connections_total{admitted}":  1,
			"mittente_smtpserver_connections_open{}":           0,
			"mittente_smtpserver_transactions_total{accepted}": 1,
			"mittente_smtpserver_transactions_total{refused}":  1,
			"mittente_smtpserver_sessions_total{gone}":         1,
			"mittente_smtpserver_data_bytes_total{}":           12,
			"mittente_smtpserver_replies_total{4}":             0,
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
		p := dial(t.Context(), testDoor(t, testConfig(), gate))
		p.Says("EHLO client.example", authPlain("s1_1", "secret"),
			"MAIL FROM:<a@ours.example> BODY=8BITMIME SMTPUTF8", "RCPT TO:<b@theirs.example>", "RCPT TO:<gr\u00fc\u00df@theirs.example>", "DATA",
			"Subject: x", "", "..dot\nlone", ".")
		_ = p.Conn.Close()
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

// A sender that waits, one that was declined and one that was revoked want
// different things done (S21).
func TestUnprovenSendersSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		kind  sender.Kind
		state sender.State
		want  string
	}{
		{sender.KindAddress, sender.StatePending, "is awaiting verification for s1_1: answer the email we sent, or see"},
		{sender.KindDomain, sender.StatePending, "is awaiting verification for s1_1: publish the DNS records of its domain, or see"},
		{sender.KindDomain, sender.StateFailed, "is awaiting verification for s1_1: publish the DNS records of its domain, or see"},
		{sender.KindAddress, sender.StateFailed, "was declined by its owner for s1_1: use another sender, or see"},
		{sender.KindAddress, sender.StateRevoked, "was revoked for s1_1: have it verified again, or see"},
		{sender.KindWildcard, sender.StateRevoked, "was revoked for s1_1: have it verified again, or see"},
	} {
		r, _ := gateRefused(&submission.Rejection{
			Reason: submission.Pending, User: "s1_1", Address: "a@b.example", Kind: c.kind, State: c.state,
		}, "https://mx.example.org")
		if want := "550 5.7.1 Sender <a@b.example> " + c.want + " https://mx.example.org"; r.String() != want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.state, c.kind, r, want)
		}
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"plaintext_auth":     func(c *Config) { c.PlaintextAuth = "maybe" },
		"refuse without TLS": func(c *Config) { c.PlaintextAuth = PlaintextRefuse },
		"the wire's":         func(c *Config) { c.Wire.Hostname = "" },
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := New(cfg, Deps{Gate: &fakeGate{}, Authenticator: newFakeAuthenticator()}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	deps := Deps{Gate: &fakeGate{}, Authenticator: newFakeAuthenticator(), Registerer: prometheus.NewRegistry()}
	if _, err := New(testConfig(), deps); err != nil {
		t.Error(err)
	}
	if _, err := New(testConfig(), deps); err == nil {
		t.Error("metrics registered twice")
	}
}
