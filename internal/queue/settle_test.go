package queue

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/node"
)

// New recipients are leased to the node that accepted them, each with its event.
func TestEnqueueLeasesToThisNode(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	items := h.accept(id.New[id.Account](), "a@example.net", "b@example.org")
	for _, item := range items {
		stored := h.recipient(item.Recipient.ID)
		if stored.State != Leased || stored.Lease != (Lease{Node: 1, Generation: 1}) || !h.Holds(stored.Lease) {
			t.Errorf("state %s, lease %+v", stored.State, stored.Lease)
		}
		if stored.To != item.Recipient.To || stored.Attempts != 0 || !stored.Due.Equal(item.Message.AcceptedAt) {
			t.Errorf("got %+v, want %+v", stored, item.Recipient)
		}
		if got := h.events(item.Message.ID, item.Recipient.ID); !slices.Equal(got, []event.Kind{event.Accepted}) {
			t.Errorf("events %v", got)
		}
	}
	if got := h.claim(10); len(got) != 0 {
		t.Errorf("claimed %d that were leased", len(got))
	}
}

// With no room in the dispatcher new recipients wait in the database, and it is told.
func TestEnqueueWithoutRoomIsPending(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	told := 0
	h.OnDue(func() { told++ })
	h.Direct(false)
	items := h.accept(id.New[id.Account](), "a@example.net")
	if s := items[0].Recipient.State; s != Pending || told != 1 {
		t.Fatalf("state %s, told %d times", s, told)
	}
	if h.Holds(items[0].Recipient.Lease) {
		t.Error("a pending recipient is held")
	}
	claimed := h.claim(10)
	if len(claimed) != 1 || claimed[0].Recipient.ID != items[0].Recipient.ID || claimed[0].Recipient.State != Leased {
		t.Fatalf("claimed %+v", claimed)
	}
	h.Direct(true)
	if s := h.accept(id.New[id.Account](), "a@example.net")[0].Recipient.State; s != Leased || told != 1 {
		t.Errorf("state %s with room again, told %d times", s, told)
	}
}

// A process that is no node leases nothing.
func TestEnqueueBeforeStartIsPending(t *testing.T) {
	t.Parallel()
	h := openHouse(t, t.TempDir())
	if s := h.accept(id.New[id.Account](), "a@example.net")[0].Recipient.State; s != Pending {
		t.Errorf("state %s", s)
	}
	if _, err := h.Claim(t.Context(), 1, time.Now()); !errors.Is(err, node.ErrNotStarted) {
		t.Errorf("claim: %v", err)
	}
}

// A message without recipients would never be settled.
func TestEnqueueWantsARecipient(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m, _ := h.someMessage(id.New[id.Account]())
	err := h.db.Batch(t.Context(), func(tx *db.Tx) error {
		_, err := h.Enqueue(tx, m, nil)
		return err
	})
	if err == nil {
		t.Error("a message without recipients was taken")
	}
}

// Each action has its state, its event and its effect on the content.
func TestSettle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome mail.Outcome
		state   State
		kind    event.Kind
		keep    time.Duration // of the content, from now
	}{
		{delivered(), Delivered, event.Delivered, 24 * time.Hour},
		{failed(), Failed, event.Failed, 72 * time.Hour},
		{deferred(), Pending, event.Deferred, 0},
	} {
		t.Run(string(c.outcome.Action), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				item := h.accept(id.New[id.Account](), "a@example.net")[0]
				time.Sleep(time.Second)
				r := h.mustSettle(item, c.outcome, c.state)
				stored := h.recipient(r.ID)
				if stored.Last != c.outcome || stored.Attempts != 1 || !stored.Lease.IsZero() {
					t.Errorf("stored %+v", stored)
				}
				if c.state.Settled() != stored.SettledAt.Equal(time.Now()) {
					t.Errorf("settled at %v", stored.SettledAt)
				}
				if want := time.Now().Add(time.Minute); c.state == Pending && !stored.Due.Equal(want) {
					t.Errorf("due %v, want %v", stored.Due, want)
				}
				if got := h.events(item.Message.ID, r.ID); !slices.Equal(got, []event.Kind{event.Accepted, c.kind}) {
					t.Errorf("events %v", got)
				}
				want := time.Time{}
				if c.keep > 0 {
					want = time.Now().Add(c.keep)
				}
				if got := h.released(item.Message.Content); !got.Equal(want) {
					t.Errorf("content kept until %v, want %v", got, want)
				}
				h.must(h.db.Close())
			})
		})
	}
}

// The event of an attempt has its number, its outcome and the next due time.
func TestSettleWritesWhatTheEventNeeds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	item := h.accept(id.New[id.Account](), "a@example.net")[0]
	r := h.mustSettle(item, deferred(), Pending)
	h.view(func(tx *db.Tx) error {
		events, err := event.OfMessage(tx, item.Message.ID)
		if err != nil {
			return err
		}
		d := events[1].Detail
		if d.Attempt != 1 || !d.Next.Equal(r.Due) || *d.Outcome != deferred() || events[1].Account != item.Message.Account {
			t.Errorf("event %+v, outcome %+v", events[1], d.Outcome)
		}
		return nil
	})
}

// Content goes when its last recipient is settled, and not one earlier.
func TestSettleReleasesContentWithTheLast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		last mail.Outcome
		keep time.Duration
	}{
		{"all delivered", delivered(), 24 * time.Hour},
		{"one failed", failed(), 72 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				var to []string
				for i := range 100 {
					to = append(to, fmt.Sprintf("r%d@example.net", i))
				}
				items := h.accept(id.New[id.Account](), to...)
				for i, item := range items[1:] {
					h.mustSettle(item, delivered(), Delivered)
					if at := h.released(item.Message.Content); !at.IsZero() {
						t.Fatalf("released after %d of %d", i+1, len(items))
					}
				}
				h.mustSettle(items[0], c.last, map[bool]State{true: Delivered, false: Failed}[c.last.Action == mail.Delivered])
				if got, want := h.released(items[0].Message.Content), time.Now().Add(c.keep); !got.Equal(want) {
					t.Errorf("kept until %v, want %v", got, want)
				}
				h.must(h.db.Close())
			})
		})
	}
}

// A recipient that is always deferred is tried by the schedule for three days, and expires.
func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		accepted := time.Now()
		var r Recipient
		for attempts := 1; ; attempts++ {
			var err error
			r, err = h.settle(item, deferred())
			h.must(err)
			if r.Attempts != attempts {
				t.Fatalf("%d attempts, want %d", r.Attempts, attempts)
			}
			if r.State != Pending {
				break
			}
			due, ok, err := h.NextDue(t.Context(), time.Time{})
			h.must(err)
			if !ok || !due.Equal(r.Due) {
				t.Fatalf("next due %v, %v; want %v", due, ok, r.Due)
			}
			if time.Sleep(time.Until(due) - time.Microsecond); len(h.claim(1)) != 0 {
				t.Fatal("claimed before it was due")
			}
			time.Sleep(time.Microsecond)
			claimed := h.claim(1)
			if len(claimed) != 1 {
				t.Fatalf("not claimed when due, after %v", time.Since(accepted))
			}
			item = claimed[0]
		}
		if r.State != Expired || !r.SettledAt.Equal(accepted.Add(72*time.Hour)) || r.Last != deferred() {
			t.Errorf("state %s at %v, last %+v", r.State, r.SettledAt, r.Last)
		}
		kinds := h.events(item.Message.ID, r.ID)
		if last := kinds[len(kinds)-1]; last != event.Expired || len(kinds) != r.Attempts+1 {
			t.Errorf("events %v", kinds)
		}
		if got := h.released(item.Message.Content); !got.Equal(time.Now().Add(72 * time.Hour)) {
			t.Errorf("content kept until %v", got)
		}
		h.must(h.db.Close())
	})
}

// What is settled, unleased or not understood is left as it is.
func TestSettleRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	item := h.accept(id.New[id.Account](), "a@example.net")[0]
	noAction := delivered()
	noAction.Action = ""
	if _, err := h.settle(item, noAction); err == nil {
		t.Error("an outcome without an action was settled")
	}
	pending := item
	pending.Recipient.State = Pending
	if _, err := h.settle(pending, delivered()); !errors.Is(err, ErrMove) {
		t.Errorf("from pending: %v", err)
	}
	h.mustSettle(item, delivered(), Delivered)
	if _, err := h.settle(item, failed()); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("twice: %v", err)
	}
	if got := h.events(item.Message.ID, item.Recipient.ID); len(got) != 2 {
		t.Errorf("events %v", got)
	}
}

// A transaction in which one lease is lost commits what else is in it.
func TestLostLeaseSpoilsNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")
	h.mustSettle(items[0], delivered(), Delivered)
	h.batch(func(tx *db.Tx) error {
		if _, err := h.Settle(tx, items[0], delivered(), time.Now()); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("first: %v", err)
		}
		_, err := h.Settle(tx, items[1], delivered(), time.Now())
		return err
	})
	if s := h.recipient(items[1].Recipient.ID).State; s != Delivered {
		t.Errorf("second: %s", s)
	}
}

// Release changes nothing but the lease, and only one that is held.
func TestRelease(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net", "c@example.net")
	h.mustSettle(items[2], delivered(), Delivered)
	h.batch(func(tx *db.Tx) error { return h.Release(tx, items) })
	h.batch(func(tx *db.Tx) error { return h.Release(tx, items) })
	for i, want := range []State{Pending, Pending, Delivered} {
		stored := h.recipient(items[i].Recipient.ID)
		if stored.State != want || !stored.Lease.IsZero() {
			t.Errorf("%d: state %s, lease %+v", i, stored.State, stored.Lease)
		}
		if want == Pending && (stored.Attempts != 0 || !stored.Due.Equal(items[i].Recipient.Due)) {
			t.Errorf("%d: changed: %+v", i, stored)
		}
	}
	if _, err := h.settle(items[0], delivered()); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("settled after release: %v", err)
	}
	if got := h.events(items[0].Message.ID, id.Recipient{}); len(got) != 4 {
		t.Errorf("events %v", got)
	}
}
