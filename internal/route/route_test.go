package route

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"mittente/internal/dns"
	"mittente/internal/dns/dnstest"
	"mittente/internal/mail"
)

// TestPlan is RFC 5321 §5.1, RFC 7505 and the routes.
func TestPlan(t *testing.T) {
	t.Parallel()
	c := router(t, Config{Static: []Static{
		{Domain: "Routed.Example", NextHop: "smtp.example.net:587", TLS: TLSVerify, Username: "u", Password: "p"},
		{Domain: "literal.example", NextHop: "[2001:db8::1]:25"},
	}})
	for domain, want := range map[mail.Domain]string{
		"example.net":        "mx1.example.net,mx2.example.net:25 may: mx1.example.net mx2.example.net",
		"alias.example":      "mx1.example.net,mx2.example.net:25 may: mx1.example.net mx2.example.net",
		"implicit.example":   "implicit.example:25 may: implicit.example",
		"empty.example":      "empty.example:25 may: empty.example",
		"backup.example":     "mx1.example.net:25 may: mx1.example.net",
		"equals.example":     "first.example,mx1.example.net,mx2.example.net:25 may: first.example mx1.example.net mx2.example.net",
		"routed.example":     "via smtp.example.net:587 verify: smtp.example.net",
		"literal.example":    "via [2001:db8::1]:25 may: 2001:db8::1",
		"null.example":       "failed recipient 556 5.1.10 null.example accepts no mail (null MX)",
		"missing.example":    "failed recipient 5.1.2 there is no domain missing.example",
		"sub.routed.example": "failed recipient 5.1.2 there is no domain sub.routed.example",
		"self.example":       "failed recipient 5.4.6 mail for self.example loops back to this host by its MX records",
		"fails.example":      "delayed site 4.4.3 fails.example MX: name look-up failed so far: 127.0.0.1:53: SERVFAIL",
	} {
		plan, o := c.Plan(t.Context(), domain)
		got := ""
		if o != nil {
			got = show(*o)
		} else {
			got = plan.Site + " " + string(plan.TLS) + ":"
			for _, h := range plan.Hosts {
				got += " " + h.Name
			}
		}
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", domain, got, want)
		}
	}
}

// TestSmarthost takes every domain without a route of its own, also one that
// the DNS does not know.
func TestSmarthost(t *testing.T) {
	t.Parallel()
	c := router(t, Config{Static: []Static{{Domain: "*", NextHop: "127.0.0.1:2525", TLS: TLSNone, Username: "u", Password: "secret"}}})
	plan, o := c.Plan(t.Context(), "missing.example")
	if o != nil || plan.Site != "via 127.0.0.1:2525" || plan.Hosts[0].Port != 2525 || strings.Contains(fmt.Sprintf("%v %+v", plan, plan), "secret") {
		t.Errorf("got %+v, %v", plan, o)
	}
}

// TestSitesOfRoutes: one site per next hop and terms, never that of an MX.
func TestSitesOfRoutes(t *testing.T) {
	t.Parallel()
	routes, err := parseStatic([]Static{
		{Domain: "a.example", NextHop: "h.example:25"},
		{Domain: "b.example", NextHop: "h.example:25", TLS: TLSMay},
		{Domain: "c.example", NextHop: "h.example:25", TLS: TLSVerify},
		{Domain: "d.example", NextHop: "h.example:25", Username: "u", Password: "p"},
		{Domain: "e.example", NextHop: "h.example:26"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for d, r := range routes {
		got[d] = r.site
	}
	want := map[string]string{
		"a.example": "via h.example:25", "b.example": "via h.example:25", "c.example": "via h.example:25 (c.example)",
		"d.example": "via h.example:25 (d.example)", "e.example": "via h.example:26",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

// TestNewRefuses lists configurations that cannot work.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	ok := Static{Domain: "example.net", NextHop: "h.example:25"}
	for name, cfg := range map[string]Config{
		"no hostname":          {},
		"port":                 {Hostname: "h", Port: 70000},
		"domain":               {Hostname: "h", Static: []Static{{Domain: "nodot", NextHop: "h:25"}}},
		"next hop":             {Hostname: "h", Static: []Static{{Domain: "*", NextHop: "h.example"}}},
		"next hop's port":      {Hostname: "h", Static: []Static{{Domain: "*", NextHop: "h.example:smtp"}}},
		"next hop without one": {Hostname: "h", Static: []Static{{Domain: "*", NextHop: ":25"}}},
		"tls":                  {Hostname: "h", Static: []Static{{Domain: "*", NextHop: "h:25", TLS: "maybe"}}},
		"user only":            {Hostname: "h", Static: []Static{{Domain: "*", NextHop: "h:25", Username: "u"}}},
		"twice":                {Hostname: "h", Static: []Static{ok, ok}},
	} {
		if _, err := New(cfg, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(Config{Hostname: "h"}, nil); err != nil {
		t.Error(err)
	}
}

// TestOrder: by preference, equals at random.
func TestOrder(t *testing.T) {
	t.Parallel()
	plan, _ := router(t, Config{}).Plan(t.Context(), "equals.example")
	seen := map[string]bool{}
	for range 100 {
		names := make([]string, 0, 3)
		for _, h := range plan.Order() {
			names = append(names, h.Name)
		}
		seen[strings.Join(names, " ")] = true
	}
	if len(seen) != 2 || !seen["first.example mx1.example.net mx2.example.net"] || !seen["first.example mx2.example.net mx1.example.net"] {
		t.Errorf("got %v", seen)
	}
}

// TestAddresses: IPv4 and IPv6 in turn, each once, none that is no host.
func TestAddresses(t *testing.T) {
	t.Parallel()
	r := router(t, Config{})
	for host, want := range map[string]string{
		"dual.example":     "192.0.2.1 2001:db8::1 192.0.2.3 2001:db8::2",
		"alias1.example":   "192.0.2.1",
		"zero.example":     "the host has no address",
		"empty.example":    "the host has no address",
		"missing.example":  "the host has no address",
		"fails.example":    "temporary",
		"192.0.2.1":        "the host has no address",
		"localhost":        "127.0.0.1 ::1",
		"repeated.example": "192.0.2.1",
	} {
		addrs, err := r.Addresses(t.Context(), Host{Name: host})
		got := strings.Trim(fmt.Sprint(addrs), "[]")
		switch {
		case errors.Is(err, dns.ErrTemporary):
			got = "temporary"
		case err != nil:
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
	addrs, err := r.Addresses(t.Context(), Host{Name: "::1", addr: netip.IPv6Loopback()})
	if err != nil || len(addrs) != 1 || addrs[0] != netip.IPv6Loopback() {
		t.Error(addrs, err)
	}
}

// TestAtLeast: what mail demands makes a way stricter, never looser.
func TestAtLeast(t *testing.T) {
	t.Parallel()
	all := []TLSPolicy{TLSNone, TLSMay, TLSEncrypt, TLSVerify}
	for i, p := range all {
		for j, demand := range append(all, "") {
			want := p
			if demand == TLSEncrypt || demand == TLSVerify {
				want = all[max(i, j)]
			}
			if got := p.AtLeast(demand); got != want {
				t.Errorf("%q at least %q: %q, want %q", p, demand, got, want)
			}
		}
	}
	for s, want := range map[string]TLSPolicy{"": TLSMay, "none": TLSNone, "verify": TLSVerify} {
		if got, err := ParseTLSPolicy(s); got != want || err != nil {
			t.Error(s, got, err)
		}
	}
	if _, err := ParseTLSPolicy("VERIFY"); err == nil {
		t.Error("policies are lower case")
	}
}

// TestCredentials belong to the route, and to nothing that is printed.
func TestCredentials(t *testing.T) {
	t.Parallel()
	r := router(t, Config{Static: []Static{{Domain: "a.example", NextHop: "h.example:25", Username: "u", Password: "p"}}})
	plan, _ := r.Plan(t.Context(), "a.example")
	if u, p := plan.Credentials(); u != "u" || p != "p" || !plan.Static() {
		t.Error(u, p, plan.Static())
	}
	plan, _ = r.Plan(t.Context(), "example.net")
	if u, p := plan.Credentials(); u != "" || p != "" || plan.Static() {
		t.Error(u, p, plan.Static())
	}
}

// router is one for tests, with a resolver that knows the zone below.
func router(tb testing.TB, cfg Config) *Router {
	tb.Helper()
	if cfg.Hostname == "" {
		cfg.Hostname = "relay.example.org"
	}
	resolver, err := dns.New(dns.Config{Servers: []string{"127.0.0.1:53"}, Dial: zone().Dial}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := New(cfg, resolver)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func show(o mail.Outcome) string {
	return string(o.Action) + " " + string(o.Scope) + " " + o.Reply()
}

// zone is the DNS of all tests, by name; what is not there does not exist.
func zone() dnstest.Zone {
	return dnstest.Zone{
		"example.net.":       {"MX 20 mx2.example.net.", "MX 10 mx1.example.net."},
		"mx1.example.net.":   {"A 192.0.2.1"},
		"mx2.example.net.":   {"A 192.0.2.2"},
		"implicit.example.":  {"A 192.0.2.9"},
		"null.example.":      {"MX 0 ."},
		"fails.example.":     {"SERVFAIL"},
		"mxfails.example.":   {"MX 10 fails.example."},
		"halffails.example.": {"MX 10 fails.example.", "MX 20 mx1.example.net."},
		"self.example.":      {"MX 10 relay.example.org.", "MX 20 mx1.example.net."},
		"backup.example.":    {"MX 10 mx1.example.net.", "MX 20 Relay.Example.ORG.", "MX 20 mx2.example.net.", "MX 30 mx3.example.net."},
		"equals.example.":    {"MX 10 mx1.example.net.", "MX 10 mx2.example.net.", "MX 5 first.example."},
		"nowhere.example.":   {"MX 10 missing.example.", "MX 20 empty.example."},
		"halfgone.example.":  {"MX 10 missing.example.", "MX 20 mx1.example.net."},
		"empty.example.":     {"TXT nothing"},
		"alias.example.":     {"CNAME example.net."},
		"mxalias.example.":   {"MX 10 alias1.example."},
		"alias1.example.":    {"CNAME mx1.example.net."},
		"any.example.":       {"MX 10 zero.example."},
		"zero.example.":      {"A 0.0.0.0"},
		"repeated.example.":  {"A 192.0.2.1", "A 192.0.2.1"},
		"dual.example.":      {"A 192.0.2.1", "A 192.0.2.3", "AAAA 2001:db8::1", "AAAA 2001:db8::2"},
		"many.example.":      {"A 192.0.2.11", "A 192.0.2.12", "A 192.0.2.13", "A 192.0.2.14", "A 192.0.2.15", "A 192.0.2.16", "A 192.0.2.17", "A 192.0.2.18", "A 192.0.2.19", "A 192.0.2.20"},
	}
}
