package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// acceptFor accepts a message for one recipient of whom its sender wants to be told so.
func (h *house) acceptFor(n mail.Notify) Item {
	h.t.Helper()
	m, w := h.someMessage(id.New[id.Account]())
	m.Return, m.EnvelopeID = mail.ReturnFull, "invoice 7"
	return h.acceptRcpt(m, w, mail.Rcpt{To: mail.ForwardPath{Address: address("a@example.net")}, Notify: n, Original: "rfc822;A@example.net"})
}

func (h *house) notices() (list []Notice) {
	h.t.Helper()
	h.view(func(tx *db.Tx) (err error) {
		list, err = h.Notices(tx, 100)
		return err
	})
	return list
}

// What a sender wants to be told of, and is told of, by what becomes of the recipient.
func TestNotices(t *testing.T) {
	t.Parallel()
	took := delivered()
	took.DSN = true
	for _, c := range []struct {
		name    string
		notify  mail.Notify
		null    bool
		outcome mail.Outcome
		want    NoticeKind // empty: nothing
	}{
		{"failure, nothing asked", 0, false, failed(), NoticeFailure},
		{"failure, asked", mail.NotifyFailure, false, failed(), NoticeFailure},
		{"failure, only success asked", mail.NotifySuccess, false, failed(), ""},
		{"failure, never", mail.NotifyNever, false, failed(), ""},
		{"failure, null reverse-path", 0, true, failed(), NoticeDouble},
		{"failure, null reverse-path, never", mail.NotifyNever, true, failed(), NoticeDouble},
		{"success, nothing asked", 0, false, delivered(), ""},
		{"success, asked", mail.NotifySuccess, false, delivered(), NoticeSuccess},
		{"success, asked, the next hop tells", mail.NotifySuccess, false, took, ""},
		{"success, never", mail.NotifyNever, false, delivered(), ""},
		{"success, null reverse-path", mail.NotifySuccess, true, delivered(), ""},
		{"deferral", 0, false, deferred(), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			told := 0
			h.OnNotice(func() { told++ })
			m, w := h.someMessage(id.New[id.Account]())
			m.Return, m.EnvelopeID = mail.ReturnHeader, "invoice 7"
			if c.null {
				m.From = mail.ReversePath{}
			}
			item := h.acceptRcpt(m, w, mail.Rcpt{To: mail.ForwardPath{Address: address("a@example.net")}, Notify: c.notify, Original: "rfc822;A@example.net"})
			_, err := h.settle(item, c.outcome)
			h.must(err)
			r := h.recipient(item.Recipient.ID)
			list := h.notices()
			if c.want == "" {
				if len(list) != 0 || told != 0 {
					t.Errorf("notices %+v, told %d times", list, told)
				}
				return
			}
			if len(list) != 1 || told != 1 {
				t.Fatalf("notices %+v, told %d times", list, told)
			}
			n := list[0]
			if n.Kind != c.want || *n.Message != *m || !slices.Equal(n.Recipients, []Recipient{r}) {
				t.Errorf("notice %+v of %+v", n, n.Message)
			}
			h.batch(func(tx *db.Tx) error { return h.Noticed(tx, n) })
			if list := h.notices(); len(list) != 0 {
				t.Errorf("after it: %+v", list)
			}
			if err := h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.Noticed(tx, n) }); !errors.Is(err, ErrNoticed) {
				t.Errorf("twice: %v", err)
			}
			if _, ok, err := h.NextNotice(t.Context()); ok || err != nil {
				t.Errorf("next: %v, %v", ok, err)
			}
		})
	}
}

// A delay is told once, when it is long enough, and not when it is over by then.
func TestNoticeOfDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		late, soon, silent := h.acceptFor(mail.NotifyDelay), h.acceptFor(mail.NotifyDelay), h.acceptFor(mail.NotifyFailure)
		accepted := late.Message.AcceptedAt
		busy := deferred()
		busy.RetryAfter = 5 * time.Hour
		for _, item := range []Item{late, soon, silent} {
			h.mustSettle(item, busy, Pending)
		}
		due, ok, err := h.NextNotice(t.Context())
		h.must(err)
		if want := accepted.Add(4 * time.Hour); !ok || !due.Equal(want) {
			t.Fatalf("next notice %v, %v; want %v", due, ok, want)
		}
		if list := h.notices(); len(list) != 0 {
			t.Fatalf("too early: %+v", list)
		}
		h.operate(Retry, Selection{Recipient: soon.Recipient.ID})
		h.mustSettle(h.claim(10)[0], delivered(), Delivered)
		time.Sleep(time.Until(due))
		list := h.notices()
		if len(list) != 1 || list[0].Kind != NoticeDelay || list[0].Recipients[0].ID != late.Recipient.ID {
			t.Fatalf("notices %+v", list)
		}
		h.batch(func(tx *db.Tx) error { return h.Noticed(tx, list[0]) })
		for range 5 {
			time.Sleep(5 * time.Hour)
			for _, item := range h.claim(10) {
				h.mustSettle(item, busy, Pending)
			}
			if list := h.notices(); len(list) != 0 {
				t.Fatalf("told again: %+v", list)
			}
		}
		time.Sleep(5 * time.Hour)
		for _, item := range h.claim(10) {
			h.mustSettle(item, failed(), Failed)
		}
		if list := h.notices(); len(list) != 1 || list[0].Message.ID != silent.Message.ID {
			t.Fatalf("at the end: %+v", list)
		}
		h.must(h.db.Close())
	})
}

// Recipients of one message that fail at about the same time share a notice, in
// hundreds; the last of the message does not wait for others.
func TestNoticesAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		var to []string
		for i := range noticeRecipients + 5 {
			to = append(to, fmt.Sprintf("r%d@example.net", i))
		}
		items := h.accept(id.New[id.Account](), to...)
		for _, item := range items[:3] {
			h.mustSettle(item, failed(), Failed)
			time.Sleep(time.Second)
		}
		if list := h.notices(); len(list) != 0 {
			t.Fatalf("too early: %+v", list)
		}
		time.Sleep(noticeApart - 3*time.Second)
		list := h.notices()
		if len(list) != 1 || len(list[0].Recipients) != 3 {
			t.Fatalf("notices %+v", list)
		}
		h.batch(func(tx *db.Tx) error { return h.Noticed(tx, list[0]) })
		for _, item := range items[3:] {
			h.mustSettle(item, failed(), Failed)
		}
		for _, want := range []int{noticeRecipients, 2} {
			list := h.notices()
			if len(list) != 1 || len(list[0].Recipients) != want {
				t.Fatalf("notices %+v, want one of %d", list, want)
			}
			h.batch(func(tx *db.Tx) error { return h.Noticed(tx, list[0]) })
		}
		h.must(h.db.Close())
	})
}

// Who wants what is stored as it was said.
func TestNotifyIsStored(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	item := h.acceptFor(mail.NotifySuccess | mail.NotifyDelay)
	if stored := h.recipient(item.Recipient.ID); stored != item.Recipient || stored.Original != "rfc822;A@example.net" {
		t.Errorf("stored %+v, want %+v", stored, item.Recipient)
	}
	h.view(func(tx *db.Tx) error {
		stored, err := h.Message(tx, item.Message.ID)
		if stored.Message != *item.Message {
			t.Errorf("stored %+v, want %+v", stored.Message, item.Message)
		}
		return err
	})
}

// A campaign that fails leaves a million notices: the first few must not cost a
// look at all of them.
func TestNoticesAreReadInOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const explain = "EXPLAIN QUERY PLAN " + selectNotices
	for _, step := range h.plan(explain, 1, 1) {
		if strings.Contains(step, "TEMP B-TREE") || strings.Contains(step, "SUBQUERY") {
			t.Errorf("they are sorted or grouped first: %q", step)
		}
	}
	var first []Item
	for range 3 {
		item := h.acceptFor(0)
		h.mustSettle(item, failed(), Failed)
		first = append(first, item)
	}
	h.view(func(tx *db.Tx) error {
		list, err := h.Notices(tx, 2)
		h.must(err)
		if len(list) != 2 || list[0].Message.ID != first[0].Message.ID || list[1].Message.ID != first[1].Message.ID {
			t.Errorf("%+v", list)
		}
		return nil
	})
}
