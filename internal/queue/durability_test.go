package queue

import (
	"errors"
	"slices"
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
)

// The rows of docs/durability.md that are the queue's: the process stops in the
// state, and what lies on the disk is opened by the next.

// S1 queued: pending recipients are claimed again.
func TestDurabilityS1Queued(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Direct(false)
	item := h.accept(id.New[id.Account](), "a@example.net")[0]
	after := h.crashed()
	h.must(after.Start(t.Context(), "here"))
	claimed := after.claim(10)
	if len(claimed) != 1 || claimed[0].Recipient.ID != item.Recipient.ID || *claimed[0].Message != *item.Message {
		t.Fatalf("claimed %+v", claimed)
	}
	r, err := after.spool.Open(t.Context(), item.Message.Content)
	h.must(err)
	h.must(r.Close())
	after.mustSettle(claimed[0], delivered(), Delivered)
}

// S2 leased: the node reclaims its own at its start; the old generation, should
// it still run somewhere, can't settle.
func TestDurabilityS2Leased(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	fresh := h.accept(id.New[id.Account](), "a@example.net")[0]
	h.Direct(false)
	h.accept(id.New[id.Account](), "b@example.net")
	claimed := h.claim(1)[0]
	after := h.crashed()
	for _, item := range []Item{fresh, claimed} {
		if s := after.recipient(item.Recipient.ID).State; s != Leased {
			t.Fatalf("after the crash: %s", s)
		}
	}
	h.must(after.Start(t.Context(), "here"))
	if n, err := after.Reclaim(t.Context()); n != 2 || err != nil {
		t.Fatalf("reclaimed %d, %v", n, err)
	}
	again := after.claim(10)
	if len(again) != 2 {
		t.Fatalf("claimed %d", len(again))
	}
	for _, item := range []Item{fresh, claimed} {
		if _, err := after.settle(item, delivered()); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("the old generation settles: %v", err)
		}
	}
	for _, item := range again {
		after.mustSettle(item, delivered(), Delivered)
		want := []event.Kind{event.Accepted, event.Delivered}
		if got := after.events(item.Message.ID, item.Recipient.ID); !slices.Equal(got, want) {
			t.Errorf("events %v", got)
		}
	}
}

// S2 leased, the outcome not committed: the attempt is as if it had not been.
func TestDurabilityS2Unsettled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	item := h.accept(id.New[id.Account](), "a@example.net")[0]
	var after *house
	h.batch(func(tx *db.Tx) error {
		_, err := h.Settle(tx, item, delivered(), time.Now())
		after = h.crashed()
		return err
	})
	if r := after.recipient(item.Recipient.ID); r.State != Leased || r.Attempts != 0 {
		t.Errorf("state %s, %d attempts", r.State, r.Attempts)
	}
	if got := after.events(item.Message.ID, item.Recipient.ID); !slices.Equal(got, []event.Kind{event.Accepted}) {
		t.Errorf("events %v", got)
	}
	if !after.released(item.Message.Content).IsZero() {
		t.Error("the content is released")
	}
}

// S3 settled: state, event and release are there together, and nothing is sent again.
func TestDurabilityS3Settled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")
	h.mustSettle(items[0], delivered(), Delivered)
	half := h.crashed()
	h.mustSettle(items[1], failed(), Failed)
	after := h.crashed()
	for i, want := range []State{Delivered, Failed} {
		if s := after.recipient(items[i].Recipient.ID).State; s != want {
			t.Errorf("%d: %s", i, s)
		}
	}
	if got := after.events(items[0].Message.ID, id.Recipient{}); len(got) != 4 {
		t.Errorf("events %v", got)
	}
	if half.released(items[0].Message.Content) != (time.Time{}) || after.released(items[0].Message.Content).IsZero() {
		t.Error("content is not released with the last recipient")
	}
	for _, h := range []*house{half, after} {
		h.must(h.Start(t.Context(), "here"))
		_, err := h.Reclaim(t.Context())
		h.must(err)
	}
	if got := recipientsOf(half.claim(10)); !slices.Equal(got, []id.Recipient{items[1].Recipient.ID}) {
		t.Errorf("half-settled message: claimed %v", got)
	}
	if got := after.claim(10); len(got) != 0 {
		t.Errorf("settled message: claimed %d", len(got))
	}
}
