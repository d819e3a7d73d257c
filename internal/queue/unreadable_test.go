package queue

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// What another version, or a hand, may have left in a row.
const (
	spoilPath     db.SQL = `UPDATE recipient SET forward_path = $2, domain = 'xn--z-zhc..attacker.example' WHERE id = $1`
	spoilOutcome  db.SQL = `UPDATE recipient SET outcome = $2 WHERE id = $1`
	spoilAccount  db.SQL = `UPDATE recipient SET account_id = CAST($2 AS BYTEA) WHERE id = $1`
	spoilFrom     db.SQL = `UPDATE message SET reverse_path = $2 WHERE id = $1`
	spoilHash     db.SQL = `UPDATE message SET body_hash = CAST($2 AS BYTEA) WHERE id = $1`
	spoilContent  db.SQL = `UPDATE message SET content_id = CAST($2 AS BYTEA) WHERE id = $1`
	deleteMessage db.SQL = `DELETE FROM message WHERE id = $1`
)

// No parser will read it: a domain has no empty label.
const attacker = "someone@xn--z-zhc..attacker.example"

func (h *house) spoil(statement db.SQL, args ...any) {
	h.t.Helper()
	h.batch(func(tx *db.Tx) error {
		n, err := tx.Exec(statement, args...)
		if err == nil && n != 1 {
			return fmt.Errorf("%d rows spoiled", n)
		}
		return err
	})
}

// recording makes a house whose queue logs into the buffer.
func recording(tb testing.TB) (*house, *bytes.Buffer) {
	tb.Helper()
	h := newHouse(tb)
	var log bytes.Buffer
	h.log = slog.New(slog.NewTextHandler(&log, nil))
	return h, &log
}

// waiting is a pending message for those recipients.
func (h *house) waiting(to ...string) []Item {
	h.t.Helper()
	h.Direct(false)
	defer h.Direct(true)
	return h.accept(id.New[id.Account](), to...)
}

// wantUnreadable wants a recipient failed, with an event that says why.
func (h *house) wantUnreadable(r id.Recipient, why string) {
	h.t.Helper()
	var stored Recipient
	h.view(func(tx *db.Tx) (err error) {
		stored, err = h.Recipient(tx, r)
		return err
	})
	if stored.State != Failed || stored.Attempts != 0 || stored.SettledAt.IsZero() || !stored.Lease.IsZero() {
		h.t.Errorf("stored %+v", stored)
	}
	if o := stored.Last; o.Action != mail.Failed || o.Status.String() != "5.3.0" || !strings.Contains(o.Diagnostic, why) {
		h.t.Errorf("outcome %+v, want one with %q", o, why)
	}
	h.view(func(tx *db.Tx) error {
		events, err := event.OfMessage(tx, stored.Message)
		events = slices.DeleteFunc(events, func(e event.Event) bool { return e.Recipient != r })
		if len(events) != 2 || events[1].Kind != event.Failed || events[1].Detail.Attempt != 0 ||
			*events[1].Detail.Outcome != stored.Last {
			h.t.Errorf("events %+v", events)
		}
		return err
	})
}

// A recipient that can't be read is failed, once and for all to see; those
// around it go out, and its message is done with the last of them.
func TestClaimFailsAnUnreadableRecipient(t *testing.T) {
	t.Parallel()
	h, log := recording(t)
	items := h.waiting("a@example.net", "b@example.net", "c@example.net")
	bad := items[1].Recipient.ID
	h.spoil(spoilPath, bad, attacker)
	got := recipientsOf(h.claim(10))
	if want := []id.Recipient{items[0].Recipient.ID, items[2].Recipient.ID}; !slices.Equal(got, want) {
		t.Fatalf("claimed %v, want %v", got, want)
	}
	h.wantUnreadable(bad, attacker)
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "level=ERROR") ||
		!strings.Contains(log.String(), bad.String()) {
		t.Errorf("log %q", log)
	}
	if n := testutil.ToFloat64(h.metrics.unreadable); n != 1 {
		t.Errorf("counted %v", n)
	}
	if again := h.claim(10); len(again) != 0 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("claimed %d again, log %q", len(again), log)
	}
	for _, r := range []int{0, 2} {
		items[r].Recipient = h.recipient(items[r].Recipient.ID)
		h.mustSettle(items[r], delivered(), Delivered)
	}
	if m := h.messages(Filter{})[0]; m.Unsettled != 0 || m.Undelivered != 1 {
		t.Errorf("%d unsettled, %d undelivered", m.Unsettled, m.Undelivered)
	}
	if at := h.released(items[0].Message.Content); time.Until(at) < 71*time.Hour {
		t.Errorf("content kept until %v", at)
	}
}

// Whatever column it is, of the recipient or of its message.
func TestClaimFailsWhatIsUnreadable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		statement db.SQL
		args      func(Item) []any
		why       string
	}{
		{"address", spoilPath, ofRecipient(attacker), "the stored address can't be read"},
		{"empty address", spoilPath, ofRecipient(""), "the stored address can't be read"},
		{"octets as address", spoilPath, ofRecipient([]byte("a@\xff\x00.example")), "the stored address can't be read"},
		{"account", spoilAccount, ofRecipient([]byte{1}), "the stored account can't be read"},
		{"sender", spoilFrom, ofMessage(attacker), "the stored sender can't be read"},
		{"body hash", spoilHash, ofMessage([]byte{1}), "the stored body hash can't be read"},
		{"content", spoilContent, ofMessage([]byte{1}), "the stored content can't be read"},
		{"no message", deleteMessage, func(i Item) []any { return []any{i.Message.ID} }, "its message is not there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			bad := h.waiting("a@example.net")[0]
			good := h.waiting("b@example.net")[0].Recipient.ID
			h.spoil(c.statement, c.args(bad)...)
			if got := recipientsOf(h.claim(10)); !slices.Equal(got, []id.Recipient{good}) {
				t.Errorf("claimed %v", got)
			}
			h.wantUnreadable(bad.Recipient.ID, c.why)
			h.messages(Filter{})
			if got := h.recipients(Selection{State: Failed}); !slices.Equal(got, []id.Recipient{bad.Recipient.ID}) {
				t.Errorf("failed: %v", got)
			}
			if got := h.recipients(Selection{Message: bad.Message.ID}); len(got) != 1 {
				t.Errorf("of the message: %v", got)
			}
		})
	}
}

func ofRecipient(held any) func(Item) []any {
	return func(i Item) []any { return []any{i.Recipient.ID, held} }
}

func ofMessage(held any) func(Item) []any {
	return func(i Item) []any { return []any{i.Message.ID, held} }
}

// An outcome is what was: it keeps nobody from the next attempt.
func TestClaimTakesWhatHasAnUnreadableOutcome(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	item := h.waiting("a@example.net")[0]
	h.spoil(spoilOutcome, item.Recipient.ID, `{"status":"9.9.9"}`)
	got := h.claim(10)
	if len(got) != 1 || !strings.Contains(got[0].Recipient.Last.Diagnostic, "9.9.9") {
		t.Fatalf("claimed %+v", got)
	}
	h.mustSettle(got[0], delivered(), Delivered)
}

// Unreadable rows take nobody's place in a claim, in a backlog neither, however
// many stand before the others.
func TestClaimGetsPastUnreadableRows(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	to := make([]string, 3*unreadableSlice+1)
	for i := range to {
		to[i] = fmt.Sprintf("r%d@example.net", i)
	}
	bad := h.waiting(to...)
	for _, item := range bad {
		h.spoil(spoilPath, item.Recipient.ID, attacker)
	}
	good := []id.Recipient{
		h.waiting("a@example.net")[0].Recipient.ID, h.waiting("b@example.net")[0].Recipient.ID,
	}
	got := append(recipientsOf(h.claim(1)), recipientsOf(h.claim(1))...)
	slices.SortFunc(got, id.Recipient.Compare)
	if !slices.Equal(got, good) {
		t.Errorf("claimed %v, want %v", got, good)
	}
	if rest := h.claim(len(to)); len(rest) != 0 {
		t.Errorf("claimed %d more", len(rest))
	}
	if n := len(h.recipients(Selection{State: Failed})); n != len(bad) {
		t.Errorf("%d failed of %d", n, len(bad))
	}
	if at := h.released(bad[0].Message.Content); at.IsZero() {
		t.Error("their content is kept for ever")
	}
}

// Listings show what can't be read as it is stored, in every state.
func TestListingsShowUnreadableRows(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")
	bad := items[0].Recipient.ID
	h.spoil(spoilPath, bad, attacker)
	h.spoil(spoilFrom, items[0].Message.ID, attacker)
	for _, f := range []Selection{{}, {State: Leased}, {Message: items[0].Message.ID}} {
		h.view(func(tx *db.Tx) error {
			list, err := h.Recipients(tx, f, Page{})
			if err != nil || len(list) != 2 {
				t.Fatalf("%+v: %+v, %v", f, list, err)
			}
			for _, r := range list {
				unreadable := r.ID == bad
				if (r.RawTo == attacker) != unreadable || (r.Unreadable != "") != unreadable || r.To.Address.IsZero() != unreadable {
					t.Errorf("%+v: %+v", f, r)
				}
			}
			return nil
		})
	}
	list := h.messages(Filter{})
	if len(list) != 1 || list[0].RawFrom != attacker || !strings.Contains(list[0].Unreadable, attacker) || list[0].Subject != "hello" {
		t.Errorf("messages %+v", list)
	}
	if good := h.accept(id.New[id.Account](), "c@example.net"); h.messages(Filter{Account: good[0].Message.Account})[0].Unreadable != "" {
		t.Error("a message that can be read is marked")
	}
}

// A start with unreadable rows among those that were leased goes on with the others.
func TestRestartWithUnreadableRows(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net")
	spoiled := h.accept(id.New[id.Account](), "c@example.net")[0]
	h.spoil(spoilPath, items[0].Recipient.ID, attacker)
	h.spoil(spoilFrom, spoiled.Message.ID, attacker)
	again := h.crashed()
	again.must(again.Start(t.Context(), "here"))
	if n, err := again.Reclaim(t.Context()); err != nil || n != 3 {
		t.Fatalf("reclaimed %d, %v", n, err)
	}
	if got := recipientsOf(again.claim(10)); !slices.Equal(got, []id.Recipient{items[1].Recipient.ID}) {
		t.Errorf("claimed %v", got)
	}
	again.wantUnreadable(items[0].Recipient.ID, attacker)
	again.wantUnreadable(spoiled.Recipient.ID, attacker)
}
