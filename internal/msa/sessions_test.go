package msa

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mittente/internal/account"
	"mittente/internal/db"
)

// Every way to authenticate says the same of a wrong password and of a user that
// is not there.
func TestUnknownUserReadsLikeWrongPassword(t *testing.T) {
	h := openHouse(t)
	said := map[string][]string{}
	for i, user := range []string{"s1_1", "s1_2", "root"} {
		for name, auth := range map[string]func(*guest) string{
			"PLAIN": func(g *guest) string { return g.plain(user, "wrong") },
			"LOGIN": func(g *guest) string { return g.login(user, "wrong") },
			"SCRAM": func(g *guest) string { return g.scram("SCRAM-SHA-256", user, "wrong", unbound) },
		} {
			g := h.visit(fmt.Sprintf("192.0.2.%d", i+1))
			if got := auth(g); got != wrong {
				t.Errorf("%s %s: %s", name, user, got)
			}
			said[name] = append(said[name], fmt.Sprint(len(g.said)))
		}
	}
	for name, counts := range said {
		if counts[0] != counts[1] || counts[0] != counts[2] {
			t.Errorf("%s: lines of the server %v", name, counts)
		}
	}
}

// guess tries three passwords; false: the guesser has to wait.
func guess(h *house, session int) bool {
	h.t.Helper()
	g := h.visit("198.51.100.1")
	for try := range 3 {
		got := g.plain("s1_1", fmt.Sprintf("wrong %d %d", session, try))
		want := wrong
		if try == 2 {
			want = "421 4.7.0 Too many wrong passwords, closing"
		}
		if strings.HasPrefix(got, "421 4.7.0 Too many wrong passwords from your address: try again in ") {
			if g.ask("NOOP") != "" {
				h.t.Error("the session goes on")
			}
			return false
		}
		if got != want {
			h.t.Fatalf("try %d of session %d: %s", try, session, got)
		}
	}
	return true
}

// Guessing from one address gets it 421; the right password from another one is let in.
func TestBruteForce(t *testing.T) {
	h := openHouse(t)
	for session := 0; guess(h, session); session++ {
		if session == 100 {
			t.Fatal("nobody stops the guesser")
		}
	}
	for name, got := range map[string]string{
		"PLAIN": h.visit("198.51.100.1").plain("s1_1", h.password),
		"SCRAM": h.visit("198.51.100.1").scram("SCRAM-SHA-256", "s1_1", h.password, unbound),
	} {
		if !strings.HasPrefix(got, "421 4.7.0 Too many wrong passwords from your address") {
			t.Errorf("%s: the guesser may go on guessing: %s", name, got)
		}
	}
	if got := h.visit("192.0.2.9").plain("s1_1", h.password); got != welcome {
		t.Errorf("from elsewhere: %s", got)
	}
	if got := h.visit("2001:db8::9").scram("SCRAM-SHA-256", "s1_1", h.password, unbound); got != welcome {
		t.Errorf("from elsewhere by SCRAM: %s", got)
	}
}

// The same password by several mechanisms, and a bare MAIL FROM: one failure.
func TestMechanismsInTurnAreOneFailure(t *testing.T) {
	h := openHouse(t)
	g := h.visit("192.0.2.1")
	for range 3 {
		steps := []string{
			g.scram("SCRAM-SHA-256", "s1_1", "wrong", unbound),
			g.plain("s1_1", "wrong"),
			g.login("s1_1", "wrong"),
		}
		for i, got := range steps {
			if got != wrong {
				t.Fatalf("step %d: %q", i, got)
			}
		}
		if got := g.ask("MAIL FROM:<a@verified.example>"); got != "530 5.7.0 Authentication required" {
			t.Fatalf("MAIL: %s", got)
		}
		g = h.visit("192.0.2.1")
	}
	if got := g.plain("s1_1", h.password); got != welcome {
		t.Errorf("the right one at last: %s", got)
	}
}

// S6, S9, S12: what an operator changes holds from the next MAIL on in sessions that are open.
func TestEffectInOpenSessions(t *testing.T) {
	no := false
	networks := []netip.Prefix{prefix("198.51.100.0/24")}
	for _, tt := range []struct {
		name   string
		change func(*house)
		want   string
	}{
		{"password", func(h *house) {
			h.do(func(tx *db.Tx) error { _, err := h.accounts.SetPassword(tx, "s1_1", 0); return err })
		}, "530 5.7.0 Authentication required: the password of s1_1 was changed"},
		{"inactive", func(h *house) { h.edit(account.Edit{Active: &no}) }, "530 5.7.0 Authentication required: s1_1 is not active any more"},
		{"networks", func(h *house) { h.edit(account.Edit{Networks: &networks}) }, "530 5.7.0 Authentication required: s1_1 may not be used from here"},
		{"removed", func(h *house) {
			h.do(func(tx *db.Tx) error { return h.accounts.RemoveUser(tx, "s1_1") })
		}, "530 5.7.0 Authentication required: user s1_1 was removed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := openHouse(t)
			idle, busy := h.visit("192.0.2.1"), h.visit("192.0.2.1")
			if idle.plain("s1_1", h.password) != welcome || busy.plain("s1_1", h.password) != welcome {
				t.Fatal("not let in")
			}
			busy.ask("MAIL FROM:<a@verified.example>")
			busy.ask("RCPT TO:<b@theirs.example>")
			tt.change(h)
			// What has begun is let finish: authorisation was judged at MAIL.
			busy.ask("DATA")
			if got := busy.ask("From: a@verified.example\r\n\r\nx\r\n."); !strings.HasPrefix(got, "250 2.0.0 Queued as msg_") {
				t.Errorf("running transaction: %s", got)
			}
			for _, g := range []*guest{idle, busy} {
				if got := g.ask("MAIL FROM:<a@verified.example>"); got != tt.want {
					t.Errorf("next MAIL: %s", got)
				}
				if g.ask("NOOP") != "" {
					t.Error("the session goes on")
				}
			}
		})
	}
}

// The record of a refusal has the reply and the transcript, and no password or content.
func TestRefusalIsRecorded(t *testing.T) {
	h := openHouse(t)
	g := h.visit("192.0.2.1")
	g.plain("s1_1", "hunter2")
	if got := g.login("s1_1", h.password); got != welcome {
		t.Fatal(got)
	}
	atMail := g.ask("MAIL FROM:<me@foreign.example>")
	g.ask("MAIL FROM:<a@verified.example> BODY=8BITMIME")
	g.ask("RCPT TO:<b@theirs.example>")
	g.ask("DATA")
	atData := g.ask("From: visitor@foreign.example\r\nSubject: confidential\r\n\r\nx\r\n.")
	all := h.refusals()
	if len(all) != 2 {
		t.Fatalf("%d records: %+v", len(all), all)
	}
	for i, reply := range []string{atData, atMail} {
		r := all[i]
		if r.Reply != reply || !strings.HasPrefix(reply, "550 5.7.1 ") || !strings.HasSuffix(r.Transcript, "S: "+reply+"\n") {
			t.Errorf("reply %q, recorded %q in\n%s", reply, r.Reply, r.Transcript)
		}
		for _, secret := range []string{"hunter2", h.password, authPlain("s1_1", "hunter2")[11:], "confidential"} {
			if strings.Contains(r.Transcript, secret) {
				t.Errorf("%q can be read in\n%s", secret, r.Transcript)
			}
		}
		for _, want := range []string{"S: 220 mx.example.org ESMTP mittente\nC: EHLO shop.example\n", "C: AUTH PLAIN ****\nS: 535 ", "C: AUTH LOGIN\n", "C: ****\n", "C: MAIL FROM:<me@foreign.example>\n"} {
			if !strings.Contains(r.Transcript, want) {
				t.Errorf("no %q in\n%s", want, r.Transcript)
			}
		}
	}
	if !strings.Contains(all[0].Transcript, atMail+"\nC: MAIL FROM:<a@verified.example> BODY=8BITMIME\nS: 250 2.1.0 Sender ok\nC: RCPT TO:<b@theirs.example>\n") {
		t.Errorf("transcript\n%s", all[0].Transcript)
	}
}

// A quota refuses at RCPT, for now, and says when to come back.
func TestQuotaAtRcpt(t *testing.T) {
	h := openHouse(t)
	two := int64(2)
	h.edit(account.Edit{QuotaPerHour: &two})
	g := h.visit("192.0.2.1")
	g.plain("s1_1", h.password)
	g.ask("MAIL FROM:<a@verified.example>")
	for i := range 3 {
		got := g.ask(fmt.Sprintf("RCPT TO:<b%d@theirs.example>", i))
		if i < 2 && got != "250 2.1.5 Recipient ok" || i == 2 && !strings.HasPrefix(got, "450 4.7.1 s1_1 has used up its 2 recipients of this hour: try again in 60 minutes") {
			t.Errorf("recipient %d: %s", i, got)
		}
	}
	g.ask("DATA")
	if got := g.ask("Subject: x\r\n\r\nbody\r\n."); !strings.HasPrefix(got, "250 2.0.0 Queued as ") {
		t.Errorf("those that fit: %s", got)
	}
	g.ask("MAIL FROM:<a@verified.example>")
	if got := g.ask("RCPT TO:<c@theirs.example>"); !strings.HasPrefix(got, "450 4.7.1 ") {
		t.Errorf("next message: %s", got)
	}
}
