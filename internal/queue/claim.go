package queue

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/node"
)

const (
	selectDue db.SQL = `
SELECT ` + columns + `, priority
FROM recipient
WHERE state = 'pending' AND NOT parked AND due <= $1
ORDER BY due LIMIT $2`

	// One account and one priority: a walk along recipient_pending.
	selectDueOf db.SQL = `
SELECT ` + columns + `, priority
FROM recipient
WHERE state = 'pending' AND NOT parked AND account_id = $1 AND priority = $2 AND due <= $3
ORDER BY due LIMIT $4`

	// Accounts that have pending mail, after the one given: one step along the
	// index per account, however much mail each has.
	selectAccounts db.SQL = `
WITH RECURSIVE waiting (account_id) AS (
    SELECT account_id FROM (
        SELECT account_id FROM recipient WHERE state = 'pending' AND NOT parked AND account_id > $1
        ORDER BY account_id LIMIT 1) AS lowest
    UNION ALL
    SELECT (SELECT r.account_id FROM recipient AS r
            WHERE r.state = 'pending' AND NOT r.parked AND r.account_id > waiting.account_id
            ORDER BY r.account_id LIMIT 1)
    FROM waiting WHERE waiting.account_id IS NOT NULL
)
SELECT account_id FROM waiting WHERE account_id IS NOT NULL LIMIT $2`

	leaseRecipient db.SQL = `
UPDATE recipient SET state = 'leased', lease_node = $2, lease_generation = $3
WHERE id = $1 AND state = 'pending' AND due = $4 AND attempts = $5`

	// Another node that has the row in hand makes this one pass it by, not wait.
	leaseRecipientPostgres db.SQL = `
UPDATE recipient SET state = 'leased', lease_node = $2, lease_generation = $3
WHERE id IN (
    SELECT id FROM recipient
    WHERE id = $1 AND state = 'pending' AND due = $4 AND attempts = $5
    FOR UPDATE SKIP LOCKED)`

	selectNextDue db.SQL = `SELECT due FROM recipient
WHERE state = 'pending' AND NOT parked AND due > $1 ORDER BY due LIMIT 1`
)

const (
	claimSlice    = 100 // recipients per transaction: about 2 ms of the writer
	claimAccounts = 64  // accounts looked at per claim
	claimRounds   = 20  // so often a claim looks again when all that it found could not be taken
)

// candidate is a recipient that may be claimed.
type candidate struct {
	Recipient
	priority mail.Priority
	message  *Message
	paused   bool   // its list is
	fault    string // why it can't be attempted; empty: it can
}

// Claim leases up to n recipients that are due at the time given to this node,
// by priority, then by due time, with a share for every account that has mail
// waiting, and of none more than there is Room for. Those that can't be read, or whose message can't, it settles as
// failed. What it returns is leased, also when it returns an error with it. It
// takes several transactions, none longer than a few milliseconds.
func (q *Queue) Claim(ctx context.Context, n int, now time.Time) ([]Item, error) {
	lease := q.Lease()
	if lease.IsZero() {
		return nil, fmt.Errorf("claim: %w", node.ErrNotStarted)
	}
	items := make([]Item, 0, min(n, claimSlice))
	for range claimRounds {
		gone, err := q.claim(ctx, n-len(items), now, func(found []candidate) error {
			taken, err := q.take(ctx, found, lease)
			items = append(items, taken...)
			return err
		})
		if err != nil {
			return items, fmt.Errorf("claim: %w", err)
		}
		if gone == 0 || len(items) > 0 {
			return items, nil
		}
	}
	return items, nil
}

// claim has up to n candidates taken, in slices, and returns how many are found no
// more, because they can't be read or their list is paused: there may be more for
// their places.
func (q *Queue) claim(ctx context.Context, n int, now time.Time, take func([]candidate) error) (gone int, err error) {
	var found []candidate
	err = q.db.View(ctx, func(tx *db.Tx) (err error) {
		if found, err = q.find(tx, n, now); err != nil {
			return err
		}
		return q.join(tx, found)
	})
	if err != nil {
		return 0, err
	}
	var readable, unreadable, paused []candidate
	for _, c := range found {
		switch {
		case c.fault != "":
			unreadable = append(unreadable, c)
		case c.paused:
			paused = append(paused, c)
		default:
			readable = append(readable, c)
		}
	}
	for slice := range slices.Chunk(readable, claimSlice) {
		if err := take(slice); err != nil {
			return 0, err
		}
	}
	for slice := range slices.Chunk(unreadable, unreadableSlice) {
		done, err := q.failAll(ctx, slice, db.Now())
		if gone += done; err != nil {
			return gone, err
		}
	}
	for slice := range slices.Chunk(paused, claimSlice) {
		done, err := q.park(ctx, slice)
		if gone += done; err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// find looks for up to n candidates. While all that is due fits in, the index
// by due time is enough; a backlog is shared out by account and priority.
func (q *Queue) find(tx *db.Tx, n int, now time.Time) ([]candidate, error) {
	found, err := db.Collect(tx, scanCandidate, selectDue, db.Micros(now), int64(n+1))
	if err != nil {
		return nil, err
	}
	if len(found) > n {
		shared, err := q.share(tx, n, now)
		if err != nil {
			return nil, err
		}
		found = merge(shared, found, n)
	}
	found = q.fitting(found)
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), a.Due.Compare(b.Due))
	})
	return found, nil
}

// share takes the same number from every account in turn, of each by the shares of
// its priorities; the next claim begins with the account after the last.
func (q *Queue) share(tx *db.Tx, n int, now time.Time) ([]candidate, error) {
	accounts, err := q.accounts(tx)
	if err != nil || len(accounts) == 0 {
		return nil, err
	}
	var found []candidate
	for i, account := range accounts {
		room := (n - len(found)) / (len(accounts) - i)
		if room == 0 {
			room = min(1, n-len(found))
		}
		if len(account) == len(id.Account{}) {
			room = min(room, q.roomOf(id.Account(account)))
		}
		some, err := q.shareOf(tx, account, room, now)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
		q.turn.Store(&account)
		if len(found) >= n {
			break
		}
	}
	return found, nil
}

// shareOf takes up to n of one account: of each priority its share, and what one has
// no use for goes to the others, the highest first.
func (q *Queue) shareOf(tx *db.Tx, account []byte, n int, now time.Time) ([]candidate, error) {
	if n == 0 {
		return nil, nil
	}
	want := q.shares.next(string(account), n)
	var found [mail.PriorityLowest + 1][]candidate
	left := n
	for spare := false; ; spare = true {
		for p := mail.PriorityHighest; p <= mail.PriorityLowest; p++ {
			limit := want[p]
			if spare { // once more: what there is beyond its share
				if left == 0 || len(found[p]) < want[p] {
					continue
				}
				limit = len(found[p]) + left
			}
			if limit == 0 {
				continue
			}
			some, err := db.Collect(tx, scanCandidate, selectDueOf, account, int64(p), db.Micros(now), int64(limit))
			if err != nil {
				return nil, err
			}
			left -= len(some) - len(found[p])
			found[p] = some
		}
		if spare || left == 0 {
			return slices.Concat(found[:]...), nil
		}
	}
}

// accounts lists accounts with pending mail: those after the last one served,
// and then those from the beginning.
func (q *Queue) accounts(tx *db.Tx) ([][]byte, error) {
	after := []byte{}
	if last := q.turn.Load(); last != nil {
		after = *last
	}
	list, err := db.Collect(tx, scanBytes, selectAccounts, after, int64(claimAccounts))
	if err != nil || len(list) == claimAccounts || len(after) == 0 {
		return list, err
	}
	first, err := db.Collect(tx, scanBytes, selectAccounts, []byte{}, int64(claimAccounts-len(list)))
	if err != nil {
		return nil, err
	}
	for _, account := range first {
		if slices.Compare(account, after) > 0 {
			break
		}
		list = append(list, account)
	}
	return list, nil
}

// fitting drops the candidates of accounts for which there is no more room.
func (q *Queue) fitting(found []candidate) []candidate {
	if q.room.Load() == nil {
		return found
	}
	rooms := make(map[id.Account]int)
	return slices.DeleteFunc(found, func(c candidate) bool {
		room, known := rooms[c.Account]
		if !known {
			room = q.roomOf(c.Account)
		}
		rooms[c.Account] = room - 1
		return room <= 0
	})
}

// merge fills first up to n with what it does not have yet.
func merge(first, more []candidate, n int) []candidate {
	have := make(map[id.Recipient]bool, len(first))
	for _, c := range first {
		have[c.ID] = true
	}
	for _, c := range more {
		if len(first) >= n {
			break
		}
		if !have[c.ID] {
			first = append(first, c)
		}
	}
	return first
}

// join gives every candidate its message; those of one message share it.
func (q *Queue) join(tx *db.Tx, found []candidate) error {
	seen := make(map[id.Message]*Stored)
	for i := range found {
		c := &found[i]
		stored, ok := seen[c.Message]
		if !ok {
			m, err := scanMessage(tx.Row(selectMessage, c.Message))
			switch {
			case errors.Is(err, sql.ErrNoRows):
				m.Unreadable = "its message is not there"
			case err != nil:
				return fmt.Errorf("message %s: %w", c.Message, err)
			}
			stored = &m
			seen[c.Message] = stored
		}
		c.message = &stored.Message
		c.paused = q.Paused(tx, c.List)
		if c.fault == "" {
			c.fault = stored.Unreadable
		}
	}
	return nil
}

// take leases candidates, all but those that another node had first.
func (q *Queue) take(ctx context.Context, found []candidate, lease Lease) ([]Item, error) {
	var items []Item
	err := q.db.Batch(ctx, func(tx *db.Tx) error {
		items = make([]Item, 0, len(found))
		statement := tx.Dialect().Choose(leaseRecipient, leaseRecipientPostgres)
		for _, c := range found {
			n, err := tx.Exec(statement, c.ID, lease.Node, lease.Generation, db.Micros(c.Due), int64(c.Attempts))
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			r := c.Recipient
			r.State, r.Lease = Leased, lease
			items = append(items, Item{Message: c.message, Recipient: r})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	q.metrics.claimed.Add(float64(len(items)))
	return items, nil
}

// NextDue returns the due time of the pending recipient that is due first, of
// those that are due after the given time; ok is false when there is none. A list
// that is paused has none.
func (q *Queue) NextDue(ctx context.Context, after time.Time) (due time.Time, ok bool, err error) {
	var at int64
	err = q.db.View(ctx, func(tx *db.Tx) error { return tx.Row(selectNextDue, db.Micros(after)).Scan(&at) })
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, false, fmt.Errorf("next due: %w", err)
	}
	return db.Time(at), true, nil
}

func scanCandidate(row db.Scanner) (candidate, error) {
	var p int64
	r, err := scanRecipient(row, column{name: "priority", to: &p})
	return candidate{Recipient: r, priority: mail.Priority(p), fault: r.Unreadable}, err
}

func scanBytes(row db.Scanner) ([]byte, error) {
	var b []byte
	err := row.Scan(&b)
	return b, err
}
