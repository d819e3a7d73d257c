package queue

import (
	"context"
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
)

func (h *house) operate(do Operation, of Selection) int {
	h.t.Helper()
	n, err := h.Operate(h.t.Context(), Order{Do: do, Of: of, Actor: "anna"})
	h.must(err)
	return n
}

func (h *house) count(do Operation, of Selection) (n int) {
	h.t.Helper()
	h.view(func(tx *db.Tx) (err error) {
		n, err = h.Count(tx, Order{Do: do, Of: of})
		return err
	})
	return n
}

// Each operation moves what it is for, leaves the rest alone, and writes who did it, once.
func TestOperate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		do   Operation
		from State // of the recipient
		want State
		kind event.Kind // empty: nothing is done
	}{
		{Retry, Pending, Pending, event.Retried},
		{Hold, Pending, Held, event.Held},
		{Cancel, Pending, Cancelled, event.Cancelled},
		{Resume, Held, Pending, event.Resumed},
		{Cancel, Held, Cancelled, event.Cancelled},
		{Resume, Pending, Pending, ""},
		{Hold, Held, Held, ""},
		{Retry, Held, Held, ""},
		{Cancel, Delivered, Delivered, ""},
		{Retry, Failed, Failed, ""},
	} {
		t.Run(string(c.do)+" "+string(c.from), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			item := h.standing(c.from)
			of := Selection{Recipient: item.Recipient.ID}
			before := len(h.events(item.Message.ID, item.Recipient.ID))
			changed := 0
			if c.kind != "" {
				changed = 1
			}
			if n := h.operate(c.do, of); n != changed {
				t.Errorf("changed %d", n)
			}
			if n := h.operate(c.do, of); n != 0 {
				t.Errorf("once more: changed %d", n)
			}
			r := h.recipient(item.Recipient.ID)
			if r.State != c.want || r.State.Settled() != !r.SettledAt.IsZero() {
				t.Errorf("%s since %v", r.State, r.SettledAt)
			}
			if at := h.released(item.Message.Content); at.IsZero() != !r.State.Settled() {
				t.Errorf("%s: content kept until %v", r.State, at)
			}
			h.wantOperated(item, before, c.kind)
			if c.kind == event.Retried && len(h.claim(1)) != 1 {
				t.Error("what was retried is not due")
			}
		})
	}
}

// standing accepts a recipient and brings it to a state.
func (h *house) standing(s State) Item {
	h.t.Helper()
	item := h.accept(id.New[id.Account](), "a@example.net")[0]
	outcome := map[State]mail.Outcome{Delivered: delivered(), Failed: failed(), Pending: deferred(), Held: deferred()}[s]
	_, err := h.settle(item, outcome)
	h.must(err)
	if s == Held {
		h.operate(Hold, Selection{Recipient: item.Recipient.ID})
	}
	return item
}

// wantOperated wants one event of that kind, by anna, after so many others; with
// an empty kind, none.
func (h *house) wantOperated(item Item, before int, kind event.Kind) {
	h.t.Helper()
	var want []event.Kind
	if kind != "" {
		want = []event.Kind{kind}
	}
	if got := h.events(item.Message.ID, item.Recipient.ID)[before:]; !slices.Equal(got, want) {
		h.t.Errorf("events %v, want %v", got, want)
	}
	h.view(func(tx *db.Tx) error {
		events, err := event.OfMessage(tx, item.Message.ID)
		for _, e := range events[before:] {
			if e.Detail.Actor != "anna" {
				h.t.Errorf("event %+v", e)
			}
		}
		return err
	})
}

// Every field of a selection narrows, and several together.
func TestSelection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one, two := id.New[id.Account](), id.New[id.Account]()
	busy := deferred()
	busy.Diagnostic = "Try Again later, 100% Busy_now è \"so\""
	m, w := h.someMessage(one)
	m.UserName = "s1_9"
	mine := h.acceptMessage(m, w, "a@example.net", "b@example.org", "c@example.net")
	other := h.accept(two, "a@example.net")[0]
	for i, item := range append(slices.Clone(mine), other) {
		if item.Site = fmt.Sprintf("mx%d.example:25", i); i == 1 {
			h.mustSettle(item, busy, Pending)
		} else {
			h.mustSettle(item, deferred(), Pending)
		}
	}
	all := recipientsOf(append(slices.Clone(mine), other))
	for _, c := range []struct {
		name string
		of   Selection
		want []int // places in all
	}{
		{"all", Selection{All: true}, []int{0, 1, 2, 3}},
		{"account", Selection{Account: two}, []int{3}},
		{"list", Selection{List: m.List}, []int{0, 1, 2}},
		{"user", Selection{User: "s1_9"}, []int{0, 1, 2}},
		{"domain", Selection{Domain: "example.net"}, []int{0, 2, 3}},
		{"domain of an account", Selection{Domain: "example.net", Account: one}, []int{0, 2}},
		{"site", Selection{Site: "mx2.example:25"}, []int{2}},
		{"message", Selection{Message: m.ID, Domain: "example.org"}, []int{1}},
		{"recipient", Selection{Recipient: all[2]}, []int{2}},
		{"recipient of another account", Selection{Recipient: all[2], Account: two}, nil},
		{"state", Selection{State: Pending, User: "s1_1"}, []int{3}},
		{"older", Selection{OlderThan: time.Now().Add(-time.Hour)}, nil},
		{"younger", Selection{OlderThan: time.Now().Add(time.Hour)}, []int{0, 1, 2, 3}},
		{"reply", Selection{Reply: "100% busy"}, []int{1}},
		{"reply with its code", Selection{Reply: "450 4.2.1 TRY again"}, []int{1}},
		{"reply with what is special", Selection{Reply: `busy_now È "so"`}, []int{1}},
		{"reply that only looks like it", Selection{Reply: "100_ busy"}, nil},
		{"code", Selection{Reply: "450"}, []int{0, 1, 2, 3}},
	} {
		var want []id.Recipient
		for _, i := range c.want {
			want = append(want, all[i])
		}
		got := h.recipients(c.of)
		slices.SortFunc(got, id.Recipient.Compare)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
		if n := h.count(Hold, c.of); n != len(want) {
			t.Errorf("%s: counted %d, want %d", c.name, n, len(want))
		}
		if n := h.operate(Hold, c.of); n != len(want) {
			t.Errorf("%s: held %d, want %d", c.name, n, len(want))
		}
		for _, r := range all {
			if held := h.recipient(r).State == Held; held != slices.Contains(want, r) {
				t.Errorf("%s: %s is held: %v", c.name, r, held)
			}
		}
		if c.of.State = ""; h.operate(Resume, c.of) != len(want) {
			t.Errorf("%s: not all resumed", c.name)
		}
	}
}

// Nothing is selected by accident, and no operation is done with a state it is not for.
func TestOperateRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.accept(id.New[id.Account](), "a@example.net")
	for _, c := range []struct {
		o    Order
		want error
	}{
		{Order{Do: Cancel}, ErrUnselected},
		{Order{Do: Hold, Of: Selection{All: true, State: Delivered}}, ErrMove},
		{Order{Do: Retry, Of: Selection{User: "s1_1", State: Held}}, ErrMove},
	} {
		if n, err := h.Operate(t.Context(), c.o); n != 0 || !errors.Is(err, c.want) {
			t.Errorf("%+v: %d, %v", c.o, n, err)
		}
	}
	if _, err := h.Operate(t.Context(), Order{Do: "explode", Of: Selection{All: true}}); err == nil {
		t.Error("an unknown operation")
	}
}

// Thousands are changed in slices, of which the caller is told, and what was
// broken off is done by repeating it.
func TestOperateInSlices(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Direct(false)
	const n = operatePage + 3*operateSlice + 7
	var to []string
	for i := range n {
		to = append(to, fmt.Sprintf("r%d@example.net", i))
	}
	h.accept(id.New[id.Account](), to...)
	ctx, cancel := context.WithCancel(t.Context())
	slices, last := 0, 0
	order := Order{Do: Hold, Of: Selection{Domain: "example.net"}, Actor: "anna", Progress: func(done int) {
		if slices++; done <= last || done-last > operateSlice {
			t.Errorf("progress from %d to %d", last, done)
		}
		if last = done; slices == 5 {
			cancel()
		}
	}}
	if done, err := h.Operate(ctx, order); done != 5*operateSlice || !errors.Is(err, context.Canceled) {
		t.Fatalf("broken off after %d: %v", done, err)
	}
	order.Progress = nil
	if done, err := h.Operate(t.Context(), order); done != n-5*operateSlice || err != nil {
		t.Fatalf("the rest: %d, %v", done, err)
	}
	if done := h.operate(Cancel, Selection{All: true}); done != n {
		t.Errorf("cancelled %d", done)
	}
}

// letGo is every way in which a lease ends.
func letGo() map[string]func(*house, Item) error {
	return map[string]func(*house, Item) error{
		"release": func(h *house, item Item) error {
			return h.db.Batch(h.t.Context(), func(tx *db.Tx) error { return h.Release(tx, []Item{item}) })
		},
		"defer": func(h *house, item Item) error { _, err := h.settle(item, deferred()); return err },
		"postpone": func(h *house, item Item) error {
			_, err := h.postpone(item, siteDown(), time.Now().Add(time.Hour))
			return err
		},
		"die": func(h *house, _ Item) error {
			if err := h.Start(h.t.Context(), "here"); err != nil {
				return err
			}
			_, err := h.Reclaim(h.t.Context())
			return err
		},
		"deliver": func(h *house, item Item) error { _, err := h.settle(item, delivered()); return err },
	}
}

// What a node has leased can only be wished for. Whoever lets go of it unsettled
// does what was wished; settled for good, the wish is gone.
func TestWishes(t *testing.T) {
	t.Parallel()
	for name, do := range letGo() {
		for _, wish := range []Operation{Hold, Cancel, Retry} {
			t.Run(string(wish)+" "+name, func(t *testing.T) {
				t.Parallel()
				h := newHouse(t)
				item := h.wish(wish)
				h.must(do(h, item))
				want := map[Operation]State{Hold: Held, Cancel: Cancelled, Retry: Pending}[wish]
				last := map[Operation]event.Kind{Hold: event.Held, Cancel: event.Cancelled}[wish]
				if name == "deliver" {
					want, last = Delivered, event.Delivered
				}
				r := h.recipient(item.Recipient.ID)
				if r.State != want || r.Wish != "" || r.WishedBy != "" || !r.Lease.IsZero() {
					t.Errorf("after: %+v", r)
				}
				if want == Pending && len(h.claim(10)) == 0 {
					t.Error("what was to be retried is not due")
				}
				if kinds := h.events(r.Message, r.ID); last != "" && kinds[len(kinds)-1] != last {
					t.Errorf("events %v", kinds)
				}
				h.view(func(tx *db.Tx) error {
					stored, err := h.Message(tx, r.Message)
					if want := map[bool]int{true: 1, false: 2}[r.State.Settled()]; stored.Unsettled != want {
						t.Errorf("%d unsettled, want %d", stored.Unsettled, want)
					}
					return err
				})
			})
		}
	}
}

// wish accepts a message for two and wishes something for the first, who is leased.
func (h *house) wish(do Operation) Item {
	h.t.Helper()
	told := 0
	h.OnWish(func() { told++ })
	item := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")[0]
	of := Selection{Recipient: item.Recipient.ID}
	if n := h.operate(do, of); n != 1 || told != 1 {
		h.t.Fatalf("wished for %d, told %d times", n, told)
	}
	if n := h.operate(do, of); n != 0 {
		h.t.Errorf("wished for twice")
	}
	h.view(func(tx *db.Tx) error {
		wishes, err := h.Wishes(tx)
		if want := []Wish{{item.Recipient.ID, do}}; !slices.Equal(wishes, want) {
			h.t.Errorf("wishes %+v, want %+v", wishes, want)
		}
		return err
	})
	if r := h.recipient(item.Recipient.ID); r.State != Leased || r.Wish != do || r.WishedBy != "anna" {
		h.t.Errorf("wished for: %+v", r)
	}
	return item
}

// A wish to hold is taken back by resuming.
func TestWishTakenBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	item := h.accept(id.New[id.Account](), "a@example.net")[0]
	of := Selection{Recipient: item.Recipient.ID}
	h.operate(Hold, of)
	if n := h.operate(Resume, of); n != 1 {
		t.Errorf("resumed %d", n)
	}
	h.mustSettle(item, deferred(), Pending)
	h.operate(Cancel, of)
	if n := h.operate(Resume, of); n != 0 {
		t.Errorf("a cancelled one resumed: %d", n)
	}
}

// Nobody is told of what was cancelled.
func TestCancelTellsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		item := h.acceptFor(mail.NotifyFailure | mail.NotifyDelay)
		h.mustSettle(item, deferred(), Pending)
		time.Sleep(3 * time.Hour)
		h.mustSettle(h.claim(1)[0], deferred(), Pending)
		h.operate(Cancel, Selection{Recipient: item.Recipient.ID})
		time.Sleep(100 * time.Hour)
		if list := h.notices(); len(list) != 0 {
			t.Errorf("notices %+v", list)
		}
		h.must(h.db.Close())
	})
}
