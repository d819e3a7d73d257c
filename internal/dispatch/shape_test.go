package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/delivery"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/reason"
	"mittente/internal/route"
	"mittente/internal/throttle"
)

func instantly(context.Context, string, string) mail.Outcome { return delivered() }

// aSecond is a delivery that takes one.
func aSecond(context.Context, string, string) mail.Outcome {
	time.Sleep(time.Second)
	return delivered()
}

// operate is an order of an operator.
func (h *house) operate(do queue.Operation, of queue.Selection) {
	h.t.Helper()
	_, err := h.queue.Operate(h.t.Context(), queue.Order{Do: do, Of: of, Actor: "ada"})
	h.must(err)
}

// What an operator holds or cancels is not attempted, if it has not begun; what
// runs is seen through.
func TestWishes(t *testing.T) {
	t.Parallel()
	in(t, Config{PerSite: 1}, func(h *house) {
		h.courier.set(aSecond)
		var items []queue.Item
		account := id.New[id.Account]()
		for _, a := range many(5, "one.test") {
			items = append(items, h.accept(letterTo{to: []string{a}, account: account})...)
		}
		time.Sleep(100 * time.Millisecond)
		for _, i := range []int{0, 2} {
			h.operate(queue.Hold, queue.Selection{Recipient: items[i].Recipient.ID})
		}
		h.operate(queue.Cancel, queue.Selection{Recipient: items[3].Recipient.ID})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		h.wantStates(counts{queue.Held: 1, queue.Cancelled: 1, queue.Delivered: 3})
		if got := len(h.courier.done()); got != 3 {
			t.Errorf("%d attempts", got)
		}
		if r := h.recipient(items[2]); r.State != queue.Held || r.Attempts != 0 {
			t.Errorf("held: %+v", r)
		}
		h.operate(queue.Resume, queue.Selection{Recipient: items[2].Recipient.ID})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		h.wantStates(counts{queue.Cancelled: 1, queue.Delivered: 4})
	})
}

// The mail of a paused list in memory goes back, and nothing of it is attempted
// until the list is started again.
func TestPausedList(t *testing.T) {
	t.Parallel()
	in(t, Config{PerSite: 1}, func(h *house) {
		h.courier.set(aSecond)
		h.to(many(5, "one.test")...)
		time.Sleep(100 * time.Millisecond)
		h.paused.Store(true)
		h.Changed()
		time.Sleep(time.Hour)
		h.to("late@two.test")
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := h.states(); got[queue.Delivered] != 1 || got[queue.Pending] != 5 {
			t.Errorf("%v", got)
		}
		if got := h.memory(); got != (inMemory{}) {
			t.Errorf("in memory: %+v", got)
		}
	})
}

// An account's hourly speed paces its mail, and no other's; nothing is written
// for what waits.
func TestSpeedOfAnAccount(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		slow := id.New[id.Account]()
		h.speeds.Store(slow, int64(3600))
		h.courier.set(instantly)
		start := time.Now()
		for range 3 {
			h.accept(letterTo{to: many(100, "one.test"), account: slow})
		}
		h.accept(letterTo{to: many(50, "one.test")})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		by := func() (slow, other int) {
			for _, a := range h.courier.done() {
				if len(a.to) == 50 && a.at.Sub(start) < time.Second {
					other += 50
				} else {
					slow += len(a.to)
				}
			}
			return slow, other
		}
		gone, other := by()
		if other != 50 || gone < 85 || gone > 95 {
			t.Errorf("%d of the slow account after half a minute, %d of the other", gone, other)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if later, _ := by(); later-gone < 55 || later-gone > 65 {
			t.Errorf("%d in a minute", later-gone)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 350})
		if got := h.gauge("mittente_dispatch_outcomes_total"); got != 350 {
			t.Errorf("%v outcomes for 350 recipients", got)
		}
		// It is lifted without a restart.
		h.accept(letterTo{to: many(100, "two.test"), account: slow})
		h.accept(letterTo{to: many(100, "two.test"), account: slow})
		h.speeds.Delete(slow)
		h.Changed()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 550})
	})
}

// A user's speed paces that user's mail only: the others of the account go on.
func TestSpeedOfAUser(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.speeds.Store("s1_9", int64(600))
		h.courier.set(instantly)
		account := id.New[id.Account]()
		var items []queue.Item
		for i := range 40 {
			items = append(items, h.accept(letterTo{to: []string{fmt.Sprintf("r%d@one.test", i)}, account: account, user: "s1_9"})...)
		}
		h.accept(letterTo{to: many(20, "one.test"), account: account})
		time.Sleep(time.Second)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 30, queue.Pending: 30})
		waiting := h.recipient(items[39])
		if waiting.Last != reason.Aside(reason.SayPace) || waiting.Attempts != 0 {
			t.Errorf("%+v", waiting)
		}
		if why := h.Explain(reason.State{Recipient: waiting}); why.Code != reason.SpeedUser || time.Until(why.Next) > 3*time.Minute+time.Second {
			t.Errorf("%+v", why)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := h.states()[queue.Delivered]; got < 39 || got > 41 {
			t.Errorf("%d delivered after a minute", got)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 60})
	})
}

// A site's limits hold: connections, and messages in a time.
func TestLimitsOfASite(t *testing.T) {
	t.Parallel()
	in(t, Config{Sites: []throttle.Rule{
		{Name: "few", Match: []string{"few.test"}, Connections: 2},
		{Name: "rate", Match: []string{"rate.test"}, Rate: "60/min"},
		{Name: "together", Match: []string{"group.test"}, Together: 3},
	}}, func(h *house) {
		h.courier.plan = func(d mail.Domain) (string, *mail.Outcome) { return string(d) + ":25", nil }
		h.courier.set(aSecond)
		h.to(many(10, "few.test")...)
		h.to(many(10, "rate.test")...)
		for i := range 8 {
			h.to(fmt.Sprintf("a@s%d.group.test", i))
		}
		time.Sleep(5500 * time.Millisecond)
		synctest.Wait()
		if got := h.courier.atOnce("few.test:25"); got != 2 {
			t.Errorf("%d at once", got)
		}
		if got := len(h.courier.done("rate.test:25")); got < 5 || got > 7 {
			t.Errorf("%d in five seconds at one a second", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 28})
		first := map[int64]int{}
		for _, a := range h.courier.done() {
			if strings.HasSuffix(a.site, ".group.test:25") {
				first[a.at.Unix()]++
			}
		}
		for at, n := range first {
			if n > 3 {
				t.Errorf("%d at once at the sites of one provider, at %d", n, at)
			}
		}
	})
}

// seeing notes the jobs that a courier gets.
type seeing struct {
	*courier
	jobs chan delivery.Job
}

func (s seeing) Deliver(ctx context.Context, plan delivery.Plan, job delivery.Job) []mail.Outcome {
	s.jobs <- job
	return s.courier.Deliver(ctx, plan, job)
}

// What a list demands of TLS, and how many messages a provider takes on a
// connection, go with the job; where the demand can't be read nothing is sent.
func TestTermsGoWithTheJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{Sites: []throttle.Rule{{Name: "x", Match: []string{"one.test"}, PerConnection: 7}}})
		var fails atomic.Bool
		h.deps.MinTLS = func(_ context.Context, l id.List) (route.TLSPolicy, error) {
			if l != theList || fails.Load() {
				return "", errors.New("not to be read")
			}
			return route.TLSVerify, nil
		}
		h.courier.plan = func(d mail.Domain) (string, *mail.Outcome) { return string(d) + ":25", nil }
		see := seeing{h.courier, make(chan delivery.Job, 10)}
		h.deps.Courier = see
		stop := h.run()
		h.to("a@one.test")
		if job := <-see.jobs; job.TLS != route.TLSVerify || job.PerConnection != 7 {
			t.Errorf("%+v", job)
		}
		synctest.Wait()
		fails.Store(true)
		item := h.to("b@one.test")[0]
		synctest.Wait()
		if r := h.recipient(item); len(see.jobs) != 0 || r.State != queue.Pending || r.Last.Status.String() != "4.3.0" {
			t.Errorf("%d jobs, %+v", len(see.jobs), r)
		}
		stop()
		h.must(h.deps.DB.Close())
	})
}

// A site that asks for time gets it.
func TestSiteAsksForTime(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		start := time.Now()
		h.courier.set(func(context.Context, string, string) mail.Outcome {
			o := unreachable()
			o.Code, o.RetryAfter = 421, 20*time.Minute
			return o
		})
		h.to("a@one.test")
		time.Sleep(time.Minute)
		item := h.to("b@one.test")[0]
		synctest.Wait()
		if r := h.recipient(item); r.Due.Sub(start) < 20*time.Minute || r.Attempts != 0 || r.Site != "one.test" {
			t.Errorf("due after %v: %+v", r.Due.Sub(start), r)
		}
		if why := h.Explain(reason.State{Recipient: h.recipient(item)}); why.Code != reason.AskedSite {
			t.Errorf("%+v", why)
		}
	})
}

// What outcomes say of a site.
func TestSignOf(t *testing.T) {
	t.Parallel()
	with := func(o mail.Outcome, subject, detail int) mail.Outcome {
		o.Status = mail.Status{Class: 4, Subject: subject, Detail: detail}
		return o
	}
	away := unreachable()
	away.RetryAfter = time.Minute
	for name, c := range map[string]struct {
		outcomes []mail.Outcome
		sign     throttle.Sign
		ask      time.Duration
	}{
		"nothing":                {nil, throttle.None, 0},
		"delivered":              {[]mail.Outcome{delivered()}, throttle.Good, 0},
		"refused":                {[]mail.Outcome{refused(), deferred()}, throttle.Good, 0},
		"mailbox busy":           {[]mail.Outcome{deferred()}, throttle.Good, 0},
		"greylisted":             {[]mail.Outcome{with(deferred(), 7, 1)}, throttle.Good, 0},
		"rate limited":           {[]mail.Outcome{with(deferred(), 7, 650)}, throttle.Busy, 0},
		"congested":              {[]mail.Outcome{with(deferred(), 4, 5)}, throttle.Busy, 0},
		"not accepting":          {[]mail.Outcome{with(deferred(), 3, 2)}, throttle.Busy, 0},
		"away":                   {[]mail.Outcome{unreachable(), unreachable()}, throttle.Away, 0},
		"away for a minute":      {[]mail.Outcome{unreachable(), away}, throttle.Away, time.Minute},
		"one was served":         {[]mail.Outcome{unreachable(), delivered()}, throttle.Good, 0},
		"some limited, rest 421": {[]mail.Outcome{unreachable(), with(deferred(), 7, 28)}, throttle.Busy, 0},
	} {
		if sign, ask := signOf(c.outcomes); sign != c.sign || ask != c.ask {
			t.Errorf("%s: %v, %v", name, sign, ask)
		}
	}
}

func (h *house) alerts() (found []alert.Alert) {
	h.t.Helper()
	h.must(h.deps.DB.View(h.t.Context(), func(tx *db.Tx) (err error) {
		found, err = alert.List(tx, alert.Filter{})
		return err
	}))
	return found
}

// An operator hears of a site that is dead for long, of one that refuses us, and
// of a resolver that is silent: once each, however much mail there is.
func TestAlerts(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		var dns atomic.Bool
		h.courier.plan = func(d mail.Domain) (string, *mail.Outcome) {
			if dns.Load() {
				return "", &mail.Outcome{Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 3}, Diagnostic: "SERVFAIL"}
			}
			return string(d), nil
		}
		h.courier.set(func(_ context.Context, site, _ string) mail.Outcome {
			o := unreachable()
			o.Ours = site == "blocks.test"
			return o
		})
		h.to(many(20, "dead.test")...)
		h.to("a@blocks.test", "b@blocks.test")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		keys := func() (keys []string) {
			for _, a := range h.alerts() {
				keys = append(keys, string(a.Kind)+": "+a.Key)
			}
			slices.Sort(keys)
			return keys
		}
		if got := keys(); !slices.Equal(got, []string{"sending_problem: refused by blocks.test"}) {
			t.Errorf("after ten minutes: %q", got)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := keys(); !slices.Equal(got, []string{
			"queue: dead site blocks.test", "queue: dead site dead.test", "sending_problem: refused by blocks.test",
		}) {
			t.Errorf("after two hours: %q", got)
		}
		for _, a := range h.alerts() {
			if a.Count > 12 || a.Facts["site"] == "" || !strings.Contains(a.Facts["reply"], "connection refused") {
				t.Errorf("%+v", a)
			}
		}
		dns.Store(true)
		for range 20 {
			time.Sleep(time.Minute)
			h.to("a@elsewhere.test")
		}
		synctest.Wait()
		if got := keys(); !slices.Contains(got, "certificates_dns: resolver") {
			t.Errorf("while the resolver is silent: %q", got)
		}
	})
}

// What holds mail up is written where another process reads it, and taken back
// when it holds nothing up any more.
func TestStanding(t *testing.T) {
	t.Parallel()
	in(t, Config{Node: "here", PerSite: 2}, func(h *house) {
		var up atomic.Bool
		h.courier.set(func(_ context.Context, site, _ string) mail.Outcome {
			if site == "dead.test" && !up.Load() {
				return unreachable()
			}
			time.Sleep(10 * time.Second)
			return delivered()
		})
		dead := h.to("a@dead.test", "b@dead.test")
		busy := h.to(many(20, "busy.test")...)
		time.Sleep(2*tellEvery + 100*time.Millisecond)
		synctest.Wait()
		why := func(item queue.Item) (got reason.Reason) {
			h.must(h.deps.DB.View(h.t.Context(), func(tx *db.Tx) error {
				r, err := h.queue.Recipient(tx, item.Recipient.ID)
				if err != nil {
					return err
				}
				nodes, site, err := reason.Nodes(tx, h.queue, r, time.Now())
				got = reason.Why(reason.State{Recipient: r, Site: site}, nodes, time.Now())
				return err
			}))
			return got
		}
		if got := why(dead[1]); got.Code != reason.Dead || got.Site != "dead.test" || !strings.Contains(got.Reply, "not answering") {
			t.Errorf("at the dead site: %+v", got)
		}
		if got := why(busy[0]); got.Code != reason.Attempting {
			t.Errorf("what is attempted: %+v", got)
		}
		if got := why(busy[19]); got.Code != reason.Connections || got.Node != "here" || got.Site != "busy.test" {
			t.Errorf("what waits: %+v", got)
		}
		up.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 22})
		h.must(h.deps.DB.View(h.t.Context(), func(tx *db.Tx) error {
			var n int
			err := tx.Row("SELECT COUNT(*) FROM standing").Scan(&n)
			if n != 0 {
				t.Errorf("%d rows are left", n)
			}
			return err
		}))
	})
}
