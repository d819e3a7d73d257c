package queue

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

const (
	selectMessage db.SQL = `SELECT ` + messageColumns + ` FROM message WHERE id = $1`

	selectMessages db.SQL = `SELECT ` + messageColumns + ` FROM message
WHERE id < $1
  AND (CAST($2 AS BYTEA) IS NULL OR account_id = $2)
  AND (CAST($3 AS TEXT) = '' OR user_name = $3)
ORDER BY id DESC LIMIT $4`

	depthPending db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'pending' AND NOT parked LIMIT $1) AS bounded`
	depthParked  db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE parked LIMIT $1) AS bounded`
	depthLeased  db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'leased' LIMIT $1) AS bounded`
	depthHeld    db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'held' LIMIT $1) AS bounded`
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

// Filter narrows a listing of messages; zero fields do not.
type Filter struct {
	Account id.Account
	User    string     // name of the SMTP+ user
	Before  id.Message // older than this one, for the next page
	Limit   int        // 0: DefaultLimit; at most MaxLimit
}

// Messages lists messages, the newest first.
func (q *Queue) Messages(tx *db.Tx, f Filter) ([]Stored, error) {
	before := bytes.Repeat([]byte{0xff}, len(f.Before))
	if !f.Before.IsZero() {
		before = f.Before[:]
	}
	list, err := db.Collect(tx, scanMessage, selectMessages, before, f.Account, f.User, int64(Page{Limit: f.Limit}.limit()))
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

// Depth is how many recipients are in each unsettled state, counted up to MaxDepth.
type Depth struct {
	Pending, Leased, Held int
	Parked                int           // of those that are pending: their list is paused
	Overdue               time.Duration // of the longest-waiting pending recipient that is not parked; 0: none is due
}

// Depth counts along the partial indexes: some 50 ns for each waiting recipient.
func (q *Queue) Depth(tx *db.Tx, now time.Time) (Depth, error) {
	var d Depth
	for _, c := range []struct {
		statement db.SQL
		to        *int
	}{{depthPending, &d.Pending}, {depthParked, &d.Parked}, {depthLeased, &d.Leased}, {depthHeld, &d.Held}} {
		if err := tx.Row(c.statement, int64(MaxDepth)).Scan(c.to); err != nil {
			return Depth{}, fmt.Errorf("depth: %w", err)
		}
	}
	d.Pending += d.Parked
	var due int64
	switch err := tx.Row(selectNextDue, int64(0)).Scan(&due); {
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
