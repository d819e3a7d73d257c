package delivery

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/mail"
	"mittente/internal/route"
	"mittente/internal/smtpclient"
)

// pipelined is the server's part of connections with n accepted messages.
func pipelined(address string, n int) *dialogue {
	d := &dialogue{address: address, lines: []string{"S: 220 mx", "C: EHLO relay.example.org", "S: 250-mx", "S: 250 PIPELINING"}}
	for range n {
		d.lines = append(d.lines, "C: MAIL FROM:<sender@example.org>", "C: RCPT TO:<a@example.net>", "C: DATA",
			"S: 250 ok", "S: 250 ok", "S: 354 go", "CONTENT", "S: 250 ok")
	}
	return d
}

// deliver makes one attempt at domain, which must succeed.
func deliver(t *testing.T, c *Courier, domain mail.Domain) {
	t.Helper()
	plan, o := c.Plan(t.Context(), domain)
	if o != nil {
		t.Fatal(*o)
	}
	for _, o := range c.Deliver(t.Context(), plan, (&scenario{}).job(t)) {
		if o.Action != mail.Delivered {
			t.Errorf("%s: %s", domain, show(o))
		}
	}
}

// TestIdle: a connection waits 5 s, as long as each message asks for it, then says QUIT.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := pipelined("192.0.2.1", 3)
		first.lines = append(first.lines, "C: QUIT", "S: 221 bye")
		p := newPeers(t, first, pipelined("192.0.2.1", 1))
		c := courier(t, Config{Dial: p.dial})
		for range 3 {
			deliver(t, c, "example.net")
			time.Sleep(4 * time.Second)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if c.pool.n != 0 || len(c.pool.idle) != 0 {
			t.Errorf("%d connections wait", c.pool.n)
		}
		deliver(t, c, "example.net")
		c.Close()
		p.finish()
	})
}

// TestMessagesPerConnection: no more than allowed, also within one job.
func TestMessagesPerConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPeers(t, pipelined("192.0.2.1", 2), pipelined("192.0.2.1", 1))
		c := courier(t, Config{Dial: p.dial, MaxPerConnection: 2})
		for range 3 {
			deliver(t, c, "example.net")
		}
		c.Close()
		p.finish()
	})
}

// TestTerms: a connection is used again only by mail whose terms it was made under.
func TestTerms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		auth := pipelined("192.0.2.1", 1)
		auth.lines[3] = "S: 250-PIPELINING"
		auth.lines = append(auth.lines[:4:4], append([]string{"S: 250 AUTH PLAIN", "C: AUTH PLAIN AHUAcA==", "S: 235 ok"}, auth.lines[4:]...)...)
		p := newPeers(t, pipelined("192.0.2.1", 2), pipelined("192.0.2.1", 2), auth, pipelined("192.0.2.1:26", 1))
		c := courier(t, Config{Dial: p.dial},
			route.Static{Domain: "none.example", NextHop: "mx1.example.net:25", TLS: route.TLSNone},
			route.Static{Domain: "auth.example", NextHop: "mx1.example.net:25", TLS: route.TLSNone, Username: "u", Password: "p"},
			route.Static{Domain: "port.example", NextHop: "mx1.example.net:26", TLS: route.TLSNone},
		)
		for _, d := range []mail.Domain{"example.net", "none.example", "auth.example", "port.example", "none.example", "mxalias.example"} {
			if d == "mxalias.example" {
				d = "backup.example" // its MX is mx1 too, under the same terms as example.net
			}
			deliver(t, c, d)
		}
		c.Close()
		p.finish()
	})
}

// TestAnyOfTheEquals: a waiting connection to one of the hosts of equal
// preference goes before a new one to another.
func TestAnyOfTheEquals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPeers(t, pipelined("192.0.2.2", 20))
		c := courier(t, Config{Dial: p.dial})
		plan := Plan{Hosts: []route.Host{{Name: "mx2.example.net", Port: 25}}, TLS: route.TLSMay}
		for i := range 20 {
			if i == 1 {
				plan.Hosts = append(plan.Hosts, route.Host{Name: "mx1.example.net", Port: 25})
			}
			if o := c.Deliver(t.Context(), plan, (&scenario{}).job(t))[0]; o.Action != mail.Delivered {
				t.Fatal(show(o))
			}
		}
		c.Close()
		p.finish()
	})
}

// TestManyRecipients: transactions of a hundred on one connection.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := pipelined("192.0.2.1", 0)
		job := (&scenario{}).job(t)
		job.To = nil
		for _, n := range []int{100, 100, 50} {
			d.lines = append(d.lines, "C: MAIL FROM:<sender@example.org>")
			for range n {
				job.To = append(job.To, forwardPath(t, fmt.Sprintf("r%d@example.net", len(job.To))))
				d.lines = append(d.lines, "C: RCPT TO:<"+job.To[len(job.To)-1].To.String()+">")
			}
			d.lines = append(d.lines, "C: DATA", "S: 250 ok")
			for range n {
				d.lines = append(d.lines, "S: 250 ok")
			}
			d.lines = append(d.lines, "S: 354 go", "CONTENT", fmt.Sprintf("S: 250 %d", n))
		}
		p := newPeers(t, d)
		c := courier(t, Config{Dial: p.dial})
		plan, _ := c.Plan(t.Context(), "example.net")
		for i, o := range c.Deliver(t.Context(), plan, job) {
			if want := "100"; o.Action != mail.Delivered || i < 200 && o.Diagnostic != want {
				t.Errorf("recipient %d: %s", i, show(o))
			}
		}
		c.Close()
		p.finish()
		// EHLO, and per transaction one write for the commands and one for the content; QUIT.
		if p.writes != 1+3*2+1 {
			t.Errorf("%d writes", p.writes)
		}
	})
}

// TestFewWrites: 10 KB need one write for the commands and one for the content.
func TestFewWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPeers(t, pipelined("192.0.2.1", 1))
		c := courier(t, Config{Dial: p.dial})
		plan, _ := c.Plan(t.Context(), "example.net")
		job := (&scenario{headers: map[string]string{"content": strings.Repeat(`.0123456789abcdef\n`, 600)}}).job(t)
		job.Size = 0
		if o := c.Deliver(t.Context(), plan, job)[0]; o.Action != mail.Delivered {
			t.Error(show(o))
		}
		if p.writes != 3 {
			t.Errorf("%d writes", p.writes)
		}
		c.Close()
		p.finish()
	})
}

// TestInterrupted ends the attempt's context at each stage: at once before the
// final dot, after a grace behind it.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	all := pipelined("192.0.2.1", 1).lines
	for name, c := range map[string]struct {
		lines []string
		took  time.Duration
		want  string
	}{
		"connecting":       {nil, time.Minute, "delayed site 4.3.2 attempt interrupted at connection [mx1.example.net 192.0.2.1]"},
		"greeting":         {[]string{"SILENCE"}, time.Minute, "delayed site 4.3.2 attempt interrupted at greeting [mx1.example.net 192.0.2.1]"},
		"EHLO":             {append(all[:2:2], "SILENCE"), time.Minute, "delayed site 4.3.2 attempt interrupted at EHLO [mx1.example.net 192.0.2.1]"},
		"MAIL":             {append(all[:7:7], "SILENCE"), time.Minute, "delayed site 4.3.2 attempt interrupted at MAIL [mx1.example.net 192.0.2.1]"},
		"DATA":             {append(all[:9:9], "SILENCE"), time.Minute, "delayed site 4.3.2 attempt interrupted at DATA [mx1.example.net 192.0.2.1]"},
		"content":          {append(all[:10:10], "WAIT 2m"), time.Minute, ""},
		"final dot, late":  {append(all[:11:11], "WAIT 85s", "S: 250 taken"), 85 * time.Second, "delivered 250 2.0.0 taken [mx1.example.net 192.0.2.1]"},
		"final dot, never": {append(all[:11:11], "SILENCE"), 90 * time.Second, "delayed site 4.3.2 attempt interrupted at end of data [mx1.example.net 192.0.2.1]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &dialogue{address: "192.0.2.1", lines: c.lines, silent: c.lines == nil}
				p := newPeers(t, d)
				courier := courier(t, Config{Dial: p.dial, Timeouts: smtpclient.Timeouts{Connect: time.Hour}})
				plan, _ := courier.Plan(t.Context(), "example.net")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				job := (&scenario{}).job(t)
				if name == "content" {
					// More than fits into the buffer, to a server that does not
					// read: it never sees the end.
					job.Content = func() (io.ReadCloser, error) {
						return io.NopCloser(strings.NewReader(strings.Repeat("text\r\n", 100_000))), nil
					}
					c.want = "delayed site 4.3.2 attempt interrupted at DATA [mx1.example.net 192.0.2.1]"
				}
				began := time.Now()
				got := show(courier.Deliver(ctx, plan, job)[0])
				if took := time.Since(began); got != c.want || took != c.took {
					t.Errorf("after %v: %s\nwant after %v: %s", took, got, c.took, c.want)
				}
				courier.Close()
				p.finish()
			})
		})
	}
}

// TestAttemptIsBounded: a server that is just fast enough for each phase does
// not hold a message for ever.
func TestAttemptIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := pipelined("192.0.2.1", 0)
		d.lines = append([]string{"WAIT 4m"}, d.lines...)
		d.lines = append(d.lines, "C: MAIL FROM:<sender@example.org>", "C: RCPT TO:<a@example.net>", "C: DATA", "WAIT 4m", "S: 250 ok", "SILENCE")
		p := newPeers(t, d)
		c := courier(t, Config{Dial: p.dial, AttemptTimeout: 10 * time.Minute})
		plan, _ := c.Plan(t.Context(), "example.net")
		got := show(c.Deliver(t.Context(), plan, (&scenario{}).job(t))[0])
		if want := "delayed site 4.4.2 gave up at RCPT: the attempt took too long [mx1.example.net 192.0.2.1]"; got != want {
			t.Errorf("got %s", got)
		}
		c.Close()
		p.finish()
	})
}

// TestPoolIsBounded: beyond MaxIdle another connection takes leave.
func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPeers(t, pipelined("192.0.2.1", 1), pipelined("192.0.2.2", 1))
		c := courier(t, Config{Dial: p.dial, MaxIdle: 1})
		for _, host := range []string{"mx1.example.net", "mx2.example.net"} {
			plan := Plan{Hosts: []route.Host{{Name: host, Port: 25}}, TLS: route.TLSMay}
			if o := c.Deliver(t.Context(), plan, (&scenario{}).job(t))[0]; o.Action != mail.Delivered {
				t.Fatal(show(o))
			}
		}
		synctest.Wait()
		plan := Plan{Hosts: []route.Host{{Name: "mx2.example.net", Port: 25}}, TLS: route.TLSMay}
		if c.pool.n != 1 || len(c.pool.idle[termsOf(plan.Hosts[0], plan, plan.TLS).to]) != 1 {
			t.Errorf("%d wait", c.pool.n)
		}
		c.Close()
		p.finish()
	})
}

// TestResumption: a second connection resumes the first one's TLS session, and
// is judged anew.
func TestResumption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		secured := func() *dialogue {
			d := pipelined("192.0.2.1", 1)
			d.lines = append([]string{"S: 220 mx", "C: EHLO relay.example.org", "S: 250-mx", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go", "TLS"}, d.lines[1:]...)
			return d
		}
		p := newPeers(t, secured(), secured())
		var resumed []bool
		p.tls.VerifyConnection = func(s tlsState) error {
			resumed = append(resumed, s.DidResume)
			return nil
		}
		c := courier(t, Config{Dial: p.dial, TLSRoots: p.roots, MaxPerConnection: 1})
		plan, _ := c.Plan(t.Context(), "example.net")
		for range 2 {
			if o := c.Deliver(t.Context(), plan, (&scenario{}).job(t))[0]; !strings.HasSuffix(o.TLS, " verified") {
				t.Error(show(o))
			}
		}
		c.Close()
		p.finish()
		if fmt.Sprint(resumed) != "[false true]" {
			t.Errorf("resumed: %v", resumed)
		}
	})
}

// TestReuseByProtection: mail travels over a waiting connection that is as well
// protected as the mail demands, however it came to be.
func TestReuseByProtection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secured, trusted bool
		first            route.TLSPolicy
		satisfied        []route.TLSPolicy // the others need a connection of their own
	}{
		"clear":      {first: "", satisfied: []route.TLSPolicy{"", route.TLSMay}},
		"unverified": {secured: true, first: "", satisfied: []route.TLSPolicy{"", route.TLSMay, route.TLSEncrypt}},
		"verified":   {secured: true, trusted: true, first: "", satisfied: []route.TLSPolicy{"", route.TLSMay, route.TLSEncrypt, route.TLSVerify}},
		"demanded":   {secured: true, trusted: true, first: route.TLSVerify, satisfied: []route.TLSPolicy{"", route.TLSMay, route.TLSEncrypt, route.TLSVerify}},
	} {
		for _, demand := range []route.TLSPolicy{"", route.TLSMay, route.TLSEncrypt, route.TLSVerify} {
			t.Run(name+" then "+string(demand), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					d := pipelined("192.0.2.1", 2)
					if c.secured {
						d.lines = append([]string{"S: 220 mx", "C: EHLO relay.example.org", "S: 250-mx", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go", "TLS"}, d.lines[1:]...)
					}
					satisfied := slices.Contains(c.satisfied, demand)
					scripts := []*dialogue{d}
					if !satisfied {
						d.lines = d.lines[:len(d.lines)-8]
						scripts = append(scripts, &dialogue{address: "192.0.2.1", refused: true})
					}
					p := newPeers(t, scripts...)
					cfg := Config{Dial: p.dial, TLSRoots: p.roots}
					if !c.trusted {
						cfg.TLSRoots = x509.NewCertPool()
					}
					courier := courier(t, cfg)
					plan, _ := courier.Plan(t.Context(), "single.example")
					for i, policy := range []route.TLSPolicy{c.first, demand} {
						job := (&scenario{}).job(t)
						job.TLS = policy
						want := mail.Delivered
						if i == 1 && !satisfied {
							want = mail.Deferred
						}
						if o := courier.Deliver(t.Context(), plan, job)[0]; o.Action != want {
							t.Error(i, show(o))
						}
					}
					courier.Close()
					p.finish()
				})
			})
		}
	}
}

// TestSingly: what is remembered of servers that don't bear a group is bounded,
// in number and in time.
func TestSingly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSingly()
		s.add("mx.example")
		if !s.has("mx.example") || s.has("other.example") {
			t.Error("not what was added")
		}
		time.Sleep(singlyFor + time.Second)
		if s.has("mx.example") || len(s.until) != 0 {
			t.Error("remembered for too long")
		}
		for i := range 2 * maxSingly {
			s.add(fmt.Sprintf("mx%d.example", i))
		}
		if len(s.until) != maxSingly || !s.has(fmt.Sprintf("mx%d.example", 2*maxSingly-1)) {
			t.Errorf("%d remembered", len(s.until))
		}
	})
}

// cutShort is a server that has said all it will say, and takes only so many writes.
type cutShort struct {
	net.Conn
	replies io.Reader
	writes  int
}

func (c *cutShort) Read(p []byte) (int, error) { return c.replies.Read(p) }

func (c *cutShort) Write(p []byte) (int, error) {
	if c.writes--; c.writes < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(p), nil
}

func (*cutShort) SetDeadline(time.Time) error { return nil }
func (*cutShort) Close() error                { return nil }

// TestRefusedInTheMiddle: what a server said before it closed in the middle of
// the content is heard; when it said nothing, another host may do.
func TestRefusedInTheMiddle(t *testing.T) {
	t.Parallel()
	for last, want := range map[string]string{
		"552 5.3.4 too big\r\n":    "failed message 552 5.3.4 too big [mx1.example.net 192.0.2.1]",
		"451 4.6.0 not like this":  "delayed site 4.4.2 connection lost at DATA: broken pipe [mx1.example.net 192.0.2.1]",
		"451 4.6.0 not now\r\n":    "delayed message 451 4.6.0 not now [mx1.example.net 192.0.2.1]",
		"421 4.3.2 going down\r\n": "delayed site 421 4.3.2 going down [mx1.example.net 192.0.2.1]",
		"250 2.0.0 thank you\r\n":  "delayed site 4.4.2 connection lost at DATA: broken pipe [mx1.example.net 192.0.2.1]",
		"":                         "delayed site 4.4.2 connection lost at DATA: broken pipe [mx1.example.net 192.0.2.1]",
	} {
		for size, what := range map[int]string{10: "with the final dot", 200_000: "before it"} {
			c := courier(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
				replies := "220 mx\r\n250-mx\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n" + last
				return &cutShort{replies: strings.NewReader(replies), writes: 2}, nil
			}})
			plan := Plan{Hosts: []route.Host{{Name: "mx1.example.net", Port: 25}}, TLS: route.TLSMay}
			got := show(c.Deliver(t.Context(), plan, jobOf(t, bodyOf(size)))[0])
			want := want
			if size == 10 && strings.Contains(want, "broken pipe") && last != "" {
				// It is there before the dot, to which it would be taken for the reply.
				want = "delayed site 4.5.0 DATA: the server replied before the message had ended [mx1.example.net 192.0.2.1]"
			}
			if got != want {
				t.Errorf("%q %s: got %s", last, what, got)
			}
			c.Close()
		}
	}
}
