package test

import (
	netmail "net/mail"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sinkRelay starts a sink that the DNS names as MX of rcptDomain, and a relay.
func sinkRelay(t *testing.T, c sinkConfig) (*sink, *relay) {
	t.Helper()
	port := freePort(t)
	c.addr = "127.0.0.2:" + strconv.Itoa(port)
	s := startSink(t, c)
	return s, startRelay(t, relayConfig{dns: mailDNS(t, rcptDomain, "127.0.0.2"), deliveryPort: port})
}

// parse reads a delivered message as a recipient's program would.
func parse(t *testing.T, m *arrived) netmail.Header {
	t.Helper()
	message, err := netmail.ReadMessage(strings.NewReader(string(m.content)))
	if err != nil {
		t.Fatalf("%v\n%s", err, m.content)
	}
	return message.Header
}

// What RFC 6409 §8 allows is added when it is missing, once; Bcc goes; and of a
// user's priority and note the recipient sees the one and never the other.
func TestS14_S15_HeadersAreCompleted(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	r.verified(fromDomain)
	const marker = "noteMARKER4711"
	urgent := r.addUser("--domain", fromDomain, "--active", "--require-tls=false", "--priority", "1", "--note", marker)
	low := r.addUser("--domain", fromDomain, "--active", "--require-tls=false", "--priority", "5")
	usual := r.addUser("--domain", fromDomain, "--active", "--require-tls=false")
	const to = "bob@" + rcptDomain
	from := "From: <" + fromAddr + ">\r\n"
	for _, c := range []struct {
		name, header string
		user         user
		want         map[string]string // field to its beginning; "" says that it is absent
	}{
		{"nothing but From", from, usual, map[string]string{"From": "<" + fromAddr, "X-Priority": "", "Importance": "", "X-Msmail-Priority": ""}},
		{"no From either", "Subject: x\r\n", usual, map[string]string{"From": fromAddr, "Subject": "x"}},
		{
			"own Date and Message-ID", from + "Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-Id: <own@client.test>\r\n", usual,
			map[string]string{"Date": "Tue, 24 Nov 2026 10:00:00 +0000", "Message-Id": "<own@client.test>"},
		},
		{"Bcc", from + "Bcc: secret@x.test,\r\n other@x.test\r\nX-After: y\r\n", usual, map[string]string{"Bcc": "", "X-After": "y"}},
		{"urgent", from, urgent, map[string]string{"X-Priority": "1", "Importance": "high", "X-Msmail-Priority": "High"}},
		{"urgent over low", from + "X-Priority: 5\r\nImportance: low\r\n", urgent, map[string]string{"X-Priority": "1", "Importance": "high"}},
		{"low under urgent", from + "X-Priority: 2 (High)\r\n", low, map[string]string{"X-Priority": "2 (High)", "Importance": ""}},
		{"low", from, low, map[string]string{"X-Priority": "5", "Importance": "low", "X-Msmail-Priority": "Low"}},
	} {
		before := len(s.received())
		session := dialAs(t, r.smtp, c.user)
		session.mail("250 2.0.0", fromAddr, to, []byte(c.header+"\r\nHello.\r\n"))
		got := s.wait(t, before+1)[before]
		fields := parse(t, got)
		for name, want := range c.want {
			values := fields[name]
			if want == "" && len(values) > 0 || want != "" && (len(values) != 1 || !strings.HasPrefix(strings.ToLower(values[0]), strings.ToLower(want))) {
				t.Errorf("%s: %s: %q; want %q", c.name, name, values, want)
			}
		}
		for _, name := range []string{"From", "Date", "Message-Id"} {
			if len(fields[name]) != 1 {
				t.Errorf("%s: %s: %q; want one", c.name, name, fields[name])
			}
		}
		if date, err := fields.Date(); err != nil || c.name != "own Date and Message-ID" && time.Since(date).Abs() > time.Minute {
			t.Errorf("%s: Date: %v, %v", c.name, date, err)
		}
		for _, secret := range []string{marker, "secret@x.test", "other@x.test"} {
			if strings.Contains(string(got.content), secret) {
				t.Errorf("%s: %s was delivered:\n%s", c.name, secret, got.content)
			}
		}
	}
}

// Mail of a subdomain that a wildcard covers is signed with the key of the domain
// that was verified, so that DMARC aligns in its relaxed mode.
func TestWildcardSignsWithItsBaseDomain(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	const base, to = "wild.test", "bob@" + rcptDomain
	r.verified(base)
	u := r.addUser("--domain", "*."+base, "--active", "--require-tls=false")
	from := "alice@deep.sub." + base
	dialAs(t, r.smtp, u).mail("250 2.0.0", from, to, []byte("From: <"+from+">\r\nSubject: wild\r\n\r\nHello.\r\n"))
	verifyInGo(t, s.wait(t, 1)[0].content, base, keys(r.records(base)))
}
