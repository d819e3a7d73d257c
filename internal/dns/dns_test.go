package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// TestMain holds the room to leaving no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// responder is a name server of a test: it returns the packets that come back
// for one query, none for silence.
type responder func(network string, query *mdns.Msg) [][]byte

// network is the name servers by address, reached without sockets.
type network map[string]responder

func (n network) dial(_ context.Context, proto, address string) (net.Conn, error) {
	respond, ok := n[address]
	if !ok {
		return nil, errors.New("connection refused")
	}
	client, srv := net.Pipe()
	go func() {
		defer srv.Close()
		serveOne(srv, proto, respond)
	}()
	return client, nil
}

func serveOne(srv net.Conn, proto string, respond responder) {
	buf := make([]byte, 4096)
	query := new(mdns.Msg)
	if proto == "tcp" {
		c := &mdns.Conn{Conn: streamConn{srv}}
		query, err := c.ReadMsg()
		if err != nil {
			return
		}
		for _, packet := range respond(proto, query) {
			_, _ = c.Write(packet)
		}
		return
	}
	n, err := srv.Read(buf)
	if err != nil || query.Unpack(buf[:n]) != nil {
		return
	}
	for _, packet := range respond(proto, query) {
		_, _ = srv.Write(packet)
	}
	_, _ = srv.Read(buf) // until the client leaves, as a datagram socket has no end
}

// reply makes a server that answers every question with these records; those
// with the prefix "ns " go to the authority section.
func reply(t *testing.T, rcode int, records ...string) responder {
	t.Helper()
	return func(_ string, q *mdns.Msg) [][]byte { return [][]byte{pack(t, message(t, q, rcode, records...))} }
}

func message(t *testing.T, q *mdns.Msg, rcode int, records ...string) *mdns.Msg {
	t.Helper()
	m := new(mdns.Msg).SetRcode(q, rcode)
	m.RecursionAvailable = true
	for _, s := range records {
		s, authority := strings.CutPrefix(s, "ns ")
		rr, err := mdns.NewRR(s)
		if err != nil {
			t.Error(err)
			continue
		}
		if authority {
			m.Ns = append(m.Ns, rr)
			continue
		}
		if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == mdns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

func pack(t *testing.T, m *mdns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

func silence(string, *mdns.Msg) [][]byte { return nil }

const (
	first  = "127.0.0.1:53"
	second = "127.0.0.2:53"
	soa    = "ns example.org. 600 IN SOA ns. root. 1 2 3 4 30"
)

func resolver(t *testing.T, n network, servers ...string) *Resolver {
	t.Helper()
	r, err := New(Config{Servers: servers, Dial: n.dial}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMX keeps the order of the answer and ignores records of other names.
func TestMX(t *testing.T) {
	t.Parallel()
	r := resolver(t, network{first: reply(t, 0,
		"example.org. 300 IN MX 20 B.example.ORG.", "example.org. 300 IN MX 10 a.example.org.", "other.org. 300 IN MX 1 x.",
	)}, first)
	got, err := r.MX(t.Context(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	want := []MX{{"b.example.org", 20}, {"a.example.org", 10}}
	if !reflect.DeepEqual(got.Records, want) || got.Canonical != "example.org" || got.Authenticated {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestNullMX shows the root as an empty host (RFC 7505).
func TestNullMX(t *testing.T) {
	t.Parallel()
	r := resolver(t, network{first: reply(t, 0, "example.org. 300 IN MX 0 .")}, first)
	got, err := r.MX(t.Context(), "example.org")
	if err != nil || !reflect.DeepEqual(got.Records, []MX{{}}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestTXT joins strings and undoes the presentation form.
func TestTXT(t *testing.T) {
	t.Parallel()
	for record, want := range map[string]string{
		`"v=spf1 " "-all"`:     "v=spf1 -all",
		`"a\"b\\c\; \195\169"`: `a"b\c; é`,
		`""`:                   "",
	} {
		r := resolver(t, network{first: reply(t, 0, "example.org. 300 IN TXT "+record)}, first)
		got, err := r.TXT(t.Context(), "Example.ORG.")
		if err != nil || !reflect.DeepEqual(got.Records, []string{want}) {
			t.Errorf("%s: got %q, %v", record, got.Records, err)
		}
	}
}

// TestAddrs merges the two families, whatever became of each.
func TestAddrs(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	byType := func(a, aaaa responder) responder {
		return func(network string, q *mdns.Msg) [][]byte {
			if q.Question[0].Qtype == mdns.TypeA {
				return a(network, q)
			}
			return aaaa(network, q)
		}
	}
	a := reply(t, 0, "h.example.org. 300 IN A 192.0.2.1")
	aaaa := reply(t, 0, "h.example.org. 60 IN AAAA 2001:db8::1")
	for name, c := range map[string]struct {
		server responder
		want   []netip.Addr
		err    error
	}{
		"both":                          {byType(a, aaaa), []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}, nil},
		"no IPv6":                       {byType(a, reply(t, 0, soa)), []netip.Addr{addr("192.0.2.1")}, nil},
		"IPv6 fails":                    {byType(a, reply(t, mdns.RcodeServerFailure)), []netip.Addr{addr("192.0.2.1")}, nil},
		"IPv4 fails":                    {byType(reply(t, mdns.RcodeServerFailure), aaaa), []netip.Addr{addr("2001:db8::1")}, nil},
		"one fails, the other has none": {byType(reply(t, 0, soa), reply(t, mdns.RcodeServerFailure)), nil, ErrTemporary},
		"IPv4 fails, no IPv6":           {byType(reply(t, mdns.RcodeServerFailure), reply(t, 0, soa)), nil, ErrTemporary},
		"neither":                       {reply(t, 0, soa), nil, nil},
		"no such name":                  {reply(t, mdns.RcodeNameError, soa), nil, ErrNotFound},
		"NXDOMAIN wins":                 {byType(reply(t, mdns.RcodeServerFailure), reply(t, mdns.RcodeNameError, soa)), nil, ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := resolver(t, network{first: c.server}, first).Addrs(t.Context(), "h.example.org")
			if !errors.Is(err, c.err) || len(got.Records)+len(c.want) > 0 && !reflect.DeepEqual(got.Records, c.want) {
				t.Errorf("got %v, %v; want %v, %v", got.Records, err, c.want, c.err)
			}
		})
	}
}

// TestLocalhostNeedsNoServer is RFC 6761 §6.3.
func TestLocalhostNeedsNoServer(t *testing.T) {
	t.Parallel()
	got, err := resolver(t, network{}, first).Addrs(t.Context(), "Localhost.")
	if err != nil || len(got.Records) != 2 || !got.Records[0].IsLoopback() {
		t.Errorf("got %v, %v", got.Records, err)
	}
}

// TestNotADomainName asks nobody about what cannot be a name.
func TestNotADomainName(t *testing.T) {
	t.Parallel()
	r := resolver(t, network{}, first)
	for _, name := range []string{"", "a..b", strings.Repeat("x", 64) + ".org", strings.Repeat("abc.", 64) + "org"} {
		if _, err := r.TXT(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestAliases follows CNAME chains, and not for ever.
func TestAliases(t *testing.T) {
	t.Parallel()
	chainOf := func(n int) []string {
		var records []string
		for i := range n {
			records = append(records, string(rune('a'+i))+". 300 IN CNAME "+string(rune('a'+i+1))+".")
		}
		return append(records, string(rune('a'+n))+". 300 IN TXT end")
	}
	for name, c := range map[string]struct {
		server    responder
		want      []string
		canonical string
		err       error
	}{
		"in one answer":  {reply(t, 0, chainOf(2)...), []string{"end"}, "c", nil},
		"eight":          {reply(t, 0, chainOf(8)...), []string{"end"}, "i", nil},
		"nine":           {reply(t, 0, chainOf(9)...), nil, "", ErrTemporary},
		"loop":           {reply(t, 0, "a. 300 IN CNAME b.", "b. 300 IN CNAME a."), nil, "", ErrTemporary},
		"to itself":      {reply(t, 0, "a. 300 IN CNAME a."), nil, "", ErrTemporary},
		"to nothing":     {reply(t, mdns.RcodeNameError, "a. 300 IN CNAME b.", soa), nil, "", ErrNotFound},
		"to other types": {reply(t, 0, "a. 300 IN CNAME b.", soa), nil, "b", nil},
		"server does not follow": {func(_ string, q *mdns.Msg) [][]byte {
			if q.Question[0].Name == "a." {
				return [][]byte{pack(t, message(t, q, 0, "a. 300 IN CNAME b."))}
			}
			return [][]byte{pack(t, message(t, q, 0, "b. 300 IN TXT end"))}
		}, []string{"end"}, "b", nil},
		"server follows one at a time, without end": {func(_ string, q *mdns.Msg) [][]byte {
			return [][]byte{pack(t, message(t, q, 0, q.Question[0].Name+" 300 IN CNAME x"+q.Question[0].Name))}
		}, nil, "", ErrTemporary},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := resolver(t, network{first: c.server}, first).TXT(t.Context(), "a")
			if !errors.Is(err, c.err) || len(got.Records)+len(c.want) > 0 && !reflect.DeepEqual(got.Records, c.want) || got.Canonical != c.canonical {
				t.Errorf("got %+v, %v; want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

// TestAuthenticatedOnlyOnLoopback believes the AD bit only of a server on this host.
func TestAuthenticatedOnlyOnLoopback(t *testing.T) {
	t.Parallel()
	secure := func(_ string, q *mdns.Msg) [][]byte {
		if !q.AuthenticatedData {
			t.Error("the query does not say that we understand AD (RFC 6840 §5.7)")
		}
		m := message(t, q, 0, "example.org. 300 IN TXT x")
		m.AuthenticatedData = true
		return [][]byte{pack(t, m)}
	}
	for address, want := range map[string]bool{"127.0.0.1:53": true, "[::1]:53": true, "192.0.2.1:53": false} {
		got, err := resolver(t, network{address: secure}, address).TXT(t.Context(), "example.org")
		if err != nil || got.Authenticated != want {
			t.Errorf("%s: got %v, %v", address, got.Authenticated, err)
		}
	}
}

// TestMetrics holds the names that operators watch.
func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	r, err := New(Config{Servers: []string{first}, Dial: network{first: reply(t, 0)}.dial}, reg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.TXT(t.Context(), "example.org"); err != nil {
			t.Fatal(err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"mittente_dns_lookups_total asked": 1, "mittente_dns_lookups_total cached": 1,
		"mittente_dns_exchanges_total NOERROR": 1, "mittente_dns_resolve_seconds": 1, "mittente_dns_cache_entries": 1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := New(Config{Servers: []string{first}}, reg); err == nil {
		t.Error("a second resolver on one registry is not reported")
	}
}

// TestCallerLeaves ends the look-up with its last caller.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := resolver(t, network{first: silence}, first)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := r.TXT(ctx, "example.org")
		if !errors.Is(err, ErrTemporary) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		synctest.Wait()
		if len(r.flights) != 0 {
			t.Error("the look-up goes on though nobody waits")
		}
	})
}
