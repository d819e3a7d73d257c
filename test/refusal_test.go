package test

import (
	"strings"
	"testing"
	"time"
)

// The table of replies of the door, as clients get them.
func TestS19_S20_S24_RefusalsSayWhatToDo(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	to := "bob@" + rcptDomain
	r.verified(fromDomain)
	r.run("domain", "add", "pending.test")
	u := r.addUser("--domain", fromDomain, "--domain", "pending.test", "--sender", "one@other.test", "--active", "--require-tls=false")
	encrypted := r.addUser("--domain", fromDomain, "--active")
	inactive := r.addUser("--domain", fromDomain, "--require-tls=false")

	for _, c := range []struct {
		name string
		as   user
		want string
	}{
		{"wrong password", user{u.Username, "wrong"}, "535 5.7.8 "},
		{"unknown user", user{"s1_999", u.Password}, "535 5.7.8 "},
		{"inactive", inactive, "535 5.7.8 " + inactive.Username + " is not active"},
		{"wrong password of an inactive user", user{inactive.Username, "wrong"}, "535 5.7.8 User name or password is wrong"},
		{"in clear, where TLS is required", encrypted, "538 5.7.11 Encryption required"},
		{"wrong password in clear, where TLS is required", user{encrypted.Username, "wrong"}, "535 5.7.8 "},
	} {
		if rep := r.auth(c.as); !strings.HasPrefix(rep.String(), c.want) {
			t.Errorf("%s: %v; want %s", c.name, rep, c.want)
		}
	}
	secure := dial(t, r.smtp)
	secure.starttls()
	secure.want("250", "EHLO client.test")
	secure.want("235", "AUTH PLAIN "+plain(encrypted))

	for _, c := range []struct{ name, from, content, want string }{
		{"foreign MAIL FROM", "eve@elsewhere.test", "", "550 5.7.1 Sender <eve@elsewhere.test> is not authorised for " + u.Username + ": see http"},
		{"subdomain", "eve@sub." + fromDomain, "", "550 5.7.1 Sender <eve@sub." + fromDomain + "> is not authorised"},
		{"pending domain", "x@pending.test", "", "550 5.7.1 Sender <x@pending.test> is awaiting verification for " + u.Username},
		{"pending address", "one@other.test", "", "550 5.7.1 Sender <one@other.test> is awaiting verification for " + u.Username},
		{"visitor of a form", fromAddr, "From: <visitor@elsewhere.test>\r\n", "550 5.7.1 From <visitor@elsewhere.test> is not authorised for " + u.Username + "; put visitors of a form in Reply-To"},
		{"foreign second From", fromAddr, "From: <" + fromAddr + ">, <visitor@elsewhere.test>\r\nSender: <" + fromAddr + ">\r\n", "550 5.7.1 "},
		{"foreign Sender", fromAddr, "From: <" + fromAddr + ">\r\nSender: <visitor@elsewhere.test>\r\n", "550 5.7.1 "},
		{"two From fields", fromAddr, "From: <" + fromAddr + ">\r\nFrom: <" + fromAddr + ">\r\n", "550 5.6.0 "},
		{"empty group", fromAddr, "From: nobody:;\r\n", "550 5.6.0 "},
		{"space before the colon", fromAddr, "From : <visitor@elsewhere.test>\r\n", "550 5.6.0 "},
		{"null reverse-path, foreign From", "", "From: <visitor@elsewhere.test>\r\n", "550 5.7.1 "},
		{"null reverse-path, no From", "", "Subject: x\r\n", "550 5.6.0 "},
		{"null reverse-path, own From", "", "From: <" + fromAddr + ">\r\n", "250 2.0.0 Queued as "},
		{"visitor in Reply-To", fromAddr, "From: <" + fromAddr + ">\r\nReply-To: <visitor@elsewhere.test>\r\n", "250 2.0.0 Queued as "},
		{"domain in capitals", "Alice@SENDER.Test", "From: <ALICE@Sender.test>\r\n", "250 2.0.0 Queued as "},
	} {
		session := dialAs(t, r.smtp, u)
		rep, err := session.send(c.from, to, []byte(c.content+"\r\nHello.\r\n"))
		if err != nil || !strings.HasPrefix(rep.String(), c.want) || strings.Contains(rep.text, "\n") {
			t.Errorf("%s: %v, %v; want %s on one line", c.name, rep, err, c.want)
		}
	}
	s.wait(t, 3)
	r.empty(10 * time.Second)
	if n := len(s.received()); n != 3 {
		t.Errorf("%d messages were relayed; want the 3 that were accepted", n)
	}
}

// The relay is never open: whatever is tried without AUTH, nothing gets through.
func TestNeverAnOpenRelay(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	u := r.setUp()
	to := "bob@" + rcptDomain
	for name, lines := range map[string][]string{
		"no AUTH":                  {"EHLO x", "MAIL FROM:<" + fromAddr + ">"},
		"HELO":                     {"HELO x", "MAIL FROM:<" + fromAddr + ">"},
		"null reverse-path":        {"EHLO x", "MAIL FROM:<>"},
		"from ourselves":           {"EHLO " + relayHost, "MAIL FROM:<postmaster@" + relayHost + ">"},
		"localhost":                {"EHLO localhost", "MAIL FROM:<root@localhost>"},
		"AUTH as parameter":        {"EHLO x", "MAIL FROM:<" + fromAddr + "> AUTH=<>"},
		"failed AUTH":              {"EHLO x", "AUTH PLAIN " + plain(user{u.Username, "wrong"}), "MAIL FROM:<" + fromAddr + ">"},
		"empty password":           {"EHLO x", "AUTH PLAIN " + plain(user{u.Username, ""}), "MAIL FROM:<" + fromAddr + ">"},
		"AUTH cancelled":           {"EHLO x", "AUTH LOGIN", "*", "MAIL FROM:<" + fromAddr + ">"},
		"unknown mechanism":        {"EHLO x", "AUTH ANONYMOUS eA==", "MAIL FROM:<" + fromAddr + ">"},
		"percent hack":             {"EHLO x", "MAIL FROM:<bob%" + rcptDomain + "@" + relayHost + ">"},
		"RCPT without MAIL":        {"EHLO x", "RCPT TO:<" + to + ">"},
		"DATA without MAIL":        {"EHLO x", "DATA"},
		"other user as authorizer": {"EHLO x", "AUTH PLAIN " + plain(user{"", u.Password}), "MAIL FROM:<" + fromAddr + ">"},
	} {
		c := dial(t, r.smtp)
		var last reply
		for _, line := range append(lines, "RCPT TO:<"+to+">", "DATA") {
			last = c.ask(line)
			if strings.HasPrefix(line, "MAIL") && !strings.HasPrefix(last.String(), "530 5.7.0 Authentication required") {
				t.Errorf("%s: MAIL: %v; want 530 5.7.0 Authentication required", name, last)
			}
			if strings.HasPrefix(line, "RCPT") && last.code < 500 {
				t.Errorf("%s: RCPT: %v; want 5xx", name, last)
			}
		}
		if last.code < 500 {
			t.Errorf("%s: DATA: %v; want 5xx", name, last)
		}
	}
	time.Sleep(200 * time.Millisecond)
	if n := len(s.received()); n != 0 {
		t.Errorf("%d messages were relayed", n)
	}
}
