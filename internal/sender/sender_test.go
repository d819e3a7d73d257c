package sender

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
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/dns"
	"mittente/internal/event"
	"mittente/internal/letter"
	"mittente/internal/mail"
	"mittente/internal/record"
	"mittente/internal/signer"
)

// house is the room over a fresh database with account 1, list 1 and a user,
// and a name server of its own.
type house struct {
	*Senders
	signer   *signer.Signer
	letters  *letter.Letters
	accounts *account.Accounts
	db       *db.DB
	dir      string
	zone     *zone
	user     account.User
	reg      *prometheus.Registry
}

func open(tb testing.TB) *house {
	tb.Helper()
	return openOver(tb, serveZone(tb))
}

// openOver is open with a name server that may live outside a bubble of synctest.
func openOver(tb testing.TB, z *zone) *house {
	tb.Helper()
	h := &house{dir: filepath.Join(tb.TempDir(), "data"), zone: z, reg: prometheus.NewRegistry()}
	h.db = openDB(tb, h.dir)
	if err := h.db.Migrate(tb.Context(), account.Schema(), event.Schema(), alert.Schema(), signer.Schema(), letter.Schema(), Schema()); err != nil {
		tb.Fatal(err)
	}
	h.Senders = h.room(tb, h.reg)
	h.signer, h.letters = h.deps.Signer, h.deps.Letters
	h.accounts = account.New(h.db, account.Deps{}, nil)
	h.do(tb, h.accounts.Bootstrap)
	h.user = h.newUser(tb, 1)
	return h
}

func openDB(tb testing.TB, dir string) *db.DB {
	tb.Helper()
	d, err := db.Open(tb.Context(), db.Config{DataDir: dir}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// room makes the room over the database of h, with keys that need no making.
func (h *house) room(tb testing.TB, reg prometheus.Registerer) *Senders {
	tb.Helper()
	resolver, err := dns.New(dns.Config{
		Servers: []string{h.zone.address()}, Timeout: 300 * time.Millisecond, Rounds: 1,
		MinTTL: 1, MaxTTL: 1, MaxNegativeTTL: 1, // nanoseconds: nothing is kept
	}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := signer.New(signer.Deps{
		DB: h.db, Resolver: resolver, Secret: signer.Secret{1}, Hostname: hostname, NewKeys: cheapKeys,
	}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	letters, err := letter.New(h.db, [32]byte{1})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Deps{DB: h.db, Resolver: resolver, Signer: keys, Letters: letters, Hostname: hostname}, reg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

const hostname = "relay.example.net"

// readyKeys makes one pair of keys for all tests: making them takes long.
var readyKeys = sync.OnceValues(func() ([]dkim.Key, error) {
	viaRSA, err1 := dkim.NewRSA("example.com", "r")
	viaEd25519, err2 := dkim.NewEd25519("example.com", "e")
	return []dkim.Key{viaRSA, viaEd25519}, errors.Join(err1, err2)
})

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

func (h *house) newUser(tb testing.TB, list int64) (u account.User) {
	tb.Helper()
	h.do(tb, func(tx *db.Tx) (err error) {
		u, _, err = h.accounts.AddUser(tx, account.NewUser{List: list})
		return err
	})
	return u
}

// newAccount makes another account with a user.
func (h *house) newAccount(t *testing.T, name string) account.User {
	t.Helper()
	var list account.List
	h.do(t, func(tx *db.Tx) error {
		a, err := h.accounts.AddAccount(tx, name)
		if err != nil {
			return err
		}
		list, err = h.accounts.AddList(tx, a.Number, "list")
		return err
	})
	return h.newUser(t, list.Number)
}

// try gives entries to a user, as the command line does.
func (h *house) try(tb testing.TB, u account.User, list string) error {
	tb.Helper()
	wanted, err := ParseEntries(list)
	if err != nil {
		return err
	}
	r, err := h.Prepare(tb.Context(), u.Account, wanted)
	if err != nil {
		return err
	}
	r.Asking = marta
	return h.db.Batch(tb.Context(), func(tx *db.Tx) error { return h.Authorise(tx, u, r) })
}

func (h *house) authorise(tb testing.TB, u account.User, list string) {
	tb.Helper()
	if err := h.try(tb, u, list); err != nil {
		tb.Fatal(err)
	}
}

func (h *house) deauthorise(t *testing.T, u account.User, list string) {
	t.Helper()
	wanted, err := ParseEntries(list)
	if err != nil {
		t.Fatal(err)
	}
	h.do(t, func(tx *db.Tx) error { return h.Deauthorise(tx, u, wanted) })
}

// addDomain adds a domain to the account of the house's user.
func (h *house) addDomain(tb testing.TB, name string) (d Domain) {
	tb.Helper()
	p, err := h.NewDomain(name)
	if err != nil {
		tb.Fatal(err)
	}
	h.do(tb, func(tx *db.Tx) (err error) {
		d, err = h.AddDomain(tx, h.user.Account, p)
		return err
	})
	return d
}

// force puts a domain of the user's account, known or not, into a state.
func (h *house) force(tb testing.TB, name mail.Domain, state State) {
	tb.Helper()
	var known *Domain
	h.do(tb, func(tx *db.Tx) (err error) { known, err = h.find(tx, h.user.Account, name); return err })
	if known == nil {
		d := h.addDomain(tb, string(name))
		known = &d
	}
	known.State = state
	h.do(tb, func(tx *db.Tx) error { return h.update(tx, *known) })
}

func (h *house) records(t *testing.T, name mail.Domain) (records []record.Record) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) { records, err = h.Records(tx, h.user.Account, name); return err })
	return records
}

func (h *house) effective(t *testing.T) (yes bool) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) { yes, err = h.Effective(tx, h.user.ID); return err })
	return yes
}

// zone is a name server on a loopback address that knows TXT records alone.
type zone struct {
	addr string

	mu     sync.Mutex
	txt    map[string][][]string // by name: records, each of several strings
	broken map[string]bool       // names that are answered SERVFAIL
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

// address is where nobody answers when there is no name server.
func (z *zone) address() string {
	if z == nil {
		return "127.0.0.1:1"
	}
	return z.addr
}

func serveZone(tb testing.TB) *zone {
	tb.Helper()
	z := &zone{txt: map[string][][]string{}, broken: map[string]bool{}}
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

// ServeDNS answers one question.
func (z *zone) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
	reply := new(mdns.Msg).SetReply(q)
	reply.RecursionAvailable = true
	records, known := z.txt[name]
	switch {
	case z.broken[name]:
		reply.Rcode = mdns.RcodeServerFailure
	case !known:
		reply.Rcode = mdns.RcodeNameError
	}
	for _, text := range records {
		head := mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeTXT, Class: mdns.ClassINET, Ttl: 60}
		reply.Answer = append(reply.Answer, &mdns.TXT{Hdr: head, Txt: text})
	}
	if w.LocalAddr().Network() == "udp" {
		reply.Truncate(1232)
	}
	_ = w.WriteMsg(reply)
}

// set publishes TXT records at a name; long ones are cut into strings of 255 octets.
func (z *zone) set(name string, records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.txt[name] = [][]string{}
	for _, text := range records {
		var parts []string
		for len(text) > 255 {
			parts, text = append(parts, text[:255]), text[255:]
		}
		z.txt[name] = append(z.txt[name], append(parts, text))
	}
}

func (z *zone) fail(name string, yes bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.broken[name] = yes
}

// The host name must be there.
func TestNewRefusesWhatItCantWorkWith(t *testing.T) {
	if _, err := New(Deps{}, nil); err == nil {
		t.Error("no host name, no error")
	}
}

// Checks and verifications are counted by result.
func TestMetrics(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com")
	h.force(t, "example.com", StateVerified)
	for _, from := range []string{"a@example.com", "b@example.com", "a@example.org"} {
		if _, _, err := h.Check(t.Context(), h.user.ID, address(t, from)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com"); err != nil {
		t.Fatal(err)
	}
	for verdict, want := range map[Verdict]float64{Authorised: 2, NotAuthorised: 1, Pending: 0} {
		if got := testutil.ToFloat64(h.metrics.checks.WithLabelValues(verdict.String())); got != want {
			t.Errorf("%s: %v checks counted, want %v", verdict, got, want)
		}
	}
	if got := testutil.ToFloat64(h.metrics.verifications.WithLabelValues(string(record.Absent))); got != 1 {
		t.Errorf("%v verifications counted, want 1", got)
	}
	if n, err := testutil.GatherAndCount(h.reg); err != nil || n == 0 {
		t.Errorf("%d metrics registered, %v", n, err)
	}
}

func address(tb testing.TB, s string) mail.Address {
	tb.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// judgement is the verdict of Check with what it rests on, in one line.
func (h *house) judgement(t *testing.T, from string) string {
	t.Helper()
	verdict, grant, err := h.Check(t.Context(), h.user.ID, address(t, from))
	if err != nil {
		t.Fatal(err)
	}
	text := verdict.String()
	if grant.Entry != "" {
		text += " by " + grant.Entry
	}
	if grant.SigningDomain != "" {
		text += ", signs " + string(grant.SigningDomain)
	}
	return text
}
