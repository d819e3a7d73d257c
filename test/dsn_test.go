package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// notification is a DSN as Python's email package reads it.
type notification struct {
	Header     map[string]string
	Report     string
	Types      []string
	Human      string
	Message    map[string]string
	Recipients []map[string]string
	Returned   string
	Defects    []string
}

func readDSN(t *testing.T, raw []byte) notification {
	t.Helper()
	out, err := fed(raw, python(), "testdata/read_dsn.py").Output()
	if err != nil {
		t.Fatalf("read_dsn.py: %v\n%s", err, raw)
	}
	var n notification
	if err := json.Unmarshal(out, &n); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return n
}

// post is a relay between a Postfix, which has the mailboxes of senders and
// recipients, and a small server that knows nothing of DSNs.
type post struct {
	relay   *relay
	user    user
	postfix *postfix
	sink    *sink
}

const plainDomain = "nodsn.test"

// startPost starts them. Each sender has a mailbox of its own, so that the answers can
// be told from one another.
func startPost(t *testing.T, senders ...string) *post {
	t.Helper()
	need(t, "linux", "root", "postfix", "python3")
	addresses := []string{"bob@" + rcptDomain}
	for _, sender := range senders {
		addresses = append(addresses, sender+"@"+fromDomain)
	}
	p := &post{postfix: startReceiver(t, addresses...)}
	p.sink = startSink(t, sinkConfig{
		addr: "127.0.0.2:" + strconv.Itoa(p.postfix.port),
		onRcpt: func(to string) string {
			if strings.HasPrefix(to, "nobody") {
				return "550 5.1.1 No such mailbox"
			}
			return ""
		},
	})
	d := startDNS(t, "mx."+rcptDomain+". 300 IN A 127.0.0.1", plainDomain+". 300 IN A 127.0.0.2")
	for _, domain := range []string{rcptDomain, fromDomain} {
		d.add(domain + ". 300 IN MX 10 mx." + rcptDomain + ".")
	}
	p.relay = startRelay(t, relayConfig{dns: d, deliveryPort: p.postfix.port})
	p.user = p.relay.setUp()
	return p
}

// send sends a message with the given parameters of MAIL and RCPT.
func (p *post) send(t *testing.T, from, mailParams string, rcpts ...string) {
	t.Helper()
	dialAs(t, p.relay.smtp, p.user).submit("<"+from+">"+mailParams, rcpts,
		fmt.Appendf(nil, "From: <%s>\r\nSubject: the original\r\n\r\nThe body of the original.\r\n", fromAddr))
}

// answer is one thing a sender is told.
type answer struct {
	sender     string
	mailParams string
	rcpts      []string          // with their parameters
	tell       string            // who reports: "relay", "postfix", or "" for nobody
	types      []string          // of the parts
	message    map[string]string // fields of the DSN about the message
	recipients []map[string]string
	returned   string // what the returned part holds
	not        string // what it does not hold
}

func answers() []answer {
	hdrs := []string{"text/plain", "message/delivery-status", "text/rfc822-headers"}
	full := []string{"text/plain", "message/delivery-status", "message/rfc822"}
	global := []string{"text/plain", "message/global-delivery-status", "text/rfc822-headers"}
	const unknown = "nobody@" + rcptDomain
	return []answer{
		{
			sender: "fails", rcpts: []string{"<" + unknown + ">"}, tell: "relay", types: hdrs,
			message:    map[string]string{"reporting-mta": "dns; " + relayHost},
			recipients: []map[string]string{{"final-recipient": "rfc822; " + unknown, "action": "failed", "status": "5.1.1", "remote-mta": "dns; mx." + rcptDomain, "diagnostic-code": "smtp; 550 5.1.1"}},
			returned:   "Subject: the original", not: "The body of",
		},
		{
			sender: "full", mailParams: " RET=FULL ENVID=QQ314159", tell: "relay", types: full,
			rcpts:      []string{"<" + unknown + "> NOTIFY=FAILURE ORCPT=rfc822;First+2Blast@" + rcptDomain},
			message:    map[string]string{"original-envelope-id": "QQ314159"},
			recipients: []map[string]string{{"original-recipient": "rfc822; First+last@" + rcptDomain, "final-recipient": "rfc822; " + unknown, "action": "failed"}},
			returned:   "The body of the original.",
		},
		{
			sender: "two", tell: "relay", types: hdrs, rcpts: []string{"<nobody1@" + plainDomain + ">", "<good@" + plainDomain + ">", "<nobody2@" + plainDomain + ">"},
			recipients: []map[string]string{{"final-recipient": "rfc822; nobody1@" + plainDomain, "action": "failed"}, {"final-recipient": "rfc822; nobody2@" + plainDomain, "action": "failed"}},
		},
		{
			sender: "relayed", mailParams: " ENVID=relayed1", tell: "relay", types: hdrs, rcpts: []string{"<good@" + plainDomain + "> NOTIFY=SUCCESS"},
			message:    map[string]string{"original-envelope-id": "relayed1"},
			recipients: []map[string]string{{"final-recipient": "rfc822; good@" + plainDomain, "action": "relayed", "status": "2."}},
		},
		{
			// Postfix takes the duty over: it knows whose it was before, and who asked.
			sender: "delivered", mailParams: " RET=HDRS ENVID=passed+2Bon", tell: "postfix", types: hdrs,
			rcpts:      []string{"<bob@" + rcptDomain + "> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Robert@" + rcptDomain},
			message:    map[string]string{"original-envelope-id": "passed+on"},
			recipients: []map[string]string{{"original-recipient": "rfc822;Robert@" + rcptDomain, "final-recipient": "rfc822; bob@" + rcptDomain, "action": "delivered"}},
		},
		{
			sender: "global", mailParams: " SMTPUTF8", tell: "relay", types: global, rcpts: []string{"<nobody-" + international + "@" + rcptDomain + ">"},
			recipients: []map[string]string{{"final-recipient": "utf-8; nobody-" + international + "@" + rcptDomain, "action": "failed"}},
		},
		{sender: "never", rcpts: []string{"<" + unknown + "> NOTIFY=NEVER"}},
		{sender: "unasked", rcpts: []string{"<good@" + plainDomain + ">"}},
	}
}

// What senders are told of their mail, as it lies in their mailbox at a Postfix and as
// Python's email package reads it: failures with the words of the server that refused,
// what they asked for by RFC 3461 and no more, from the null reverse-path, signed with
// the key of the relay's own name. Where the next hop knows DSNs, the duty is its own.
//
//nolint:tparallel // each part looks at its own mailbox, and the last one at all
func TestSendersAreTold(t *testing.T) {
	t.Parallel()
	var senders []string
	for _, a := range answers() {
		senders = append(senders, a.sender)
	}
	p := startPost(t, senders...)
	published := keys(p.relay.records(relayHost))
	for _, a := range answers() {
		if a.tell == "" {
			p.send(t, a.sender+"@"+fromDomain, a.mailParams, a.rcpts...)
		}
	}
	for _, a := range answers() {
		if a.tell == "" {
			continue
		}
		t.Run(a.sender, func(t *testing.T) {
			p.send(t, a.sender+"@"+fromDomain, a.mailParams, a.rcpts...)
			raw := p.postfix.one(a.sender+"@"+fromDomain, 30*time.Second)
			a.check(t, raw)
			if a.tell == "relay" {
				verifyInGo(t, raw, relayHost, published)
			}
		})
	}
	p.relay.empty(20 * time.Second)
	for _, a := range answers() {
		if n := len(p.postfix.mailbox(a.sender + "@" + fromDomain)); a.tell == "" && n > 0 {
			t.Errorf("%s was told %d times; want never", a.sender, n)
		}
	}
}

// check asserts what a DSN says.
func (a answer) check(t *testing.T, raw []byte) {
	t.Helper()
	n := readDSN(t, raw)
	if n.Report != "delivery-status" || !slices.Equal(n.Types, a.types) || len(n.Defects) > 0 {
		t.Errorf("report of %q with parts %q, defects %q; want delivery-status with %q", n.Report, n.Types, n.Defects, a.types)
	}
	if !bytes.HasPrefix(raw, []byte("Return-Path: <>\r\n")) {
		t.Errorf("the reverse-path is not null:\n%.200s", raw)
	}
	has(t, "header", n.Header, map[string]string{"to": a.sender + "@" + fromDomain})
	has(t, "message", n.Message, a.message)
	if len(n.Recipients) != len(a.recipients) {
		t.Fatalf("%d recipients, want %d:\n%s", len(n.Recipients), len(a.recipients), raw)
	}
	for i, want := range a.recipients {
		has(t, "recipient", n.Recipients[i], want)
	}
	if !strings.Contains(n.Returned, a.returned) || a.not != "" && strings.Contains(n.Returned, a.not) {
		t.Errorf("returned, want it to hold %q and not %q:\n%s", a.returned, a.not, n.Returned)
	}
	if a.tell != "relay" {
		return
	}
	has(t, "header", n.Header, map[string]string{"auto-submitted": "auto-replied", "from": "", "date": "", "message-id": "<", "subject": ""})
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		if len(line) > 998 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	if t.Failed() {
		t.Logf("%s", raw)
	}
}

// has asserts that fields are there, and how they begin (spaces after a type's
// semicolon don't count; To may show the address in angle brackets).
func has(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	plain := strings.NewReplacer("; ", ";", "<", "", ">", "")
	for name, beginning := range want {
		value, ok := got[name]
		if !ok || !strings.HasPrefix(plain.Replace(value), plain.Replace(beginning)) {
			t.Errorf("%s: %s: %q; want %q", what, name, value, beginning)
		}
	}
}

// Mail that nobody can be told of any more, that of the null reverse-path, tells an
// operator: one entry, and no mail.
func TestDoubleBouncesAreAnOperatorsAffair(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{onRcpt: func(string) string { return "550 5.1.1 No such mailbox" }})
	to := "bob@" + rcptDomain
	message := queuedID(t, dialAs(t, r.smtp, r.setUp()).mail("250", "", to, simple(to, "nobody to tell")))
	r.state(message, "failed")
	var alerts []struct {
		Kind  string
		Count int
	}
	waitFor(t, 10*time.Second, "an operator is told", func() bool {
		r.query(&alerts, "alert", "ls", "--kind", "returned")
		return len(alerts) > 0
	})
	if len(alerts) != 1 || alerts[0].Count != 1 {
		t.Errorf("alerts: %+v; want one, once", alerts)
	}
	r.empty(10 * time.Second)
	if n := len(s.received()); n != 0 {
		t.Errorf("%d mails arrived; want none", n)
	}
}
