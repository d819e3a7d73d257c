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
		time.Sleep(time.Until(end.Add(-time.Hour)))
		for _, item := range items {
			if r, err := h.postpone(item, siteDown(), end.Add(time.Hour)); err != nil || r.State != Pending || !r.Due.Equal(end) {
				t.Fatalf("beyond the end of its time: %s, due %v, %v", r.State, r.Due, err)
			}
		}
		time.Sleep(time.Hour)
		items = h.claim(2)
		r, err := h.postpone(items[1], siteDown(), end.Add(time.Hour))
		h.must(err)
		if stored := h.recipient(r.ID); stored != r || r.State != Expired || r.Attempts != 0 || !r.SettledAt.Equal(time.Now()) {
			t.Errorf("returned %+v, stored %+v", r, stored)
		}
		if got := h.events(r.Message, r.ID); !slices.Equal(got, []event.Kind{event.Accepted, event.Deferred, event.Expired}) {
			t.Errorf("events %v", got)
		}
		h.mustSettle(items[0], delivered(), Delivered)
		if got, want := h.released(items[0].Message.Content), time.Now().Add(72*time.Hour); !got.Equal(want) {
			t.Errorf("content kept until %v, want %v", got, want)
		}
		h.must(h.db.Close())
	})
}

// What is put off for long is looked at once a day; what nobody looked at until
// after its time is given another chance.
func TestPostponeBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		if r, err := h.postpone(item, siteDown(), time.Now().Add(48*time.Hour)); err != nil || !r.Due.Equal(time.Now().Add(24*time.Hour)) {
			t.Fatalf("put off until %v, %v", r.Due, err)
		}
		time.Sleep(200 * time.Hour)
		due := db.Now().Add(time.Hour)
		if r, err := h.postpone(h.claim(1)[0], siteDown(), due); err != nil || r.State != Pending || !r.Due.Equal(due) {
			t.Fatalf("after an absence: %s, due %v, %v", r.State, r.Due, err)
		}
		time.Sleep(time.Hour)
		h.mustSettle(h.claim(1)[0], deferred(), Expired)
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
