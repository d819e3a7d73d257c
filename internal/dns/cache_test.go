package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// TestHowLongAnswersAreKept asks again at the last moment of each kind of
// answer's life, and right after it.
func TestHowLongAnswersAreKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server responder
		kept   time.Duration
		err    error
	}{
		"TTL":                   {reply(t, 0, "a. 300 IN TXT x"), 300 * time.Second, nil},
		"least TTL of several":  {reply(t, 0, "a. 300 IN TXT x", "a. 200 IN TXT y"), 200 * time.Second, nil},
		"least TTL of a chain":  {reply(t, 0, "a. 100 IN CNAME b.", "b. 300 IN TXT x"), 100 * time.Second, nil},
		"floor":                 {reply(t, 0, "a. 0 IN TXT x"), 5 * time.Second, nil},
		"cap":                   {reply(t, 0, "a. 604800 IN TXT x"), time.Hour, nil},
		"top bit (RFC 2181 §8)": {reply(t, 0, "a. 2147483648 IN TXT x"), 5 * time.Second, nil},
		"no data, SOA minimum":  {reply(t, 0, soa), 30 * time.Second, nil},
		"no name, SOA minimum":  {reply(t, mdns.RcodeNameError, soa), 30 * time.Second, ErrNotFound},
		"no name, SOA TTL":      {reply(t, mdns.RcodeNameError, "ns . 20 IN SOA a. b. 1 2 3 4 3600"), 20 * time.Second, ErrNotFound},
		"no name, cap":          {reply(t, mdns.RcodeNameError, "ns . 3600 IN SOA a. b. 1 2 3 4 3600"), time.Minute, ErrNotFound},
		"no name, no SOA":       {reply(t, mdns.RcodeNameError), 5 * time.Second, ErrNotFound},
		"failure (RFC 9520)":    {reply(t, mdns.RcodeServerFailure), 5 * time.Second, ErrTemporary},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				r := resolver(t, network{first: func(network string, q *mdns.Msg) [][]byte {
					asked.Add(1)
					return c.server(network, q)
				}}, first)
				ask := func() int32 {
					before := asked.Load()
					if _, err := r.TXT(t.Context(), "a"); !errors.Is(err, c.err) {
						t.Errorf("got %v, want %v", err, c.err)
					}
					return asked.Load() - before
				}
				ask()
				time.Sleep(c.kept - time.Nanosecond)
				if ask() != 0 {
					t.Error("asked again too early")
				}
				time.Sleep(time.Nanosecond)
				if ask() == 0 {
					t.Error("kept too long")
				}
			})
		})
	}
}

// TestSingleFlight: many callers, one question; one who leaves takes nobody along.
func TestSingleFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		r := resolver(t, network{first: func(_ string, q *mdns.Msg) [][]byte {
			asked.Add(1)
			time.Sleep(time.Second)
			return [][]byte{pack(t, message(t, q, 0, "a. 300 IN TXT x"))}
		}}, first)
		var wg sync.WaitGroup
		leaver, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		wg.Go(func() {
			if _, err := r.TXT(leaver, "a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		synctest.Wait() // the one who will leave is the one who started it
		for range 50 {
			wg.Go(func() {
				if got, err := r.TXT(t.Context(), "A."); err != nil || got.Records[0] != "x" {
					t.Error(got, err)
				}
			})
		}
		wg.Wait()
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
	})
}

// TestCacheIsBounded bounds entries and bytes, least recently used first out.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newCache(100, 10_000)
	rr, err := mdns.NewRR("a. 300 IN TXT " + strings.Repeat("x", 200))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	put := func(name string, rrs ...mdns.RR) {
		c.put(question{name: name}, &result{rrs: rrs, expires: now.Add(time.Minute)})
	}
	for i := range 1000 {
		put(fmt.Sprint("small", i))
		c.get(question{name: "small0"}, now) // used all the time: stays
	}
	if c.len() > 100 || c.bytes > 10_000 || c.get(question{name: "small0"}, now) == nil || c.get(question{name: "small1"}, now) != nil {
		t.Errorf("%d entries, %d bytes", c.len(), c.bytes)
	}
	for i := range 100 {
		put(fmt.Sprint("large", i%50), rr, rr)
	}
	if c.bytes > 10_000 || c.len() > 13 || c.len() != c.order.Len() {
		t.Errorf("%d entries, %d bytes", c.len(), c.bytes)
	}
	for c.order.Len() > 0 {
		c.drop(c.order.Back())
	}
	if c.bytes != 0 || c.len() != 0 {
		t.Errorf("%d bytes in %d entries after all have gone", c.bytes, c.len())
	}
}

// FuzzReply feeds what a server may send to everything that reads it.
func FuzzReply(f *testing.F) {
	q := newQuery(question{"a.", mdns.TypeTXT})
	for _, records := range [][]string{{"a. 300 IN TXT x\\200"}, {"a. 1 IN CNAME b.", "b. 1 IN TXT x"}, {soa}, {"a. 1 IN MX 0 ."}} {
		m := new(mdns.Msg).SetReply(q)
		for _, s := range records {
			rr, err := mdns.NewRR(strings.TrimPrefix(s, "ns "))
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(mdns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		for _, qtype := range []uint16{mdns.TypeTXT, mdns.TypeMX, mdns.TypeA} {
			c := chain{name: "a.", ttl: time.Hour}
			end, err := c.follow(m, qtype)
			if c.hops > maxChain+1 || len(c.rrs) > maxRecords || (err == nil && !end && c.name == "a.") {
				t.Errorf("end %v, %v: %+v", end, err, c)
			}
			for _, rr := range c.rrs {
				if txt, ok := rr.(*mdns.TXT); ok {
					unescape(strings.Join(txt.Txt, ""))
				}
			}
		}
	})
}

// BenchmarkCached is the look-up that every message makes.
func BenchmarkCached(b *testing.B) {
	r, err := New(Config{Servers: []string{first}, Dial: network{first: func(_ string, q *mdns.Msg) [][]byte {
		m := new(mdns.Msg).SetReply(q)
		m.RecursionAvailable = true
		rr, _ := mdns.NewRR("example.org. 300 IN MX 10 mx.example.org.")
		m.Answer = append(m.Answer, rr)
		wire, _ := m.Pack()
		return [][]byte{wire}
	}}.dial}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.MX(b.Context(), "example.org"); err != nil {
			b.Fatal(err)
		}
	}
}
