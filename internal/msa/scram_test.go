package msa

import (
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"mittente/internal/account"
	"mittente/internal/db"
)

const (
	welcome = "235 2.7.0 Authentication successful"
	wrong   = "535 5.7.8 User name or password is wrong"
)

func TestScram(t *testing.T) {
	h := openHouse(t)
	g := h.visit("192.0.2.1")
	if !strings.Contains(strings.Join(g.said, "\n"), "AUTH PLAIN LOGIN SCRAM-SHA-256\n") && g.said[len(g.said)-1] != "250 AUTH PLAIN LOGIN SCRAM-SHA-256" {
		t.Errorf("offered in clear: %q", g.said)
	}
	if got := g.ask("AUTH SCRAM-SHA-256-PLUS"); got != "504 5.5.4 Mechanism not offered: use PLAIN, LOGIN, SCRAM-SHA-256" {
		t.Errorf("-PLUS in clear: %s", got)
	}
	if got := g.scram("SCRAM-SHA-256", "s1_1", h.password, unbound); got != welcome {
		t.Errorf("in clear: %s", got)
	}
	if got := g.ask("MAIL FROM:<a@verified.example>"); got != "250 2.1.0 Sender ok" {
		t.Errorf("after SCRAM: %s", got)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, bind := range []func(*tls.ConnectionState) (scram.ChannelBinding, error){scram.NewTLSExporterBinding, scram.NewTLSServerEndpointBinding} {
			g := h.visit("192.0.2.1")
			state := g.startTLS(&tls.Config{MaxVersion: version})
			if last := g.said[len(g.said)-1]; last != "250 AUTH PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS" {
				t.Errorf("offered in TLS: %s", last)
			}
			binding, err := bind(&state)
			check(t, err)
			got := g.scram("SCRAM-SHA-256-PLUS", "s1_1", h.password, func(c *scram.Client) *scram.ClientConversation {
				return c.NewConversationWithChannelBinding(binding)
			})
			if got != welcome {
				t.Errorf("%s %s: %s", tls.VersionName(version), binding.Type, got)
			}
		}
	}
	g = h.visit("192.0.2.1")
	g.startTLS(&tls.Config{})
	if got := g.scram("SCRAM-SHA-256", "s1_1", h.password, unbound); got != welcome {
		t.Errorf("without binding, in TLS: %s", got)
	}
}

// A resumed session shows no certificate, and binds to the one of before.
func TestScramOverResumedSession(t *testing.T) {
	h := openHouse(t)
	cache := tls.NewLRUClientSessionCache(1)
	resumed := false
	for range 2 {
		g := h.visitTCP()
		state := g.startTLS(&tls.Config{ClientSessionCache: cache})
		binding, err := scram.NewTLSServerEndpointBinding(&state)
		check(t, err)
		got := g.scram("SCRAM-SHA-256-PLUS", "s1_1", h.password, func(c *scram.Client) *scram.ClientConversation {
			return c.NewConversationWithChannelBinding(binding)
		})
		if got != welcome {
			t.Errorf("resumed %v: %s", state.DidResume, got)
		}
		resumed = state.DidResume
	}
	if !resumed {
		t.Error("the second session was not resumed")
	}
}

func TestScramRefusals(t *testing.T) {
	h := openHouse(t)
	foreign := scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: []byte("another session")}
	for _, tt := range []struct {
		name, mechanism, user, password string
		secure                          bool
		bind                            func(*scram.Client) *scram.ClientConversation
		want                            string
	}{
		{"wrong password", "SCRAM-SHA-256", "s1_1", "wrong", true, unbound, wrong},
		{"no such user", "SCRAM-SHA-256", "s1_99", h.password, true, unbound, wrong},
		{"someone in between", "SCRAM-SHA-256-PLUS", "s1_1", h.password, true, func(c *scram.Client) *scram.ClientConversation {
			return c.NewConversationWithChannelBinding(foreign)
		}, "535 5.7.8 The channel binding does not fit this TLS session"},
		{"downgraded", "SCRAM-SHA-256", "s1_1", h.password, true, func(c *scram.Client) *scram.ClientConversation {
			return c.NewConversationAdvertisingChannelBinding()
		}, "535 5.7.8 The channel binding does not fit this TLS session"},
		{"not downgraded: none is offered in clear", "SCRAM-SHA-256", "s1_1", h.password, false, func(c *scram.Client) *scram.ClientConversation {
			return c.NewConversationAdvertisingChannelBinding()
		}, welcome},
		{"by another name", "SCRAM-SHA-256-PLUS", "s1_1", h.password, true, unbound, "501 5.5.2 Not a message of SCRAM-SHA-256, or out of turn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := h.visit("192.0.2.1")
			if tt.secure {
				g.startTLS(&tls.Config{})
			}
			if got := g.scram(tt.mechanism, tt.user, tt.password, tt.bind); got != tt.want {
				t.Errorf("%s", got)
			}
			if tt.want != welcome && g.plain("s1_1", h.password) != welcome {
				t.Error("the session does not go on")
			}
		})
	}
	b := base64.StdEncoding.EncodeToString
	for _, first := range []string{"=", "*", "####", b([]byte("n,,r=abc")), b([]byte("\x00s1_1\x00" + h.password)), b([]byte(strings.Repeat("n", 8000)))} {
		g := h.visit("192.0.2.1")
		if got := g.ask("AUTH SCRAM-SHA-256 " + first); !strings.HasPrefix(got, "501 5.") {
			t.Errorf("%.20q: %s", first, got)
		}
		if got := g.plain("s1_1", h.password); got != welcome {
			t.Errorf("%.20q: the session does not go on: %s", first, got)
		}
	}
	// The last message of the server is answered with nothing (RFC 4954 §4).
	g := h.visit("192.0.2.1")
	client, err := scram.SHA256.NewClient("s1_1", h.password, "")
	check(t, err)
	conversation := client.NewConversation()
	line := "AUTH SCRAM-SHA-256"
	for _, challenge := range []string{"", "334 ", "334 "} {
		got := strings.TrimPrefix(g.ask(line), challenge)
		server, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(got, "334 "))
		check(t, err)
		line, err = conversation.Step(string(server))
		check(t, err)
		line = b([]byte(line))
	}
	if got := g.ask(b([]byte("something"))); !strings.HasPrefix(got, "501 ") {
		t.Errorf("something after the last message: %s", got)
	}
	if got := g.ask("MAIL FROM:<a@verified.example>"); got != "530 5.7.0 Authentication required" {
		t.Errorf("without its end: %s", got)
	}
}

// M2, S8: a user who must use TLS is told so by every mechanism, after the right password.
func TestMustUseTLS(t *testing.T) {
	h := openHouse(t)
	yes := true
	h.edit(account.Edit{RequireTLS: &yes})
	must := "538 5.7.11 Encryption required: s1_1 must use STARTTLS before AUTH"
	g := h.visit("192.0.2.1")
	for name, got := range map[string]string{
		"PLAIN": g.plain("s1_1", h.password),
		"LOGIN": g.login("s1_1", h.password),
		"SCRAM": g.scram("SCRAM-SHA-256", "s1_1", h.password, unbound),
	} {
		if got != must {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := g.plain("s1_1", "wrong"); got != wrong {
		t.Errorf("wrong password: %s", got)
	}
	g.startTLS(&tls.Config{})
	if got := g.login("s1_1", h.password); got != welcome {
		t.Errorf("in TLS: %s", got)
	}
}

// An overlap lets the old password in by SCRAM, too.
func TestScramOverlap(t *testing.T) {
	h := openHouse(t)
	var fresh string
	h.do(func(tx *db.Tx) (err error) {
		fresh, err = h.accounts.SetPassword(tx, "s1_1", 3600e9)
		return err
	})
	for _, password := range []string{h.password, fresh} {
		if got := h.visit("192.0.2.1").scram("SCRAM-SHA-256", "s1_1", password, unbound); got != welcome {
			t.Errorf("%s", got)
		}
	}
}
