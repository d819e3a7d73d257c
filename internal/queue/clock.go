package queue

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// The clock on the wall may be set, forwards or backwards, and due times are told
// by it. What becomes of them:
//
//	forwards    what is due earlier than it should be is attempted earlier; nothing
//	            expires before it had an attempt in good time (Schedule, late)
//	backwards   every wait is what it was: due times follow the clock (turnBack),
//	            also when it was set while no server ran
//	otherwise   what is due further ahead than any schedule puts it is due at once (pull)
//
// Leases know no time, and whether a node lives is judged by what its heartbeat
// does, not by what it says.

const (
	// clockJump is from where on a step of the clock is one: below, time servers slew.
	clockJump = 10 * time.Second
	// furthest is how far ahead anything may be due: the longest step or reply, and its jitter.
	furthest = maxRetryAfter + maxRetryAfter/10
	// clockSlice is how many due times one transaction moves.
	clockSlice = 100
)

const (
	selectLater db.SQL = `
SELECT due, id FROM recipient
WHERE state = 'pending' AND NOT parked AND due >= $1 AND (due > $1 OR id > $2)
ORDER BY due, id LIMIT $3`

	moveDue db.SQL = `UPDATE recipient SET due = $3 WHERE id = $1 AND state = 'pending' AND due = $2`

	pullNotices db.SQL = `UPDATE dsn_due SET due = $1 WHERE due > $2 AND kind <> 'delay'`
)

// watchClock returns what notices that the clock was set since it was last called.
func (q *Queue) watchClock() func(context.Context) error {
	began, wall := time.Now(), q.deps.Clock()
	behind := time.Duration(q.behind.Swap(0))
	return func(ctx context.Context) error {
		now := q.deps.Clock()
		// The one difference is of the wall's clock, the other of one that is never set.
		jump := now.Round(0).Sub(wall.Round(0)) - time.Since(began)
		began, wall = time.Now(), now
		if jump <= -clockJump {
			behind -= jump
		}
		switch {
		case behind > 0:
			q.log.LogAttrs(ctx, slog.LevelWarn, "the clock was set back: due times follow it", slog.Duration("by", behind))
			if err := q.turnBack(ctx, behind, now); err != nil {
				return err
			}
			behind = 0
		case jump >= clockJump:
			q.log.LogAttrs(ctx, slog.LevelWarn, "the clock was set forward", slog.Duration("by", jump))
			q.tellDue()
		}
		return nil
	}
}

// turnBack brings due times forward by what the clock was set back, but not before
// the time given. What is put off while it does so may be brought forward, too: it
// is attempted early.
func (q *Queue) turnBack(ctx context.Context, by time.Duration, now time.Time) error {
	return q.move(ctx, now, func(due time.Time) time.Time {
		if due = due.Add(-by); due.Before(now) {
			return now
		}
		return due
	})
}

// pull makes due at once what is due further ahead than anything may be.
func (q *Queue) pull(ctx context.Context) error {
	now := q.deps.Clock()
	return q.move(ctx, now.Add(furthest), func(time.Time) time.Time { return now })
}

// move gives pending recipients that are due after a time another due time, in slices.
func (q *Queue) move(ctx context.Context, after time.Time, to func(due time.Time) time.Time) error {
	moved := 0
	for last := (Place{Due: after}); ; {
		var slice []Place
		err := q.db.View(ctx, func(tx *db.Tx) (err error) {
			slice, err = db.Collect(tx, scanPlace, selectLater, db.Micros(last.Due), last.ID[:], int64(clockSlice))
			return err
		})
		if err == nil && len(slice) > 0 {
			err = q.db.Batch(ctx, func(tx *db.Tx) error {
				for _, p := range slice {
					if _, err := tx.Exec(moveDue, p.ID, db.Micros(p.Due), db.Micros(to(p.Due))); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("move due times: %w", err)
		}
		if moved += len(slice); len(slice) < clockSlice {
			break
		}
		last = slice[len(slice)-1]
	}
	if moved > 0 {
		q.tellDue()
	}
	return q.moveNotices(ctx, after, to)
}

// moveNotices does the same with notices; those of a delay have time.
func (q *Queue) moveNotices(ctx context.Context, after time.Time, to func(due time.Time) time.Time) error {
	var n int64
	err := q.db.Batch(ctx, func(tx *db.Tx) (err error) {
		n, err = tx.Exec(pullNotices, db.Micros(to(after)), db.Micros(after.Add(noticeApart)))
		return err
	})
	if err != nil {
		return fmt.Errorf("move notices: %w", err)
	}
	if n > 0 {
		tell(&q.onNotice)
	}
	return nil
}

func scanPlace(row db.Scanner) (Place, error) {
	var due int64
	var r id.Recipient
	err := row.Scan(&due, &r)
	return Place{Due: db.Time(due), ID: r}, err
}
