package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/mail"
)

// TestPlan is RFC 5321 §5.1, RFC 7505 and the routes.
func TestPlan(t *testing.T) {
	t.Parallel()
	c := courier(t, Config{Routes: []Route{
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
	c := courier(t, Config{Routes: []Route{{Domain: "*", NextHop: "127.0.0.1:2525", TLS: TLSNone, Username: "u", Password: "secret"}}})
	plan, o := c.Plan(t.Context(), "missing.example")
	if o != nil || plan.Site != "via 127.0.0.1:2525" || plan.Hosts[0].Port != 2525 || strings.Contains(fmt.Sprintf("%v %+v", plan, plan), "secret") {
		t.Errorf("got %+v, %v", plan, o)
	}
}

// TestSitesOfRoutes: one site per next hop and terms, never that of an MX.
func TestSitesOfRoutes(t *testing.T) {
	t.Parallel()
	routes, err := parseRoutes([]Route{
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
	ok := Route{Domain: "example.net", NextHop: "h.example:25"}
	for name, cfg := range map[string]Config{
		"no hostname":          {},
		"port":                 {Hostname: "h", Port: 70000},
		"domain":               {Hostname: "h", Routes: []Route{{Domain: "nodot", NextHop: "h:25"}}},
		"next hop":             {Hostname: "h", Routes: []Route{{Domain: "*", NextHop: "h.example"}}},
		"next hop's port":      {Hostname: "h", Routes: []Route{{Domain: "*", NextHop: "h.example:smtp"}}},
		"next hop without one": {Hostname: "h", Routes: []Route{{Domain: "*", NextHop: ":25"}}},
		"tls":                  {Hostname: "h", Routes: []Route{{Domain: "*", NextHop: "h:25", TLS: "maybe"}}},
		"user only":            {Hostname: "h", Routes: []Route{{Domain: "*", NextHop: "h:25", Username: "u"}}},
		"twice":                {Hostname: "h", Routes: []Route{ok, ok}},
	} {
		if _, err := New(cfg, nil, slog.New(slog.DiscardHandler), nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	reg := prometheus.NewRegistry()
	if _, err := New(Config{Hostname: "h"}, nil, slog.New(slog.DiscardHandler), reg); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Hostname: "h"}, nil, slog.New(slog.DiscardHandler), reg); err == nil {
		t.Error("a second courier on one registry is not reported")
	}
}

// TestOrder: by preference, equals at random.
func TestOrder(t *testing.T) {
	t.Parallel()
	plan, _ := courier(t, Config{}).Plan(t.Context(), "equals.example")
	seen := map[string]bool{}
	for range 100 {
		names := make([]string, 0, 3)
		for _, h := range plan.order() {
			names = append(names, h.Name)
		}
		seen[strings.Join(names, " ")] = true
	}
	if len(seen) != 2 || !seen["first.example mx1.example.net mx2.example.net"] || !seen["first.example mx2.example.net mx1.example.net"] {
		t.Errorf("got %v", seen)
	}
}

// TestAddressesTried: which connections are begun, in which order, when nobody
// answers, and what the recipients are told.
func TestAddressesTried(t *testing.T) {
	t.Parallel()
	for domain, want := range map[mail.Domain]string{
		"dual.example":      "192.0.2.1:25 [2001:db8::1]:25 192.0.2.3:25 [2001:db8::2]:25 delayed site 4.4.1",
		"many.example":      "192.0.2.11:25 192.0.2.12:25 192.0.2.13:25 192.0.2.14:25 192.0.2.15:25 192.0.2.16:25 192.0.2.17:25 192.0.2.18:25 delayed site 4.4.1",
		"mxalias.example":   "192.0.2.1:25 delayed site 4.4.1",
		"halfgone.example":  "192.0.2.1:25 delayed site 4.4.1",
		"halffails.example": "192.0.2.1:25 delayed site 4.4.1",
		"mxfails.example":   "delayed site 4.4.3",
		"nowhere.example":   "failed recipient 5.4.4",
		"empty.example":     "failed recipient 5.4.4",
		"any.example":       "failed recipient 5.4.4",
	} {
		t.Run(string(domain), func(t *testing.T) {
			t.Parallel()
			var dialled []string
			c := courier(t, Config{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
				dialled = append(dialled, address)
				return nil, net.ErrClosed
			}})
			plan, o := c.Plan(t.Context(), domain)
			if o != nil {
				t.Fatal(*o)
			}
			o = &c.Deliver(t.Context(), plan, (&scenario{}).job(t))[0]
			dialled = append(dialled, string(o.Action), string(o.Scope), o.Status.String())
			if got := strings.Join(dialled, " "); got != want {
				t.Errorf("got  %s\nwant %s\n(%s)", got, want, o.Diagnostic)
			}
		})
	}
}

// TestNoRecipients: nothing to do is nothing done.
func TestNoRecipients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPeers(t)
		c := courier(t, Config{Dial: p.dial})
		plan, _ := c.Plan(t.Context(), "example.net")
		if got := c.Deliver(t.Context(), plan, Job{}); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}
