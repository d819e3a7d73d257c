package dispatch

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/mail"
	"mittente/internal/queue"
)

// The DNS does not answer for an hour: all mail is deferred and none fails, it is
// not asked without end, and when it is back all goes out by itself.
func TestDNSDownForAnHour(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		var down atomic.Bool
		down.Store(true)
		h.courier.plan = func(d mail.Domain) (string, *mail.Outcome) {
			if down.Load() {
				time.Sleep(5 * time.Second)
				return "", &mail.Outcome{Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 3}}
			}
			return string(d), nil
		}
		for i := range 20 {
			h.to(fmt.Sprintf("a@d%d.test", i), fmt.Sprintf("b@d%d.test", i))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		h.wantStates(counts{queue.Pending: 40})
		if got := h.courier.plans(); got > 20*2*6 {
			t.Errorf("asked %d times for 20 domains", got)
		}
		down.Store(false)
		h.to("new@d0.test")
		synctest.Wait()
		h.wantStates(counts{queue.Pending: 40, queue.Delivered: 1})
		time.Sleep(time.Hour)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 41})
	})
}

// The disk is full for an hour, while attempts end, mail waits and reports are
// due: nothing new begins, and afterwards each mail was sent once.
func TestDiskFullForAnHour(t *testing.T) {
	t.Parallel()
	in(t, Config{PerSite: 4, Node: "here"}, func(h *house) {
		h.courier.set(aSecond)
		h.to(many(40, "one.test")...)
		h.to(many(3, "two.test")...)
		time.Sleep(1500 * time.Millisecond)
		h.disk.Full.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		begun := len(h.courier.done())
		if begun > 30 {
			t.Errorf("%d attempts", begun)
		}
		h.disk.Full.Store(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 43})
		if got := len(h.courier.done()); got != 43 {
			t.Errorf("%d attempts for 43 mails", got)
		}
	})
}

// The clock is set forwards and back, by hours and by weeks, while mail waits for
// its next attempt and a site is dead: all of it goes in the time it would have
// taken, or sooner; none is lost, none is stuck. By a clock that is weeks ahead
// the time of what waits for a dead site is over: that expires.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{6 * time.Hour, -6 * time.Hour, 20 * 24 * time.Hour, -20 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, Config{})
				stop := h.run()
				ctx, cancel := context.WithCancel(t.Context())
				upkeep := make(chan error, 1)
				go func() { upkeep <- h.queue.Run(ctx) }()
				var up atomic.Bool
				h.courier.set(func(_ context.Context, site, _ string) mail.Outcome {
					switch {
					case up.Load():
						return delivered()
					case site == "dead.test":
						return unreachable()
					}
					return deferred()
				})
				h.to(many(10, "one.test")...)
				h.to(many(10, "dead.test")...)
				time.Sleep(10 * time.Minute)
				h.jump.Store(int64(jump))
				time.Sleep(30 * time.Second)
				h.to(many(10, "two.test")...)
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				up.Store(true)
				time.Sleep(time.Hour)
				synctest.Wait()
				expired := 0
				if jump > 72*time.Hour {
					expired = h.states()[queue.Expired]
				}
				if got := h.states(); expired > 10 || got[queue.Delivered] != 30-expired {
					t.Errorf("%v", got)
				}
				h.jump.Store(0)
				time.Sleep(time.Minute)
				h.to(many(10, "one.test")...)
				time.Sleep(time.Hour)
				synctest.Wait()
				if got := h.states(); got[queue.Delivered] != 40-expired {
					t.Errorf("%v after the clock was put right", got)
				}
				cancel()
				h.must(<-upkeep)
				stop()
				h.must(h.deps.DB.Close())
			})
		})
	}
}
