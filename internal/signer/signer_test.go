package signer

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/dns"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// house is the room over a fresh database, with a name server of its own.
type house struct {
	*Signer
	db    *db.DB
	dir   string
	zone  *zone
	owner id.Account
}

const host mail.Domain = "relay.example.net"

func open(tb testing.TB) *house {
	tb.Helper()
	return openOver(tb, serveZone(tb))
}

// openOver is open with a name server that may live outside a bubble of synctest.
func openOver(tb testing.TB, z *zone) *house {
	tb.Helper()
	h := &house{dir: filepath.Join(tb.TempDir(), "data"), zone: z, owner: id.New[id.Account]()}
	d, err := db.Open(tb.Context(), db.Config{DataDir: h.dir}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	h.db = d
	if err := h.db.Migrate(tb.Context(), event.Schema(), Schema()); err != nil {
		tb.Fatal(err)
	}
	h.Signer = h.room(tb, testSecret())
	h.do(tb, h.CheckSecret)
	return h
}

func testSecret() Secret { return Secret([]byte("a secret of the tests, 32 octets")) }

// room makes the room over the database of h, with keys that need no making.
func (h *house) room(tb testing.TB, secret Secret) *Signer {
	tb.Helper()
	resolver, err := dns.New(dns.Config{
		Servers: []string{h.zone.address()}, Timeout: 300 * time.Millisecond, Rounds: 1,
		MinTTL: 1, MaxTTL: 1, MaxNegativeTTL: 1, // nanoseconds: nothing is kept
	}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Deps{DB: h.db, Resolver: resolver, Secret: secret, Hostname: string(host), NewKeys: cheapKeys}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// readyKeys makes one pair of keys for all tests: making them takes long.
var readyKeys = sync.OnceValues(func() ([]dkim.Key, error) { return newKeys("example.com") })

func cheapKeys(domain mail.Domain) ([]dkim.Key, error) {
	ready, err := readyKeys()
	stem := "m" + randomText(8)
	var keys []dkim.Key
	for i, k := range ready {
		keys = append(keys, dkim.Key{Domain: domain, Selector: stem + fmt.Sprint(i), Signer: k.Signer})
	}
	return keys, err
}

func (h *house) do(tb testing.TB, do func(*db.Tx) error) {
	tb.Helper()
	if err := h.db.Batch(tb.Context(), do); err != nil {
		tb.Fatal(err)
	}
}

// add gives an account the first keys of a domain.
func (h *house) add(tb testing.TB, owner id.Account, domain mail.Domain) {
	tb.Helper()
	pair, err := h.Make(domain)
	if err != nil {
		tb.Fatal(err)
	}
	h.do(tb, func(tx *db.Tx) error { return h.Add(tx, owner, id.New[id.Domain](), pair) })
}

func (h *house) keys(tb testing.TB, owner id.Account, domain mail.Domain) (keys []Key) {
	tb.Helper()
	h.do(tb, func(tx *db.Tx) (err error) { keys, err = h.Keys(tx, owner, domain); return err })
	return keys
}

// zone is a name server on a loopback address that knows TXT records alone.
type zone struct {
	addr string

	mu     sync.Mutex
	txt    map[string]string
	broken bool // everything is answered SERVFAIL
}

// address is where nobody answers when there is no name server.
func (z *zone) address() string {
	if z == nil {
		return "127.0.0.1:1"
	}
	return z.addr
}

func serveZone(tb testing.TB) *zone {
	tb.Helper()
	z := &zone{txt: map[string]string{}}
	listener, packets := samePort(tb)
	z.addr = packets.LocalAddr().String()
	for _, server := range []*mdns.Server{{PacketConn: packets, Handler: z}, {Listener: listener, Handler: z}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		tb.Cleanup(func() { _ = server.Shutdown() })
	}
	return z
}

// samePort opens one port for TCP and UDP; the first one that is free for TCP
// may be taken for UDP by another test.
func samePort(tb testing.TB) (net.Listener, net.PacketConn) {
	tb.Helper()
	for range 20 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		if packets, err := net.ListenPacket("udp", listener.Addr().String()); err == nil {
			return listener, packets
		}
		_ = listener.Close()
	}
	tb.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}

// ServeDNS answers one question.
func (z *zone) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	reply := new(mdns.Msg).SetReply(q)
	reply.RecursionAvailable = true
	text, known := z.txt[strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))]
	switch {
	case z.broken:
		reply.Rcode = mdns.RcodeServerFailure
	case !known:
		reply.Rcode = mdns.RcodeNameError
	default:
		var parts []string
		for len(text) > 255 {
			parts, text = append(parts, text[:255]), text[255:]
		}
		head := mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeTXT, Class: mdns.ClassINET, Ttl: 60}
		reply.Answer = append(reply.Answer, &mdns.TXT{Hdr: head, Txt: append(parts, text)})
	}
	if w.LocalAddr().Network() == "udp" {
		reply.Truncate(1232)
	}
	_ = w.WriteMsg(reply)
}

// publish puts the records of keys into the DNS, or the text instead of their values.
func (z *zone) publish(keys []Key, instead ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, k := range keys {
		z.txt[k.RecordName] = strings.Join(append(instead, k.RecordValue)[:1], "")
	}
}

func (z *zone) fail(yes bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.broken = yes
}

// A room without a secret can seal nothing.
func TestNewWantsASecret(t *testing.T) {
	if _, err := New(Deps{Hostname: string(host)}, nil); err == nil {
		t.Error("no secret, no error")
	}
}

// Every use of the secret has a key of its own.
func TestDerive(t *testing.T) {
	a, err1 := testSecret().Derive("a")
	b, err2 := testSecret().Derive("b")
	c, err3 := Secret{1}.Derive("a")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if again, err := testSecret().Derive("a"); err != nil || again != a {
		t.Error("not the same twice")
	}
	if a == b || a == c || a == testSecret() || a == [32]byte{} {
		t.Error("keys are not apart")
	}
}
