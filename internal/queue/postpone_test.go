package queue

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

func (h *house) postpone(item Item, o mail.Outcome, due time.Time) (r Recipient, err error) {
	h.t.Helper()
	err = h.db.Batch(h.t.Context(), func(tx *db.Tx) (err error) {
		r, err = h.Postpone(tx, item, o, due)
		return err
	})
	return r, err
}

func siteDown() mail.Outcome {
	return mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeSite,
		Status: mail.Status{Class: 4, Subject: 4, Detail: 1}, Diagnostic: "no host answers",
	}
}

// What is put off keeps its attempts and its place in the backoff, and says why,
// once for each reason.
func TestPostpone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		h.mustSettle(item, deferred(), Pending)
		time.Sleep(time.Minute)
		for range 3 {
			item = h.claim(1)[0]
			due := db.Now().Add(7 * time.Minute)
			r, err := h.postpone(item, siteDown(), due)
			h.must(err)
			stored := h.recipient(r.ID)
			if stored != r || r.State != Pending || r.Attempts != 1 ||
				r.Last != siteDown() || !r.Due.Equal(due) {
				t.Fatalf("returned %+v, stored %+v", r, stored)
			}
			time.Sleep(7 * time.Minute)
		}
		item = h.claim(1)[0]
		if r := h.mustSettle(item, deferred(), Pending); r.Attempts != 2 || !r.Due.Equal(time.Now().Add(5*time.Minute)) {
			t.Errorf("after its second attempt: %d attempts, due in %v", r.Attempts, time.Until(r.Due))
		}
		h.view(func(tx *db.Tx) error {
			events, err := event.OfMessage(tx, item.Message.ID)
			var attempts []int
			for _, e := range events[1:] {
				attempts = append(attempts, e.Detail.Attempt)
				if e.Kind != event.Deferred || e.Detail.Next.IsZero() || e.Detail.Outcome == nil {
					t.Errorf("event %+v", e)
				}
			}
			if want := []int{1, 0, 2}; !slices.Equal(attempts, want) {
				t.Errorf("attempts of the events %v, want %v", attempts, want)
			}
			return err
		})
		if at := h.released(item.Message.Content); !at.IsZero() {
			t.Errorf("content kept only until %v", at)
		}
		h.must(h.db.Close())
	})
}

// The lifetime holds for what is put off too: at its end stands the last attempt.
func TestPostponeExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")
		end := items[0].Message.AcceptedAt.Add(lifetime)
		if r, err := h.postpone(items[0], siteDown(), end.Add(time.Hour)); err != nil || r.State != Pending || !r.Due.Equal(end) {
			t.Fatalf("beyond the end of its time: %s, due %v, %v", r.State, r.Due, err)
		}
		time.Sleep(time.Until(end))
		r, err := h.postpone(items[1], siteDown(), end.Add(time.Hour))
		h.must(err)
		if stored := h.recipient(r.ID); stored != r || r.State != Expired || r.Attempts != 0 || !r.SettledAt.Equal(time.Now()) {
			t.Errorf("returned %+v, stored %+v", r, stored)
		}
		if got := h.events(r.Message, r.ID); !slices.Equal(got, []event.Kind{event.Accepted, event.Expired}) {
			t.Errorf("events %v", got)
		}
		item := h.claim(1)[0]
		h.mustSettle(item, delivered(), Delivered)
		if got, want := h.released(item.Message.Content), time.Now().Add(72*time.Hour); !got.Equal(want) {
			t.Errorf("content kept until %v, want %v", got, want)
		}
		h.must(h.db.Close())
	})
}

// Only a deferral puts off, only what is leased, and only by who holds it.
func TestPostponeRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	item := h.accept(id.New[id.Account](), "a@example.net")[0]
	due := time.Now().Add(time.Minute)
	if _, err := h.postpone(item, failed(), due); err == nil {
		t.Error("put off with a failure")
	}
	pending := item
	pending.Recipient.State = Pending
	if _, err := h.postpone(pending, siteDown(), due); !errors.Is(err, ErrMove) {
		t.Errorf("from pending: %v", err)
	}
	if _, err := h.postpone(item, siteDown(), due); err != nil {
		t.Fatal(err)
	}
	if _, err := h.postpone(item, siteDown(), due); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("twice: %v", err)
	}
	if got := h.events(item.Message.ID, item.Recipient.ID); len(got) != 2 {
		t.Errorf("events %v", got)
	}
}
