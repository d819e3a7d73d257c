package delivery

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/mail"
)

// TestNewRefuses lists configurations that cannot work.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}, nil, slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("a courier without a hostname")
	}
	reg := prometheus.NewRegistry()
	if _, err := New(Config{Hostname: "h"}, nil, slog.New(slog.DiscardHandler), reg); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Hostname: "h"}, nil, slog.New(slog.DiscardHandler), reg); err == nil {
		t.Error("a second courier on one registry is not reported")
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
