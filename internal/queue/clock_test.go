package queue

import (
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// clocked is a house whose clock on the wall can be set.
func clocked(t *testing.T) (h *house, set func(by time.Duration), wall func() time.Time) {
	t.Helper()
	h = newHouse(t)
	var off time.Duration
	wall = func() time.Time { return db.Now().Add(off) }
	h.deps.Clock = wall
	return h, func(by time.Duration) { off += by }, wall
}

func (h *house) settleAt(item Item, at time.Time) Recipient {
	h.t.Helper()
	var r Recipient
	h.batch(func(tx *db.Tx) (err error) {
		r, err = h.Settle(tx, item, deferred(), at)
		return err
	})
	return r
}

// A clock that is set back by hours delays nothing by more than its wait was.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, set, wall := clocked(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		watch := h.watchClock()
		h.must(watch(t.Context()))
		set(10 * time.Hour)
		h.must(watch(t.Context())) // it goes forward: nothing moves
		r := h.settleAt(item, wall())
		if want := wall().Add(time.Minute); !r.Due.Equal(want) {
			t.Fatalf("due %v, want %v", r.Due, want)
		}
		time.Sleep(20 * time.Second)
		set(-10 * time.Hour)
		woken := 0
		h.OnDue(func() { woken++ })
		h.must(watch(t.Context()))
		if due, want := h.recipient(r.ID).Due, wall().Add(40*time.Second); !due.Equal(want) || woken == 0 {
			t.Errorf("due %v, want %v; told %d times", due, want, woken)
		}
		time.Sleep(time.Minute)
		h.must(watch(t.Context())) // once is enough
		if due := h.recipient(r.ID).Due; due.After(wall()) {
			t.Errorf("due %v at %v", due, wall())
		}
		h.must(h.db.Close())
	})
}

// A clock that was set back while no server ran is noticed at the start: by the
// heartbeat that lies ahead.
func TestClockSetBackWhileDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, set, wall := clocked(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		set(100 * time.Hour)
		h.must(h.Heartbeat(t.Context()))
		r := h.settleAt(item, wall())
		set(-100 * time.Hour)
		h.must(h.Start(t.Context(), "here"))
		stop := h.run()
		time.Sleep(clockEvery)
		synctest.Wait()
		if due := h.recipient(r.ID).Due; due.After(wall().Add(time.Minute)) {
			t.Errorf("due %v at %v", due, wall())
		}
		stop()
		h.must(h.db.Close())
	})
}

// What no schedule could have put so far ahead is due at once.
func TestPull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, _, wall := clocked(t)
		items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")
		near := h.settleAt(items[0], wall().Add(20*time.Hour))
		far := h.settleAt(items[1], wall().Add(70*time.Hour))
		h.must(h.pull(t.Context()))
		if due := h.recipient(far.ID).Due; !due.Equal(wall()) {
			t.Errorf("far ahead: due %v at %v", due, wall())
		}
		if due := h.recipient(near.ID).Due; !due.Equal(near.Due) {
			t.Errorf("not so far ahead: due %v, was %v", due, near.Due)
		}
		h.must(h.db.Close())
	})
}

// A clock that is set forward by days, and corrected later, fails nothing.
func TestClockSetForward(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, set, wall := clocked(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		watch := h.watchClock()
		h.settleAt(item, wall())
		set(30 * 24 * time.Hour)
		h.must(watch(t.Context()))
		claimed, err := h.Claim(t.Context(), 1, wall())
		h.must(err)
		r := h.settleAt(claimed[0], wall())
		if r.State != Pending || !r.Due.Equal(wall().Add(5*time.Minute)) {
			t.Fatalf("the first attempt after it: %s, due %v at %v", r.State, r.Due, wall())
		}
		set(-30 * 24 * time.Hour)
		h.must(watch(t.Context()))
		if due := h.recipient(r.ID).Due; !due.Equal(wall().Add(5 * time.Minute)) {
			t.Errorf("corrected: due %v at %v", due, wall())
		}
		h.must(h.db.Close())
	})
}

// Notices do not wait for a time that the clock has left.
func TestClockSetBackMovesNotices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, set, wall := clocked(t)
		item := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")[0]
		watch := h.watchClock()
		set(5 * time.Hour)
		h.must(watch(t.Context()))
		h.batch(func(tx *db.Tx) error {
			_, err := h.Settle(tx, item, failed(), wall())
			return err
		})
		set(-5 * time.Hour)
		h.must(watch(t.Context()))
		if list := h.notices(); len(list) != 1 {
			t.Errorf("notices %+v", list)
		}
		h.must(h.db.Close())
	})
}
