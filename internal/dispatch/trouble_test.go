package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

// Outcomes that the database does not take are kept, and nothing new begins;
// when it takes them again, all goes on, and no mail was sent twice.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	in(t, Config{PerSite: 5}, func(h *house) {
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(time.Second)
			return delivered()
		}
		h.to(many(50, "one.test")...)
		time.Sleep(500 * time.Millisecond)
		h.disk.Full.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		// Those that were begun before the first commit failed are held.
		begun := len(h.courier.done())
		if got := h.memory().unsettled; begun > 10 || got != begun {
			t.Errorf("%d attempts, %d outcomes held", begun, got)
		}
		if got := h.gauge("mittente_dispatch_unsettled"); got != float64(begun) {
			t.Errorf("metric: %v held", got)
		}
		h.disk.Full.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 50})
		if got := len(h.courier.done()); got != 50 {
			t.Errorf("%d attempts for 50 mails", got)
		}
		if got := h.memory(); got != (inMemory{}) {
			t.Errorf("left in memory: %+v", got)
		}
	})
}

// The disk is full at the end as well: what could not be settled is left to the
// next start, which sends it again.
func TestFullDiskAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{PerSite: 1})
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(100 * time.Millisecond)
			return delivered()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		items := h.to("a@one.test", "b@two.test")
		h.disk.Full.Store(true)
		time.Sleep(time.Second)
		synctest.Wait()
		if h.memory().unsettled == 0 {
			t.Fatalf("nothing is held of %d", len(items))
		}
		start := time.Now()
		cancel()
		<-done // it can't give back what waits, either
		if took := time.Since(start); took != h.cfg.DrainTimeout {
			t.Errorf("drained in %v", took)
		}
		h.disk.Full.Store(false)
		h.wantStates(counts{queue.Leased: 2})
		h.must(h.deps.DB.Close())
	})
}

// An outcome that can never be written does not stop all mail; the recipient is
// tried again later.
func TestOutcomeThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.courier.deliver = func(_ context.Context, _, to string) mail.Outcome {
			o := delivered()
			if to == "bad@one.test" {
				o.Action = ""
			}
			return o
		}
		item := h.accept(letterTo{to: append(many(20, "one.test"), "bad@one.test")})[20]
		time.Sleep(time.Second)
		h.to("b@two.test")
		time.Sleep(time.Second)
		synctest.Wait()
		h.wantStates(counts{queue.Pending: 1, queue.Delivered: 21})
		if got := h.logged.lines("put aside"); len(got) != 1 {
			t.Errorf("logged %q", got)
		}
		if got := h.memory(); got.recipients != 0 {
			t.Errorf("left in memory: %+v", got)
		}
		r := h.recipient(item)
		if wait := time.Until(r.Due); wait < 14*time.Minute || wait > putOff || r.Attempts != 0 || r.Last.Status.String() != "4.3.0" {
			t.Errorf("due in %v: %+v", wait, r)
		}
		h.courier.set(func(context.Context, string, string) mail.Outcome { return delivered() })
		time.Sleep(putOff)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 22})
	})
}

// A site that is found dead is left alone: what waits there is postponed, what
// comes too, and after the time one delivery probes.
func TestDeadSite(t *testing.T) {
	t.Parallel()
	in(t, Config{PerSite: 2}, func(h *house) {
		var up atomic.Bool
		h.courier.deliver = func(_ context.Context, site, _ string) mail.Outcome {
			time.Sleep(time.Second)
			if !up.Load() && site == "dead.test" {
				return unreachable()
			}
			return delivered()
		}
		items := h.to(many(500, "dead.test")...)
		h.to("a@other.test")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := len(h.courier.done("dead.test")); got != 2 {
			t.Errorf("%d attempts at a dead site", got)
		}
		h.wantStates(counts{queue.Pending: 500, queue.Delivered: 1})
		if r := h.recipient(items[0]); r.Last != unreachable() || r.Attempts != 1 {
			t.Errorf("attempted: %+v", r)
		}
		if r := h.recipient(items[499]); r.Last != inGeneral(unreachable()) || r.Attempts != 0 {
			t.Errorf("postponed: %+v", r)
		}
		h.to("late@dead.test")
		synctest.Wait()
		if got := len(h.courier.done("dead.test")); got != 2 {
			t.Errorf("%d attempts while it is dead", got)
		}
		h.wantStates(counts{queue.Pending: 501, queue.Delivered: 1})
		// A single probe, however much is due.
		time.Sleep(70 * time.Second)
		synctest.Wait()
		if got := len(h.courier.done("dead.test")); got < 3 || got > 8 {
			t.Errorf("%d attempts after a minute", got)
		}
		up.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 502})
		if most := h.courier.atOnce("dead.test"); most != 2 {
			t.Errorf("%d deliveries at once", most)
		}
	})
}

// A site that refuses some connections while it serves others gets fewer, and is not dead.
func TestCrowdedSite(t *testing.T) {
	t.Parallel()
	in(t, Config{PerSite: 20}, func(h *house) {
		var slots, refusals atomic.Int64
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			defer slots.Add(-1)
			if slots.Add(1) > 8 {
				time.Sleep(time.Millisecond)
				refusals.Add(1)
				return unreachable()
			}
			time.Sleep(10 * time.Millisecond)
			return delivered()
		}
		h.to(many(400, "one.test")...)
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if got := h.states(); got[queue.Delivered] < 360 || got[queue.Delivered] != 400-int(refusals.Load()) {
			t.Errorf("states %v after the first round, %d refusals", got, refusals.Load())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 400})
		if got := h.gauge("mittente_dispatch_dead_sites_total"); got != 0 {
			t.Errorf("found dead %v times", got)
		}
	})
}

// However much comes, memory holds no more than it may, and all is delivered.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	in(t, Config{MaxRecipients: 40, PerSite: 2}, func(h *house) {
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(time.Second)
			return delivered()
		}
		for _, a := range many(200, "one.test") {
			h.to(a)
			if got := h.memory().recipients; got > 40 {
				t.Fatalf("%d in memory", got)
			}
		}
		// A message with many recipients may come when there is little room, and
		// messages of one account at the same time.
		h.queue.Room(func(id.Account) int { return 100 })
		h.accept(letterTo{to: many(60, "two.test")})
		h.queue.Room(h.roomOf)
		if got := h.memory().recipients; got > 40 {
			t.Fatalf("%d in memory", got)
		}
		synctest.Wait()
		if got := h.states(); got[queue.Leased] > 40 {
			t.Errorf("states %v", got)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 260})
		if got := h.memory(); got != (inMemory{}) {
			t.Errorf("left in memory: %+v", got)
		}
	})
}

// Mail that comes while memory is full of one site's is not lost in it: it
// waits in the database, and is taken when there is room.
func TestOverflowWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	in(t, Config{MaxRecipients: 8, PerSite: 1}, func(h *house) {
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(10 * time.Second)
			return delivered()
		}
		h.queue.Room(func(id.Account) int { return 100 }) // as when many come at the same time
		items := h.accept(letterTo{to: many(30, "one.test"), keep: true})
		h.queue.Room(h.roomOf)
		h.disk.Full.Store(true)
		h.Fresh(items)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := h.memory().overflow; got != 22 {
			t.Errorf("%d to be released", got)
		}
		h.disk.Full.Store(false)
		time.Sleep(time.Hour)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 30})
	})
}

// Content that memory has no room for comes from the spool, the same octets.
func TestContentBeyondTheBoundIsReadAgain(t *testing.T) {
	t.Parallel()
	in(t, Config{MaxBytes: 3*(4<<10) + 1, PerSite: 1}, func(h *house) { // the spool's buffers are of 4 KiB
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(time.Second)
			return delivered()
		}
		h.to(many(10, "one.test")...)
		if got := h.memory().bytes; got != 3*(4<<10) {
			t.Errorf("%d octets in memory", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 10})
		for _, a := range h.courier.done() {
			if a.content != content {
				t.Errorf("content %q", a.content)
			}
		}
		if got := h.memory().bytes; got != 0 {
			t.Errorf("%d octets left", got)
		}
	})
}

// At the end running deliveries finish and are settled, the rest is given back,
// nothing new begins.
func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{PerSite: 3})
		h.courier.plan = func(d mail.Domain) (string, *mail.Outcome) {
			if d == "slow.test" {
				time.Sleep(10 * time.Second)
			}
			return string(d), nil
		}
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(20 * time.Second)
			return delivered()
		}
		stop := h.run()
		items := h.to(many(10, "one.test")...)
		h.to("a@slow.test")
		time.Sleep(5 * time.Second)
		late := h.accept(letterTo{to: []string{"late@one.test"}, keep: true})
		start := time.Now()
		time.AfterFunc(time.Second, func() { h.Fresh(late) })
		stop()
		if took := time.Since(start); took != 15*time.Second {
			t.Errorf("drained in %v", took)
		}
		h.wantStates(counts{queue.Delivered: 3, queue.Pending: 9})
		if r := h.recipient(items[9]); r.Attempts != 0 || !r.Due.Equal(items[9].Recipient.Due) {
			t.Errorf("given back: %+v", r)
		}
		h.must(h.deps.DB.Close())
	})
}

// A delivery that does not end in time has its context ended, and is settled
// as the courier reports it then.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{PerSite: 1})
		h.courier.deliver = func(ctx context.Context, _, _ string) mail.Outcome {
			<-ctx.Done()
			return unreachable()
		}
		stop := h.run()
		h.to("a@one.test", "b@one.test")
		time.Sleep(time.Second)
		start := time.Now()
		stop()
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("drained in %v", took)
		}
		h.wantStates(counts{queue.Pending: 2})
		if got := len(h.courier.done()); got != 1 {
			t.Errorf("%d attempts", got)
		}
		tried := 0
		h.must(h.deps.DB.View(t.Context(), func(tx *db.Tx) error {
			list, err := h.queue.Recipients(tx, queue.Selection{}, queue.Page{})
			for _, r := range list {
				tried += r.Attempts
			}
			return err
		}))
		if tried != 1 {
			t.Errorf("%d attempts settled", tried)
		}
		h.must(h.deps.DB.Close())
	})
}

// Mail that no dispatcher takes before it runs is there when it does.
func TestFreshBeforeRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		h.to("a@one.test")
		stop := h.run()
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1})
		stop()
		h.must(h.deps.DB.Close())
	})
}

// The figures of a running and of an idle dispatcher are right.
func TestMetrics(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.courier.deliver = func(_ context.Context, _, to string) mail.Outcome {
			time.Sleep(time.Second)
			if to[0] == 'd' {
				return deferred()
			}
			return delivered()
		}
		h.to("a@one.test", "d@one.test")
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if got := h.gauge("mittente_dispatch_in_flight"); got != 2 {
			t.Errorf("%v in flight", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for name, want := range map[string]float64{
			"mittente_dispatch_in_flight": 0, "mittente_dispatch_ready": 0, "mittente_dispatch_recipients": 0,
			"mittente_dispatch_outcomes_total": 2, "mittente_dispatch_first_attempt_seconds": 2,
			"mittente_dispatch_commit_seconds": 1,
		} {
			if got := h.gauge(name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
	})
}

// gauge returns the sum of a metric's values, or how often a histogram has observed.
func (h *house) gauge(name string) (sum float64) {
	h.t.Helper()
	families, err := h.reg.Gather()
	h.must(err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		return sum
	}
	h.must(fmt.Errorf("%s: %w", name, errors.ErrUnsupported))
	return 0
}

// No bound may be negative.
func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []Config{{MaxRecipients: -1}, {MaxBytes: -1}, {Deliveries: -1}, {PerSite: -1}, {Planners: -1}, {DrainTimeout: -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v passes", c)
		}
	}
}
