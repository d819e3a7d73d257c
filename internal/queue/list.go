package queue

import (
	"bytes"
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const (
	selectMessage db.SQL = `
SELECT id, account_id, list_id, user_name, reverse_path, smtputf8, eight_bit, priority,
    signing_domain, header_from, subject, message_id, size, body_hash, header_size, content_id,
    accepted_at, recipients, unsettled, undelivered
FROM message WHERE id = $1`

	selectMessages db.SQL = `
SELECT id, account_id, list_id, user_name, reverse_path, smtputf8, eight_bit, priority,
    signing_domain, header_from, subject, message_id, size, body_hash, header_size, content_id,
    accepted_at, recipients, unsettled, undelivered
FROM message
WHERE id < $1
  AND (CAST($2 AS BYTEA) IS NULL OR account_id = $2)
  AND (CAST($3 AS TEXT) = '' OR user_name = $3)
ORDER BY id DESC LIMIT $4`

	selectRecipient db.SQL = `
SELECT id, message_id, account_id, forward_path, state, due, attempts, lease_node, lease_generation,
    outcome, settled_at
FROM recipient WHERE id = $1`

	selectRecipientsOf db.SQL = `
SELECT id, message_id, account_id, forward_path, state, due, attempts, lease_node, lease_generation,
    outcome, settled_at
FROM recipient
WHERE message_id = $1
  AND (CAST($2 AS BYTEA) IS NULL OR account_id = $2)
  AND (CAST($3 AS TEXT) = '' OR state = $3)
  AND (CAST($4 AS TEXT) = '' OR domain = $4)
ORDER BY id LIMIT $5`

	// What waits, first due first. Each part has its own index and its own
	// limit, so that a million rows are not sorted for the first hundred.
	selectWaiting db.SQL = `
SELECT id, message_id, account_id, forward_path, state, due, attempts, lease_node, lease_generation,
    outcome, settled_at
FROM (SELECT * FROM (SELECT * FROM recipient
        WHERE state = 'pending'
          AND (CAST($1 AS BYTEA) IS NULL OR account_id = $1)
          AND (CAST($2 AS TEXT) IN ('', 'pending'))
          AND (CAST($3 AS TEXT) = '' OR domain = $3)
        ORDER BY due LIMIT $4) AS pending
    UNION ALL
    SELECT * FROM (SELECT * FROM recipient
        WHERE state = 'leased'
          AND (CAST($1 AS BYTEA) IS NULL OR account_id = $1)
          AND (CAST($2 AS TEXT) IN ('', 'leased'))
          AND (CAST($3 AS TEXT) = '' OR domain = $3)
        LIMIT $4) AS leased
    UNION ALL
    SELECT * FROM (SELECT * FROM recipient
        WHERE state = 'held'
          AND (CAST($1 AS BYTEA) IS NULL OR account_id = $1)
          AND (CAST($2 AS TEXT) IN ('', 'held'))
          AND (CAST($3 AS TEXT) = '' OR domain = $3)
        LIMIT $4) AS held) AS waiting
ORDER BY due, id LIMIT $4`

	selectSettled db.SQL = `
SELECT id, message_id, account_id, forward_path, state, due, attempts, lease_node, lease_generation,
    outcome, settled_at
FROM recipient
WHERE state = $2
  AND (CAST($1 AS BYTEA) IS NULL OR account_id = $1)
  AND (CAST($3 AS TEXT) = '' OR domain = $3)
ORDER BY id DESC LIMIT $4`

	countPending db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'pending' LIMIT $1) AS bounded`
	countLeased  db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'leased' LIMIT $1) AS bounded`
	countHeld    db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'held' LIMIT $1) AS bounded`
)

// Bounds of listings and of counting.
const (
	DefaultLimit = 100
	MaxLimit     = 100_000
	MaxDepth     = 2_000_000 // a Depth of so many means "at least"
)

// Stored is a message as the database has it, with the sum of its recipients' states.
type Stored struct {
	Message
	Recipients  int
	Unsettled   int
	Undelivered int // settled, but not delivered

	Unreadable string // what of its row can't be read, and why; empty: nothing
	RawFrom    string // the stored reverse-path when From can't be read from it; else empty
}

// Filter narrows a listing; zero fields do not.
type Filter struct {
	Account id.Account
	User    string      // name of the SMTP+ user; messages only
	Before  id.Message  // older than this one, for the next page; messages only
	Message id.Message  // recipients only
	State   State       // recipients only
	Domain  mail.Domain // recipients only
	Limit   int         // 0: DefaultLimit; at most MaxLimit
}

func (f Filter) limit() int64 {
	return int64(min(cmp.Or(max(f.Limit, 0), DefaultLimit), MaxLimit))
}

// Messages lists messages, the newest first.
func (q *Queue) Messages(tx *db.Tx, f Filter) ([]Stored, error) {
	before := bytes.Repeat([]byte{0xff}, len(f.Before))
	if !f.Before.IsZero() {
		before = f.Before[:]
	}
	list, err := db.Collect(tx, scanMessage, selectMessages, before, f.Account, f.User, f.limit())
	if err != nil {
		return nil, fmt.Errorf("messages: %w", err)
	}
	return list, nil
}

// Message returns one message, or ErrNotFound.
func (q *Queue) Message(tx *db.Tx, m id.Message) (Stored, error) {
	stored, err := scanMessage(tx.Row(selectMessage, m))
	if err != nil {
		return Stored{}, fmt.Errorf("message %s: %w", m, notFound(err))
	}
	return stored, nil
}

// Recipients lists recipients: those of one message in their order; else those
// in a settled state, the newest first; else those that wait, the first due first.
func (*Queue) Recipients(tx *db.Tx, f Filter) ([]Recipient, error) {
	q, args := selectWaiting, []any{f.Account, string(f.State), string(f.Domain), f.limit()}
	switch {
	case !f.Message.IsZero():
		q, args = selectRecipientsOf, append([]any{f.Message}, args...)
	case f.State.Settled():
		q = selectSettled
	}
	list, err := db.Collect(tx, func(row db.Scanner) (Recipient, error) { return scanRecipient(row) }, q, args...)
	if err != nil {
		return nil, fmt.Errorf("recipients: %w", err)
	}
	return list, nil
}

// Recipient returns one recipient, or ErrNotFound.
func (q *Queue) Recipient(tx *db.Tx, r id.Recipient) (Recipient, error) {
	found, err := scanRecipient(tx.Row(selectRecipient, r))
	if err != nil {
		return Recipient{}, fmt.Errorf("recipient %s: %w", r, notFound(err))
	}
	return found, nil
}

// Depth is how many recipients are in each unsettled state, counted up to MaxDepth.
type Depth struct {
	Pending, Leased, Held int
	Overdue               time.Duration // of the longest-waiting pending recipient; 0: none is due
}

// Depth counts along the partial indexes: some 50 ns for each waiting recipient.
func (q *Queue) Depth(tx *db.Tx, now time.Time) (Depth, error) {
	var d Depth
	for _, c := range []struct {
		statement db.SQL
		to        *int
	}{{countPending, &d.Pending}, {countLeased, &d.Leased}, {countHeld, &d.Held}} {
		if err := tx.Row(c.statement, int64(MaxDepth)).Scan(c.to); err != nil {
			return Depth{}, fmt.Errorf("depth: %w", err)
		}
	}
	var due int64
	switch err := tx.Row(selectNextDue).Scan(&due); {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return Depth{}, fmt.Errorf("depth: %w", err)
	default:
		d.Overdue = max(0, now.Sub(db.Time(due)))
	}
	return d, nil
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
