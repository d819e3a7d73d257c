package dns

import (
	"net/netip"
	"slices"
	"testing"

	mdns "github.com/miekg/dns"
)

func TestNames(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 4)
	at := listen(t, mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		asked <- q.Question[0].Name
		rr, err := mdns.NewRR(q.Question[0].Name + " PTR MX.Example.org.")
		if err != nil {
			t.Error(err)
		}
		m.Answer = []mdns.RR{rr}
		_ = w.WriteMsg(m)
	}))
	r, err := New(Config{Servers: []string{at}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for addr, name := range map[string]string{
		"192.0.2.25":        "25.2.0.192.in-addr.arpa.",
		"::ffff:192.0.2.26": "26.2.0.192.in-addr.arpa.",
		"2001:db8::1":       "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
	} {
		got, err := r.Names(t.Context(), netip.MustParseAddr(addr))
		if err != nil || !slices.Equal(got.Records, []string{"mx.example.org"}) {
			t.Errorf("%s: %v, %v", addr, got.Records, err)
		}
		if q := <-asked; q != name {
			t.Errorf("%s: asked for %s", addr, q)
		}
	}
}
