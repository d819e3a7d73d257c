package test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// happened is what `message show` says of one thing that happened to a message.
type happened struct{ Kind, Reply, TLS string }

// outcome returns the last attempt of a message.
func (r *relay) outcome(message string) happened {
	r.t.Helper()
	var detail struct{ Events []happened }
	r.query(&detail, "message", "show", message)
	last := happened{}
	for _, event := range detail.Events {
		if event.Reply != "" {
			last = event
		}
	}
	return last
}

// protection is one way in which a server protects a connection, and what becomes of
// mail that asks for the best there is, and of mail that asks for a verified host.
type protection struct {
	name     string
	tls      string // what the record of the attempt says, a regular expression
	verified string // the state of a recipient whose route wants a verified host
	why      string // what its reply says then
}

func protections() []protection {
	return []protection{
		{"clear", `^$`, "pending", "TLS"},
		{"trusted", `^TLS1\.[23] TLS_\w+ verified$`, "delivered", "250"},
		{"expired", `^TLS1\.[23] TLS_\w+ unverified$`, "pending", "expired"},
		{"foreign", `^TLS1\.[23] TLS_\w+ unverified$`, "pending", "certificate"},
	}
}

// brokenOff is what becomes of the protections of a server that offers STARTTLS and
// can't do it: mail goes in clear on another connection, and where a verified host is
// asked for, it waits.
func (p protection) brokenOff() protection {
	if p.name != "clear" {
		p.tls, p.verified, p.why = `^$`, "pending", "4.7.5 TLS: "
	}
	return p
}

// doors gives a server an address for each protection. The keys are RSA, which
// every server can use.
func doors(t *testing.T, a authority, server string, number int) []door {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var all []door
	for i, p := range protections() {
		d := door{name: p.name, ip: fmt.Sprintf("127.0.2.%d", 10*number+i)}
		host := p.name + ".mx." + server + ".test"
		switch p.name {
		case "trusted":
			d.cert, d.key = a.issue(t, host, time.Now().Add(24*time.Hour), key)
		case "expired":
			d.cert, d.key = a.issue(t, host, time.Now().Add(-time.Hour), key)
		case "foreign":
			d.cert, d.key = authority{}.issue(t, "elsewhere.test", time.Now().Add(24*time.Hour), key)
		}
		all = append(all, d)
	}
	return all
}

// Postfix, Exim and OpenSMTPD, each found by MX, get mail as it was sent: in clear where
// they offer nothing better, and encrypted whether or not their certificate can be
// trusted. The record says which it was; and where a verified host is asked for,
// what can't be verified waits and says why. A server whose handshake fails gets it
// in clear, on another connection.
func TestM1_ServersOfOtherMakesReceive(t *testing.T) {
	t.Parallel()
	need(t, "linux", "root")
	ca, port := newAuthority(t), freePort(t)
	d := startDNS(t)
	var routes strings.Builder
	listen := make(map[string][]door)
	for number, server := range mailServers() {
		listen[server.name] = doors(t, ca, server.name, number)
		for _, door := range listen[server.name] {
			host := door.name + ".mx." + server.name + ".test"
			d.add(fmt.Sprintf("%s. 300 IN A %s", host, door.ip))
			d.add(fmt.Sprintf("%s.%s.test. 300 IN MX 10 %s.", door.name, server.name, host))
			fmt.Fprintf(&routes, "[[route]]\ndomain = \"verify.%s.%s.test\"\nnext_hop = \"%s:%d\"\ntls = \"verify\"\n", door.name, server.name, host, port)
		}
	}
	r := startRelay(t, relayConfig{dns: d, deliveryPort: port, extra: routes.String(), env: []string{"SSL_CERT_FILE=" + ca.file}})
	c := &correspondence{relay: r, user: r.setUp(), published: keys(r.records(fromDomain)), small: awkward(3000, 9)}
	for _, server := range mailServers() {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			need(t, server.tools...)
			inbox := server.start(t, port, listen[server.name])
			for _, p := range protections() {
				if server.tls != nil && !server.tls() {
					p = p.brokenOff()
				}
				t.Run(p.name, func(t *testing.T) {
					domain := p.name + "." + server.name + ".test"
					c.received(t, inbox, domain, p.tls)
					c.verified(t, inbox, "verify."+domain, p)
				})
			}
			if server.name != "postfix" {
				t.Run("no SMTPUTF8", func(t *testing.T) { c.unsendable(t, "trusted."+server.name+".test") })
			}
		})
	}
}

// send sends the small body to bob at a domain.
func (c *correspondence) send(t *testing.T, domain string) (message string, head []byte) {
	t.Helper()
	to := "bob@" + domain
	head = header(to, domain)
	content := bytes.Join([][]byte{head, c.small}, []byte("\r\n"))
	return queuedID(t, dialAs(t, c.relay.smtp, c.user).mail("250", fromAddr, to, content)), head
}

// received asserts that mail to a domain arrives, and how its connection was protected.
func (c *correspondence) received(t *testing.T, inbox maildirs, domain, tls string) {
	t.Helper()
	message, head := c.send(t, domain)
	c.relay.in(t).state(message, "delivered")
	got := inbox.find(t, domain+"@client.test")
	intact(t, got, head, c.small)
	verifyInGo(t, got, fromDomain, c.published)
	if o := c.relay.in(t).outcome(message); o.Kind != "delivered" || !regexp.MustCompile(tls).MatchString(o.TLS) {
		t.Errorf("the record says %+v; want delivered, TLS %s", o, tls)
	}
}

// verified asserts what becomes of mail whose route wants a verified host.
func (c *correspondence) verified(t *testing.T, inbox maildirs, domain string, p protection) {
	t.Helper()
	message, head := c.send(t, domain)
	got := c.relay.in(t).state(message, p.verified)
	if !strings.Contains(got.LastReply, p.why) {
		t.Errorf("%s: %q; want it to say %q", domain, got.LastReply, p.why)
	}
	if p.verified == "delivered" {
		intact(t, inbox.find(t, domain+"@client.test"), head, c.small)
	}
}

// unsendable asserts that an international address fails at a server without SMTPUTF8.
func (c *correspondence) unsendable(t *testing.T, domain string) {
	t.Helper()
	to := international + "@" + domain
	message := dialAs(t, c.relay.smtp, c.user).submit("<"+fromAddr+"> SMTPUTF8", []string{"<" + to + ">"}, simple(to, "international"))
	if got := c.relay.in(t).state(message, "failed"); !strings.Contains(got.LastReply, "5.6.7") {
		t.Errorf("%q; want 5.6.7", got.LastReply)
	}
}
