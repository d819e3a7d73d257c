package test

import (
	"crypto/tls"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Where mail goes, by what the DNS says of its domain (RFC 5321 §5, RFC 7505).
func TestM1_DNSDecidesTheRoute(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	at := func(ip string) string { return ip + ":" + strconv.Itoa(port) }
	first := startSink(t, sinkConfig{addr: at("127.0.0.2")})
	second := startSink(t, sinkConfig{addr: at("127.0.0.3")})
	startSink(t, sinkConfig{addr: at("127.0.0.4"), onRcpt: func(string) string { return "451 4.2.1 Mailbox is busy" }})
	startSink(t, sinkConfig{addr: at("127.0.0.5"), onRcpt: func(string) string { return "550 5.1.1 No such mailbox" }})
	d := startDNS(t,
		"null.test. 300 IN MX 0 .",
		"implicit.test. 300 IN A 127.0.0.2",
		"backup.test. 300 IN MX 10 dead.test.", "backup.test. 300 IN MX 20 second.test.",
		"dead.test. 300 IN A 127.0.0.9", "second.test. 300 IN A 127.0.0.3",
		"refused.test. 300 IN MX 10 dead.test.",
		"nohost.test. 300 IN MX 10 gone.test.",
		"alias.test. 300 IN CNAME implicit.test.",
		"busy.test. 300 IN A 127.0.0.4",
		"strict.test. 300 IN A 127.0.0.5",
		"itself.test. 300 IN MX 10 "+relayHost+".",
		relayHost+". 300 IN A 127.0.0.2",
	)
	r := startRelay(t, relayConfig{dns: d, deliveryPort: port})
	c := dialAs(t, r.smtp, r.setUp())
	for _, k := range []struct{ name, domain, state, reply string }{
		{"null MX", "null.test", "failed", "5.1.10"},
		{"no MX but an address: implicit MX", "implicit.test", "delivered", "250"},
		{"first MX is down: the second takes it", "backup.test", "delivered", "250"},
		{"CNAME", "alias.test", "delivered", "250"},
		{"no such domain", "nowhere.test", "failed", "5.1.2"},
		{"refused connection", "refused.test", "pending", "4.4.1"},
		{"temporary refusal", "busy.test", "pending", "451 4.2.1"},
		{"final refusal", "strict.test", "failed", "550 5.1.1"},
		{"loop to ourselves", "itself.test", "failed", "5.4.6"},
		{"MX without an address", "nohost.test", "", ""},
	} {
		to := "bob@" + k.domain
		message := queuedID(t, c.mail("250", fromAddr, to, simple(to, k.domain)))
		if k.state == "" {
			continue
		}
		got := r.state(message, k.state)
		if !strings.Contains(got.LastReply, k.reply) {
			t.Errorf("%s: %q; want %s", k.name, got.LastReply, k.reply)
		}
		if wait := time.Until(got.NextAttempt); k.state == "pending" && (wait < 45*time.Second || wait > 67*time.Second) {
			t.Errorf("%s: next attempt in %v; want about a minute", k.name, wait)
		}
	}
	if a, b := subjects(t, first), subjects(t, second); a["implicit.test"] != 1 || a["alias.test"] != 1 || b["backup.test"] != 1 {
		t.Errorf("the sinks have %v and %v", a, b)
	}
}

// A smarthost gets everything, by TLS and with our credentials there; a route of
// one domain goes before it.
func TestM1_RoutesAndSmarthost(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "smarthost.test")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	account := user{"relay", "hop secret"}
	smarthost := startSink(t, sinkConfig{
		addr: "127.0.0.1:" + strconv.Itoa(freePort(t)), auth: &account,
		cert: &tls.Config{Certificates: []tls.Certificate{pair}},
	})
	inside := startSink(t, sinkConfig{addr: "127.0.0.1:" + strconv.Itoa(freePort(t))})
	unverified := startSink(t, sinkConfig{
		addr: "127.0.0.1:" + strconv.Itoa(freePort(t)), cert: &tls.Config{Certificates: []tls.Certificate{pair}},
	})
	inClear := startSink(t, sinkConfig{addr: "127.0.0.1:" + strconv.Itoa(freePort(t))})
	r := startRelay(t, relayConfig{dns: startDNS(t), extra: fmt.Sprintf(`
[[route]]
domain = "*"
next_hop = %q
tls = "encrypt"
username = %q
password = %q
[[route]]
domain = "inside.test"
next_hop = %q
tls = "none"
[[route]]
domain = "verify.test"
next_hop = %q
tls = "verify"
[[route]]
domain = "encrypt.test"
next_hop = %q
tls = "encrypt"
`, smarthost.addr, account.Username, account.Password, inside.addr, unverified.addr, inClear.addr)})
	c := dialAs(t, r.smtp, r.setUp())
	send := func(domain string) string {
		to := "bob@" + domain
		return queuedID(t, c.mail("250", fromAddr, to, simple(to, domain)))
	}
	r.state(send("anywhere.test"), "delivered")
	if got := smarthost.wait(t, 1)[0]; !got.tls || got.user != account.Username {
		t.Errorf("the smarthost got it by TLS: %v, as %q", got.tls, got.user)
	}
	r.state(send("inside.test"), "delivered")
	inside.wait(t, 1)
	for _, domain := range []string{"verify.test", "encrypt.test"} {
		if got := r.state(send(domain), "pending"); got.LastReply == "" {
			t.Errorf("%s is deferred, and nothing says why: %+v", domain, got)
		}
	}
	if len(unverified.received())+len(inClear.received()) != 0 {
		t.Error("mail went to a next hop whose TLS terms were not met")
	}
}

// The best TLS there is, and clear where a handshake fails (opportunistic).
func TestM1_OpportunisticTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "mx."+rcptDomain)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	good, good2 := sinkRelay(t, sinkConfig{cert: &tls.Config{Certificates: []tls.Certificate{pair}}})
	broken, broken2 := sinkRelay(t, sinkConfig{cert: &tls.Config{}}) // no certificate: every handshake fails
	for _, k := range []struct {
		s   *sink
		r   *relay
		tls bool
	}{{good, good2, true}, {broken, broken2, false}} {
		to := "bob@" + rcptDomain
		k.r.state(queuedID(t, dialAs(t, k.r.smtp, k.r.setUp()).mail("250", fromAddr, to, simple(to, "tls"))), "delivered")
		if got := k.s.wait(t, 1)[0]; got.tls != k.tls {
			t.Errorf("delivered by TLS: %v; want %v", got.tls, k.tls)
		}
	}
}

// Many messages to one site share connections, and recipients of one message share
// a transaction.
func TestDeliveriesShareConnectionsAndTransactions(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	c := dialAs(t, r.smtp, r.setUp())
	var all []string
	for n := range 30 {
		all = append(all, fmt.Sprintf("<user%d@%s>", n, rcptDomain))
	}
	c.submit("<"+fromAddr+">", all, simple("all@"+rcptDomain, "many"))
	if got := s.wait(t, 1)[0]; len(got.to) != 30 {
		t.Errorf("the first transaction has %d recipients; want 30", len(got.to))
	}
	for n := range 50 {
		to := fmt.Sprintf("user%d@%s", n, rcptDomain)
		c.mail("250", fromAddr, to, simple(to, "single"))
	}
	s.wait(t, 51)
	if n := s.connections(); n > 20 {
		t.Errorf("51 transactions took %d connections", n)
	}
}
