package test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// within is how long a command of the CLI may take to have its effect on a running
// server, counted from its end.
const within = time.Second

// soon asks until the answer is yes, for as long as an effect may take.
func soon(t *testing.T, what string, yes func() bool) {
	t.Helper()
	start := time.Now()
	for {
		ok := yes()
		if took := time.Since(start); ok {
			t.Logf("%s: after %v", what, took.Round(time.Millisecond))
			return
		} else if took > within {
			t.Fatalf("%s: not within %v", what, within)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// auth returns the reply to AUTH PLAIN in a fresh session.
func (r *relay) auth(u user) reply {
	r.t.Helper()
	c := dial(r.t, r.smtp)
	defer c.conn.Close()
	c.want("250", "EHLO client.test")
	return c.ask("AUTH PLAIN " + plain(u))
}

// What the CLI changes has its effect on the running server within a second.
func TestS9_S12_ChangesTakeEffectWithinASecond(t *testing.T) {
	s, r := sinkRelay(t, sinkConfig{})
	to := "bob@" + rcptDomain
	r.run("domain", "add", fromDomain)
	u := r.addUser("--domain", fromDomain, "--require-tls=false")
	soon(t, "a new user is known, and not active", func() bool { return strings.Contains(r.auth(u).text, "not active") })
	if _, stderr, err := r.cli("user", "edit", u.Username, "--active"); err == nil {
		t.Errorf("a user without a verified sender was made active (S13): %s", stderr)
	}
	r.run("domain", "verify", fromDomain, "--override", "--reason", "test")
	r.run("user", "edit", u.Username, "--active")
	soon(t, "the user is active", func() bool { return r.auth(u).code == 235 })

	open := dialAs(t, r.smtp, u)
	open.mail("250 2.0.0", fromAddr, to, simple(to, "one"))
	open.want("550 5.7.1", "MAIL FROM:<x@second.test>")
	r.verified("second.test")
	r.run("user", "edit", u.Username, "--domain", fromDomain, "--domain", "second.test")
	soon(t, "a second domain is authorised in the open session", func() bool {
		rep := open.ask("MAIL FROM:<x@second.test>")
		return rep.code == 250
	})
	open.want("250", "RSET")

	var renewed user
	r.query(&renewed, "user", "password", u.Username)
	soon(t, "the old password is refused", func() bool { return r.auth(u).code == 535 })
	if rep := r.auth(user{u.Username, renewed.Password}); rep.code != 235 {
		t.Errorf("the new password: %v; want 235", rep)
	}
	open.want("530 5.7.0 Authentication required: ", "MAIL FROM:<"+fromAddr+">")
	open.closed()

	u = user{u.Username, renewed.Password}
	open = dialAs(t, r.smtp, u)
	r.run("user", "edit", u.Username, "--active=false")
	soon(t, "the user is inactive", func() bool { return r.auth(u).code == 535 })
	open.want("530 5.7.0 Authentication required: ", "MAIL FROM:<"+fromAddr+">")
	open.closed()

	r.run("user", "edit", u.Username, "--active")
	soon(t, "the user is active again", func() bool { return r.auth(u).code == 235 })
	r.run("user", "rm", u.Username)
	soon(t, "the user is gone", func() bool { return r.auth(u).code == 535 })
	if fresh := r.addUser("--domain", fromDomain); fresh.Username == u.Username {
		t.Errorf("the name %s was used again (S4)", u.Username)
	}
	s.wait(t, 1)
}

// A domain is verified by its TXT record, and its keys are as published.
func TestS21_DomainIsVerifiedByDNS(t *testing.T) {
	t.Parallel()
	d := startDNS(t)
	r := startRelay(t, relayConfig{dns: d})
	r.run("domain", "add", fromDomain)
	u := r.addUser("--domain", fromDomain, "--require-tls=false")
	if stdout, _, err := r.cli("domain", "verify", fromDomain); err == nil {
		t.Errorf("a domain without records was verified: %s", stdout)
	}
	if _, _, err := r.cli("user", "edit", u.Username, "--active"); err == nil {
		t.Error("a user without a verified sender was made active (S13)")
	}
	for _, record := range r.records(fromDomain) {
		if record.Type == "TXT" {
			d.addTXT(record.Name, record.Value)
		}
	}
	if txt := d.rrs["_mittente."+fromDomain+"."]; len(txt) != 1 || !strings.Contains(txt[0].String(), "mittente-verify=") {
		t.Errorf("_mittente.%s: %v; want mittente-verify=…", fromDomain, txt)
	}
	waitFor(t, 10*time.Second, "the domain is verified", func() bool {
		_, _, err := r.cli("domain", "verify", fromDomain)
		return err == nil
	})
	r.run("user", "edit", u.Username, "--active")
	soon(t, "the user may send", func() bool {
		c := dialAs(t, r.smtp, u)
		defer c.conn.Close()
		return c.ask("MAIL FROM:<"+fromAddr+">").code == 250
	})
}

// A port that is busy is skipped and shown with the reason; the others are bound.
func TestS7_BusyPortIsSkippedAndShown(t *testing.T) {
	t.Parallel()
	free := freePort(t)
	busy := freePort(t)
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", busy))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := startRelay(t, relayConfig{ports: fmt.Sprintf(`["%d", "%d"]`, free, busy)})
	var shown []struct{ Address, Ports, State, Reason string }
	r.query(&shown, "ports")
	found := map[string]string{}
	for _, p := range shown {
		found[p.State] += p.Ports + " " + p.Reason
	}
	if !strings.HasPrefix(found["bound"], fmt.Sprint(free)) || !strings.HasPrefix(found["skipped"], fmt.Sprint(busy)) || !strings.Contains(found["skipped"], "in use") {
		t.Errorf("ports shows %+v; want %d bound, and %d skipped because it is in use", shown, free, busy)
	}
	dial(t, fmt.Sprintf("127.0.0.1:%d", free)).want("221", "QUIT")
}

// Port 25 and every port from 1025 to 5000 are bound at once, those next to them are
// not; what is busy on this machine, or not permitted, is shown and no trouble.
func TestS7_AllPortsAtOnce(t *testing.T) {
	t.Parallel()
	address := ownLoopback()
	start := time.Now()
	r := startRelay(t, relayConfig{bind: address, ports: `["25", "1025-5000"]`})
	took := time.Since(start)
	var shown []struct {
		State string
		Ports string
		Count int
	}
	r.query(&shown, "ports")
	counts := map[string]int{}
	for _, p := range shown {
		counts[p.State] += p.Count
	}
	t.Logf("ready after %v: %v", took.Round(time.Millisecond), counts)
	if counts["bound"]+counts["skipped"] != 3977 || counts["skipped"] > 100 {
		t.Errorf("ports shows %v; want 3977 in all, nearly all bound", counts)
	}
	answered := 0
	for port := 1025; port <= 5000; port += 25 {
		if w, err := dialWire(fmt.Sprintf("%s:%d", address, port)); err == nil {
			answered++
			w.conn.Close()
		}
	}
	if answered < 150 {
		t.Errorf("%d of 160 ports answered", answered)
	}
	for _, port := range []int{24, 1024, 5001} {
		if w, err := dialWire(fmt.Sprintf("%s:%d", address, port)); err == nil {
			w.conn.Close()
			t.Errorf("port %d answered", port)
		}
	}
}

// ownLoopback is an address on which no other run of the tests listens: Linux
// answers on all of 127.0.0.0/8, elsewhere there is only one.
func ownLoopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.2", 1+pid/256%250, pid%256)
}

// `send` goes through the real door and queue and shows what was said, without secrets.
func TestSendShowsItsTranscript(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	u := r.setUp()
	out := r.run("send", "--user", u.Username, "--from", fromAddr, "--to", "bob@"+rcptDomain)
	for _, want := range []string{"EHLO", "AUTH PLAIN ********\n", "MAIL FROM:<" + fromAddr + ">", "RCPT TO:<bob@" + rcptDomain + ">", "354", "250 2.0.0 Queued as msg_"} {
		if !strings.Contains(out, want) {
			t.Errorf("send does not show %q:\n%s", want, out)
		}
	}
	s.wait(t, 1)
	refused, stderr, err := r.cli("send", "--user", u.Username, "--from", "eve@elsewhere.test", "--to", "bob@"+rcptDomain)
	if err == nil || !strings.Contains(refused+stderr, "550 5.7.1 Sender <eve@elsewhere.test> is not authorised for "+u.Username) {
		t.Errorf("send from a foreign address: %v\n%s%s", err, refused, stderr)
	}
	if rep := r.auth(u); rep.code != 235 {
		t.Errorf("after send the user's own password: %v; want 235", rep)
	}
}

// SIGHUP makes the door show a replaced certificate, and ends no session.
func TestSIGHUPReloadsTheCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	replace := func() {
		t.Helper()
		cert, key := certificate(t, relayHost)
		if err := errorsOf(os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o644), os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	replace()
	r := startRelay(t, relayConfig{extra: fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))})
	shown := func() string {
		c := dial(t, r.smtp)
		defer c.conn.Close()
		return c.starttls().PeerCertificates[0].SerialNumber.String()
	}
	open := dial(t, r.smtp)
	before := shown()
	replace()
	r.signal(syscall.SIGHUP)
	soon(t, "the new certificate is shown", func() bool { return shown() != before })
	open.want("250", "NOOP")
}

// SIGTERM lets a message that is arriving finish with its 250, then says 421 and
// ends with status 0; who waits in between commands hears 421 at once.
func TestShutdownFinishesTheRunningTransaction(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	u := r.setUp()
	busy, idle := dialAs(t, r.smtp, u), dialAs(t, r.smtp, u)
	busy.beginData()
	content := stuff(simple("bob@"+rcptDomain, "last"))
	if err := busy.write(content[:100]); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGTERM)
	if rep, err := idle.read(); err != nil || !strings.HasPrefix(rep.String(), "421 4.3.2") {
		t.Errorf("an idle session hears %v, %v; want 421 4.3.2", rep, err)
	}
	time.Sleep(200 * time.Millisecond)
	if err := busy.write(content[100:]); err != nil {
		t.Fatal(err)
	}
	rep, err := busy.read()
	if err != nil {
		t.Fatal(err)
	}
	queuedID(t, rep)
	if rep, err := busy.read(); err != nil || rep.code != 421 {
		t.Errorf("after the transaction: %v, %v; want 421", rep, err)
	}
	select {
	case err := <-r.exited:
		r.cmd = nil
		if err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the relay did not end")
	}
	r.start() // delivered before the end, or after the next start
	if got := s.wait(t, 1); !bytes.Contains(got[0].content, []byte("Subject: last")) {
		t.Errorf("the sink got %s", got[0].content)
	}
}

// pipelined replies leave together: what follows STARTTLS in one write is never obeyed.
func TestS8_CommandsInjectedBehindSTARTTLSAreRefused(t *testing.T) {
	t.Parallel()
	r := startRelay(t, relayConfig{})
	c := dial(t, r.smtp)
	c.want("250", "EHLO client.test")
	if err := c.write([]byte("STARTTLS\r\nNOOP\r\n")); err != nil {
		t.Fatal(err)
	}
	c.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	var lines []string
	for scanner := bufio.NewScanner(c.r); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	for i, line := range lines {
		if strings.HasPrefix(line, "250") || i > 0 && strings.HasPrefix(lines[0], "220") {
			t.Errorf("replies to an injected command: %q", lines)
			break
		}
	}
}
