package queue

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// M8: no mail of a list that is paused is claimed, whether it came before or after;
// other lists go on, and nothing is lost when it is restarted.
func TestPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		account := id.New[id.Account]()
		var paused atomic.Bool
		m, w := h.someMessage(account)
		h.deps.Paused = func(_ *db.Tx, l id.List) bool { return l == m.List && paused.Load() }
		before := h.acceptMessage(m, w, "a@example.net", "b@example.net")
		for _, item := range before {
			h.mustSettle(item, deferred(), Pending)
		}
		due := h.recipient(before[0].Recipient.ID).Due
		paused.Store(true)
		later, w := h.someMessage(account)
		later.List = m.List
		after := h.acceptMessage(later, w, "c@example.net")[0]
		if r := h.recipient(after.Recipient.ID); r.State != Pending || !r.Parked {
			t.Fatalf("accepted while paused: %+v", r)
		}
		other := h.pending(account, 3)
		time.Sleep(time.Minute)
		if got := recipientsOf(h.claim(10)); len(got) != 1 || got[0] != other.Recipient.ID {
			t.Fatalf("claimed %v", got)
		}
		if got := h.claim(10); len(got) != 0 {
			t.Fatalf("claimed %v", got)
		}
		if _, ok, err := h.NextDue(t.Context(), time.Time{}); ok || err != nil {
			t.Errorf("next due: %v, %v", ok, err)
		}
		h.wantParked(m.List, Depth{Pending: 3, Parked: 3, Leased: 1})
		told := make(chan struct{}, 10)
		h.OnDue(func() { told <- struct{}{} })
		stop := h.run()
		time.Sleep(time.Hour)
		if len(told) != 0 {
			t.Error("told of what is paused")
		}
		paused.Store(false)
		h.ListsChanged()
		<-told
		if got := h.claim(10); len(got) != 3 {
			t.Errorf("claimed %v after the pause", got)
		}
		if r := h.recipient(before[0].Recipient.ID); !r.Due.Equal(due) || r.Parked {
			t.Errorf("after the pause: %+v", r)
		}
		stop()
		h.must(h.db.Close())
	})
}

// wantParked wants the depth, and all that is parked in the listing of its list.
func (h *house) wantParked(l id.List, want Depth) {
	h.t.Helper()
	h.view(func(tx *db.Tx) error {
		d, err := h.Depth(tx, time.Now())
		if d != want {
			h.t.Errorf("depth %+v, want %+v", d, want)
		}
		return err
	})
	if got := h.recipients(Selection{List: l, State: Pending}); len(got) != want.Parked {
		h.t.Errorf("listed %v", got)
	}
}

// What is parked can be held, cancelled and resumed like all that is pending.
func TestOperateOnParked(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.deps.Paused = func(*db.Tx, id.List) bool { return true }
	items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")
	if n := h.operate(Hold, Selection{Recipient: items[0].Recipient.ID}); n != 1 {
		t.Errorf("held %d", n)
	}
	if n := h.operate(Cancel, Selection{All: true}); n != 2 {
		t.Errorf("cancelled %d", n)
	}
	for _, item := range items {
		if r := h.recipient(item.Recipient.ID); r.State != Cancelled || r.Parked {
			t.Errorf("%+v", r)
		}
	}
}

// However much of a list is paused, a claim ends, and what can go, goes.
func TestClaimPassesOverThePaused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	account := id.New[id.Account]()
	for range 3 * claimRounds {
		h.pending(account, 1)
	}
	free := h.pending(account, 5)
	h.deps.Paused = func(_ *db.Tx, l id.List) bool { return l != free.Message.List }
	for range 10 {
		if got := recipientsOf(h.claim(2)); len(got) == 1 && got[0] == free.Recipient.ID {
			return
		}
	}
	t.Error("what can go never does")
}
