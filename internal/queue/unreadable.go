package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/mail"
)

// failUnreadable is a claim and a failure in one. Its condition holds nothing of
// the row but what the row was found by.
const failUnreadable db.SQL = `
UPDATE recipient SET state = $2, outcome = $3, settled_at = $4, lease_node = 0, lease_generation = 0
WHERE id = $1 AND state = 'pending'`

// unreadableSlice is how many of them one transaction fails: some 2 ms of the writer.
const unreadableSlice = 25

// failAll settles candidates that can't be attempted, because their row or their
// message's can't be read, as failed: were they left, every claim would find
// them. It returns how many it settled; the others have changed meanwhile.
func (q *Queue) failAll(ctx context.Context, found []candidate, at time.Time) (int, error) {
	var done int
	err := q.db.Batch(ctx, func(tx *db.Tx) error {
		done = 0
		for _, c := range found {
			ok, err := q.failOne(ctx, tx, c, at)
			if err != nil {
				return fmt.Errorf("unreadable %s: %w", c.ID, err)
			}
			if ok {
				done++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return done, nil
}

func (q *Queue) failOne(ctx context.Context, tx *db.Tx, c candidate, at time.Time) (bool, error) {
	r := c.Recipient
	r.Last = mail.Outcome{
		Action: mail.Failed, Scope: mail.ScopeRecipient,
		Status:     mail.Status{Class: 5, Subject: 3}, // RFC 3463 §3.4: the mail system, undefined
		Diagnostic: diagnostic(c.fault),
	}
	for _, m := range []move{claim, fail} {
		var err error
		if r, err = r.moved(m, at); err != nil {
			return false, err
		}
	}
	outcome, err := json.Marshal(r.Last)
	if err != nil {
		return false, err
	}
	n, err := tx.Exec(failUnreadable, r.ID, string(r.State), string(outcome), db.Micros(at))
	if n == 0 || err != nil {
		return false, err
	}
	e := settledEvent(r, at)
	e.Detail.Attempt = 0
	if err := event.Append(tx, e); err != nil {
		return false, err
	}
	// Without its message there is nothing to count.
	switch apart, err := q.close(tx, c.message, r, at); {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return false, err
	default:
		if err := q.note(tx, c.message, r, apart); err != nil {
			return false, err
		}
	}
	tx.OnCommit(func() {
		q.metrics.unreadable.Inc()
		q.metrics.settled.WithLabelValues(string(r.State)).Inc()
		q.log.LogAttrs(ctx, slog.LevelError, "recipient failed: it can't be read from the database",
			slog.String("recipient", r.ID.String()), slog.String("message", r.Message.String()),
			slog.String("error", c.fault))
	})
	return true, nil
}

// diagnostic is a fault as an outcome can have it: UTF-8, at most 1,000 octets.
func diagnostic(fault string) string {
	return strings.ToValidUTF8(fault[:min(len(fault), 1000)], "")
}
