package queue

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// pending puts a pending message for one recipient into the queue.
func (h *house) pending(account id.Account, p mail.Priority) Item {
	h.t.Helper()
	m, w := h.someMessage(account)
	m.Priority = p
	h.Direct(false)
	defer h.Direct(true)
	return h.acceptMessage(m, w, "a@example.net")[0]
}

func recipientsOf(items []Item) (ids []id.Recipient) {
	for _, item := range items {
		ids = append(ids, item.Recipient.ID)
	}
	return ids
}

// Claims go by priority, then by due time, in a backlog and without one.
func TestClaimOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		account := id.New[id.Account]()
		old := h.pending(account, 3)
		time.Sleep(time.Second)
		low := h.pending(account, 5)
		urgent := h.pending(account, 1)
		time.Sleep(time.Second)
		recent := h.pending(account, 3)
		want := []id.Recipient{urgent.Recipient.ID, old.Recipient.ID, recent.Recipient.ID, low.Recipient.ID}
		// Once as a backlog, a piece at a time, once as all that is due.
		got := recipientsOf(append(h.claim(1), h.claim(2)...))
		if !slices.Equal(got, want[:3]) {
			t.Errorf("in pieces: %v, want %v", got, want[:3])
		}
		got = append(got, recipientsOf(h.claim(100))...)
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		h.must(h.db.Close())
	})
}

// A claim takes nothing early and nothing twice, and brings all that was stored.
func TestClaimTakesWhatIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		if _, ok, err := h.NextDue(t.Context(), time.Time{}); ok || err != nil {
			t.Errorf("next due of an empty queue: %v, %v", ok, err)
		}
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		r := h.mustSettle(item, deferred(), Pending)
		if got := h.claim(10); len(got) != 0 {
			t.Errorf("claimed %d early", len(got))
		}
		time.Sleep(time.Until(r.Due))
		got := h.claim(10)
		if len(got) != 1 {
			t.Fatalf("claimed %d", len(got))
		}
		if *got[0].Message != *item.Message {
			t.Errorf("message %+v, want %+v", got[0].Message, item.Message)
		}
		if c := got[0].Recipient; c.Attempts != 1 || c.Last != deferred() || c.To != item.Recipient.To || !h.Holds(c.Lease) {
			t.Errorf("recipient %+v", c)
		}
		if again := h.claim(10); len(again) != 0 {
			t.Errorf("claimed twice")
		}
		h.must(h.db.Close())
	})
}

// The items of one message share one value of it.
func TestClaimSharesTheMessage(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Direct(false)
	var to []string
	for i := range 250 {
		to = append(to, fmt.Sprintf("r%d@example.net", i))
	}
	h.accept(id.New[id.Account](), to...)
	items := h.claim(1000)
	if len(items) != len(to) {
		t.Fatalf("claimed %d", len(items))
	}
	for _, item := range items {
		if item.Message != items[0].Message || item.Bytes != nil {
			t.Fatal("the items of one message do not share it")
		}
	}
}

// An account with a large backlog does not keep others out of a claim.
func TestClaimSharesAmongAccounts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	large := id.New[id.Account]()
	for range 60 {
		h.pending(large, mail.PriorityHighest)
	}
	small := []Item{
		h.pending(id.New[id.Account](), mail.PriorityNormal),
		h.pending(id.New[id.Account](), mail.PriorityLowest),
	}
	got := recipientsOf(h.claim(10))
	if len(got) != 10 {
		t.Fatalf("claimed %d", len(got))
	}
	for _, item := range small {
		if !slices.Contains(got, item.Recipient.ID) {
			t.Errorf("priority %d of a small account was left out", item.Message.Priority)
		}
	}
	total := len(got)
	for range 10 {
		total += len(h.claim(10))
	}
	if total != 62 {
		t.Errorf("claimed %d in all", total)
	}
}

// Of an account for which a node has no more room it takes no more, whether at
// the door or from the table; others lose nothing by it.
func TestRoomBoundsAnAccount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	large, small := id.New[id.Account](), id.New[id.Account]()
	h.Room(func(a id.Account) int {
		if a == large {
			return 3
		}
		return 100
	})
	if got := h.accept(large, "a@example.net", "b@example.net", "c@example.net"); got[0].Recipient.State != Leased {
		t.Errorf("what has room is %s", got[0].Recipient.State)
	}
	for range 5 {
		if got := h.accept(large, "a@example.net", "b@example.net", "c@example.net", "d@example.net"); got[0].Recipient.State != Pending {
			t.Errorf("what has no room is %s", got[0].Recipient.State)
		}
	}
	h.pending(small, mail.PriorityNormal)
	for _, n := range []int{10, 100} {
		seen := make(map[id.Account]int)
		for _, item := range h.claim(n) {
			seen[item.Message.Account]++
		}
		if seen[large] != 3 || n == 10 && seen[small] != 1 {
			t.Errorf("a claim of %d took %d and %d", n, seen[large], seen[small])
		}
	}
}

// With more accounts than a claim looks at, and more than it may take, all get
// their turn.
func TestClaimGoesRound(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	seen := make(map[id.Account]int)
	const accounts = claimAccounts + 20
	for range accounts {
		account := id.New[id.Account]()
		h.pending(account, mail.PriorityNormal)
		h.pending(account, mail.PriorityNormal)
	}
	for range accounts / 7 {
		for _, item := range h.claim(7) {
			seen[item.Message.Account]++
		}
	}
	if len(seen) != accounts {
		t.Errorf("%d of %d accounts were served by one round", len(seen), accounts)
	}
	for account, n := range seen {
		if n > 1 {
			t.Errorf("%s was served %d times", account, n)
		}
	}
}

// What claims are found by is an index, whatever waits.
func TestClaimUsesIndexes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	waiting := []any{nil, nil, "", "", "", nil, "", 0, []byte{}, 1}
	for _, c := range []struct {
		explain db.SQL
		args    []any
		index   string
	}{
		{"EXPLAIN QUERY PLAN " + selectDue, []any{1, 1}, "recipient_due"},
		{"EXPLAIN QUERY PLAN " + selectDueOf, []any{[]byte{1}, 1, 1, 1}, "recipient_pending"},
		{"EXPLAIN QUERY PLAN " + selectNextDue, []any{0}, "recipient_due"},
		{"EXPLAIN QUERY PLAN " + selectAccounts, []any{[]byte{1}, 1}, "recipient_pending"},
		{"EXPLAIN QUERY PLAN " + depthPending, []any{1}, "recipient_"},
		{"EXPLAIN QUERY PLAN " + depthLeased, []any{1}, "recipient_leased"},
		{"EXPLAIN QUERY PLAN " + depthHeld, []any{1}, "recipient_held"},
		{"EXPLAIN QUERY PLAN " + reclaimLeases, []any{1, 1, 1}, "recipient_leased"},
		{"EXPLAIN QUERY PLAN " + selectHolders, nil, "recipient_leased"},
		{"EXPLAIN QUERY PLAN " + selectPending, waiting, "recipient_due"},
		{"EXPLAIN QUERY PLAN " + selectParked, waiting, "recipient_parked"},
		{"EXPLAIN QUERY PLAN " + selectHeld, waiting, "recipient_held"},
		{"EXPLAIN QUERY PLAN " + selectLeased, waiting, "recipient_leased"},
		{"EXPLAIN QUERY PLAN " + selectUndelivered, append(waiting[:7:7], nil, 1, "failed"), "recipient_undelivered"},
		{"EXPLAIN QUERY PLAN " + selectParkedLists, nil, "recipient_parked_list"},
		{"EXPLAIN QUERY PLAN " + unparkRecipients, []any{[]byte{1}, 1}, "recipient_parked_list"},
		{"EXPLAIN QUERY PLAN " + selectWishes, []any{1, 1, 1}, "recipient_wish"},
		{"EXPLAIN QUERY PLAN " + selectWishedFor, []any{1, 1, 1}, "recipient_wish"},
		{"EXPLAIN QUERY PLAN " + selectLater, []any{1, []byte{}, 1}, "recipient_due"},
		{"EXPLAIN QUERY PLAN " + selectNotices, []any{1, 1}, "dsn_due_due"},
		{"EXPLAIN QUERY PLAN " + selectNoticed, []any{[]byte{1}, "failure", 1, 1}, "dsn_due_message"},
		{"EXPLAIN QUERY PLAN " + selectRecipientsOf, append(append(waiting[:7:7], nil, 1), []byte{1}, ""), "recipient_message"},
	} {
		plan := h.plan(c.explain, c.args...)
		if !slices.ContainsFunc(plan, func(s string) bool { return containsIndex(s, c.index) }) {
			t.Errorf("%s\nnot by %s but %q", c.explain, c.index, plan)
		}
		for _, step := range plan {
			if step == "SCAN recipient" || step == "SCAN r" {
				t.Errorf("%s\nreads the whole table: %q", c.explain, plan)
			}
		}
	}
}
