package test

import (
	"strings"
	"testing"
	"time"
)

// may returns the reply to MAIL FROM or, when that is 250, to the last RCPT TO.
func (r *relay) may(u user, to ...string) (last reply) {
	r.t.Helper()
	c := dialAs(r.t, r.smtp, u)
	defer c.conn.Close()
	if last = c.ask("MAIL FROM:<" + fromAddr + ">"); last.code != 250 {
		return last
	}
	for _, address := range to {
		last = c.ask("RCPT TO:<" + address + ">")
	}
	return last
}

// What an operator changes about users and senders holds within a second, in sessions
// that are open as well: overlapping passwords, client networks, quotas, revoked domains.
func TestWhatUsersMayDoChangesAtOnce(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	u, to := r.setUp(), "bob@"+rcptDomain
	open := dialAs(t, r.smtp, u)

	var renewed user
	r.query(&renewed, "user", "password", u.Username, "--overlap", "1h")
	soon(t, "the new password works", func() bool { return r.auth(renewed).code == 235 })
	if rep := r.auth(u); rep.code != 235 {
		t.Errorf("the old password in its overlap: %v; want 235", rep)
	}
	open.mail("250 2.0.0", fromAddr, to, simple(to, "by the old password"))
	r.run("user", "password", u.Username)
	soon(t, "without an overlap the oldest is refused", func() bool { return r.auth(u).code == 535 })
	open.want("530 5.7.0 Authentication required: ", "MAIL FROM:<"+fromAddr+">")
	open.closed()

	r.query(&u, "user", "password", u.Username)
	open = dialAs(t, r.smtp, u)
	r.run("user", "edit", u.Username, "--network", "203.0.113.0/24")
	soon(t, "the user is bound to another network", func() bool {
		return strings.HasPrefix(r.auth(u).String(), "535 5.7.8 "+u.Username+" may not be used from 127.0.0.1")
	})
	open.want("530 5.7.0 Authentication required: ", "MAIL FROM:<"+fromAddr+">")
	open.closed()
	if rep := r.auth(user{u.Username, "wrong"}); strings.Contains(rep.text, "network") || strings.Contains(rep.text, "may not") {
		t.Errorf("a wrong password from another network: %v; want nothing about networks", rep)
	}
	r.run("user", "edit", u.Username, "--network", "any")
	soon(t, "the user may come from anywhere", func() bool { return r.auth(u).code == 235 })

	r.run("user", "edit", u.Username, "--quota", "2")
	soon(t, "the third recipient is over the quota", func() bool {
		rep := r.may(u, to, to, to)
		return strings.HasPrefix(rep.String(), "450 4.7.1 ") && strings.Contains(rep.text, "try again in ")
	})
	dialAs(t, r.smtp, u).mail("250 2.0.0", fromAddr, to, simple(to, "one of two"))
	if one, two := r.may(u, to), r.may(u, to, to); one.code != 250 || two.code != 450 {
		t.Errorf("with one of two used, one more: %v; two more: %v; want 250 and 450", one, two)
	}
	r.run("user", "edit", u.Username, "--quota", "0")
	soon(t, "the quota is gone", func() bool { return r.may(u, to, to, to).code == 250 })

	open = dialAs(t, r.smtp, u)
	r.run("domain", "revoke", fromDomain, "--reason", "test")
	soon(t, "the revoked domain is refused in a new session", func() bool {
		return strings.HasPrefix(r.may(u, to).String(), "550 5.7.1 Sender <"+fromAddr+">")
	})
	open.want("550 5.7.1 Sender <"+fromAddr+">", "MAIL FROM:<"+fromAddr+">")
	s.wait(t, 2)
}

// What an operator does with waiting mail is done at once: a paused list attempts
// nothing and says so, a minimum of TLS is kept, mail is held, released, attempted
// again and taken back.
func TestOperationsOnWaitingMail(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{}) // without STARTTLS
	u, to := r.setUp(), "bob@"+rcptDomain
	send := func(subject string) string {
		return queuedID(t, dialAs(t, r.smtp, u).mail("250", fromAddr, to, simple(to, subject)))
	}
	r.run("list", "edit", "1", "--pause")
	time.Sleep(within)
	paused := send("paused")
	time.Sleep(within)
	if got := r.recipients(paused)[0]; got.State != "pending" || got.Attempts != 0 || len(s.received()) != 0 {
		t.Errorf("mail of a paused list: %+v, %d arrived; want it to wait without an attempt", got, len(s.received()))
	}
	if why := r.run("queue", "why", paused); !strings.Contains(why, "paused") {
		t.Errorf("queue why: %s; want it to say that the list is paused", why)
	}
	r.run("list", "edit", "1", "--pause=false")
	r.state(paused, "delivered")

	r.run("list", "edit", "1", "--min-tls", "encrypt")
	time.Sleep(within)
	secret := send("encrypted or not at all")
	if got := r.state(secret, "pending"); !strings.Contains(got.LastReply, "4.7.4") {
		t.Errorf("mail of a list that wants TLS to a server without: %+v; want 4.7.4", got)
	}
	r.run("queue", "hold", "--domain", rcptDomain)
	r.state(secret, "held")
	r.run("list", "edit", "1", "--min-tls", "may")
	r.run("queue", "release", "--domain", rcptDomain)
	r.run("queue", "retry", "--reply", "TLS")
	r.state(secret, "delivered")

	r.run("list", "edit", "1", "--pause")
	time.Sleep(within)
	back := send("taken back")
	r.run("queue", "cancel", "--user", u.Username)
	r.state(back, "cancelled")
	r.run("list", "edit", "1", "--pause=false")
	r.empty(10 * time.Second)
	if n := len(s.received()); n != 2 {
		t.Errorf("%d messages arrived; want 2, and none that was taken back", n)
	}
}
