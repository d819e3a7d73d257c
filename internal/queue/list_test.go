package queue

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

func (h *house) messages(f Filter) (list []Stored) {
	h.t.Helper()
	h.view(func(tx *db.Tx) (err error) {
		list, err = h.Messages(tx, f)
		return err
	})
	return list
}

func (h *house) recipients(s Selection, p ...Page) (ids []id.Recipient) {
	h.t.Helper()
	h.view(func(tx *db.Tx) error {
		list, err := h.Recipients(tx, s, append(p, Page{Limit: 1000})[0])
		ids = nil
		for _, r := range list {
			ids = append(ids, r.ID)
		}
		return err
	})
	return ids
}

// Listings of messages are narrowed by every field of the filter.
func TestMessages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one, two := id.New[id.Account](), id.New[id.Account]()
	first := h.accept(one, "a@example.net", "b@example.net")
	second := h.accept(two, "a@example.net")
	h.mustSettle(first[0], delivered(), Delivered)
	h.mustSettle(second[0], failed(), Failed)
	for _, c := range []struct {
		name string
		f    Filter
		want []id.Message
	}{
		{"all, newest first", Filter{}, []id.Message{second[0].Message.ID, first[0].Message.ID}},
		{"of an account", Filter{Account: one}, []id.Message{first[0].Message.ID}},
		{"of a user", Filter{User: "s1_1", Limit: 1}, []id.Message{second[0].Message.ID}},
		{"of nobody", Filter{User: "s9_9"}, nil},
		{"next page", Filter{Before: second[0].Message.ID}, []id.Message{first[0].Message.ID}},
	} {
		var got []id.Message
		for _, m := range h.messages(c.f) {
			got = append(got, m.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	h.view(func(tx *db.Tx) error {
		got, err := h.Message(tx, first[0].Message.ID)
		if got.Message != *first[0].Message || got.Recipients != 2 || got.Unsettled != 1 || got.Undelivered != 0 {
			t.Errorf("got %+v, want %+v", got, first[0].Message)
		}
		if _, err := h.Message(tx, id.New[id.Message]()); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown message: %v", err)
		}
		if _, err := h.Recipient(tx, id.New[id.Recipient]()); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown recipient: %v", err)
		}
		return err
	})
}

// Listings of recipients are narrowed by every field of the filter.
func TestRecipients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		account := id.New[id.Account]()
		items := h.accept(account, "a@example.net", "b@example.org", "c@example.net", "d@example.net")
		done, leased, later, sooner := items[0].Recipient.ID, items[1].Recipient.ID, items[2].Recipient.ID, items[3].Recipient.ID
		h.mustSettle(items[0], delivered(), Delivered)
		h.mustSettle(items[3], deferred(), Pending)
		time.Sleep(time.Second)
		h.mustSettle(items[2], deferred(), Pending)
		other := h.accept(id.New[id.Account](), "e@example.net")[0]
		for _, c := range []struct {
			name string
			f    Selection
			want []id.Recipient
		}{
			{"waiting, first due first", Selection{Account: account}, []id.Recipient{leased, sooner, later}},
			{"all waiting", Selection{}, []id.Recipient{leased, other.Recipient.ID, sooner, later}},
			{"pending", Selection{State: Pending}, []id.Recipient{sooner, later}},
			{"leased at a domain", Selection{State: Leased, Domain: "example.org"}, []id.Recipient{leased}},
			{"held", Selection{State: Held}, nil},
			{"delivered", Selection{State: Delivered}, []id.Recipient{done}},
			{"of a message", Selection{Message: items[0].Message.ID}, []id.Recipient{done, leased, later, sooner}},
			{"of a message, pending", Selection{Message: items[0].Message.ID, State: Pending}, []id.Recipient{later, sooner}},
			{"of a message, by domain", Selection{Message: items[0].Message.ID, Domain: "example.org"}, []id.Recipient{leased}},
			{"of a message of another account", Selection{Message: items[0].Message.ID, Account: other.Message.Account}, nil},
		} {
			if got := h.recipients(c.f); !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
		page := Page{Limit: 2}
		if got := h.recipients(Selection{}, page); !slices.Equal(got, []id.Recipient{leased, other.Recipient.ID}) {
			t.Errorf("limit: %v", got)
		}
		page.After = h.recipient(other.Recipient.ID).Place()
		if got := h.recipients(Selection{}, page); !slices.Equal(got, []id.Recipient{sooner, later}) {
			t.Errorf("next page: %v", got)
		}
		h.must(h.db.Close())
	})
}

// The depth counts each unsettled state and tells how long the first is overdue.
func TestDepth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net", "c@example.net")
		h.mustSettle(items[0], deferred(), Pending)
		h.mustSettle(items[1], delivered(), Delivered)
		depth := func() (d Depth) {
			h.view(func(tx *db.Tx) (err error) {
				d, err = h.Depth(tx, time.Now())
				return err
			})
			return d
		}
		if got := depth(); got != (Depth{Pending: 1, Leased: 1}) {
			t.Errorf("depth %+v", got)
		}
		time.Sleep(time.Hour)
		if got := depth(); got != (Depth{Pending: 1, Leased: 1, Overdue: 59 * time.Minute}) {
			t.Errorf("depth %+v after an hour", got)
		}
		h.must(h.db.Close())
	})
}

// Identifiers carry the time, and they do not follow a fake clock that is behind
// others in the process: so the test moves the time of deletion instead.
func TestRetain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	account := id.New[id.Account]()
	for range retainMessages + 3 {
		for _, item := range h.accept(account, "a@example.net", "b@example.net") {
			_, err := h.settle(item, delivered())
			h.must(err)
		}
	}
	open := h.accept(account, "a@example.net", "b@example.net")
	h.mustSettle(open[0], failed(), Failed)
	for last := open[0].Message.ID; id.New[id.Message]().Time().Equal(last.Time()); {
		// until the next millisecond
	}
	young := h.accept(account, "a@example.net")[0]
	h.mustSettle(young, delivered(), Delivered)
	events := 90 * 24 * time.Hour
	h.must(h.Retain(t.Context(), young.Message.ID.Time().Add(events-time.Hour)))
	if got := len(h.messages(Filter{Limit: 1000})); got != retainMessages+5 {
		t.Errorf("%d messages before the time", got)
	}
	h.must(h.Retain(t.Context(), young.Message.ID.Time().Add(events)))
	var left []id.Message
	for _, m := range h.messages(Filter{Limit: 1000}) {
		left = append(left, m.ID)
	}
	if want := []id.Message{young.Message.ID, open[0].Message.ID}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	if got := h.recipients(Selection{State: Delivered}); !slices.Equal(got, []id.Recipient{young.Recipient.ID}) {
		t.Errorf("delivered recipients left: %v", got)
	}
	if got := h.recipients(Selection{Message: open[0].Message.ID}); len(got) != 2 {
		t.Errorf("recipients of the open message: %v", got)
	}
}
