package queue

import (
	"context"
	"fmt"

	"mittente/internal/db"
	"mittente/internal/id"
)

const (
	parkRecipient db.SQL = `UPDATE recipient SET parked = TRUE WHERE id = $1 AND state = 'pending' AND NOT parked`

	// One step along the index for each list, however much of it is parked.
	selectParkedLists db.SQL = `
WITH RECURSIVE lists (list_id) AS (
    SELECT list_id FROM (
        SELECT list_id FROM recipient WHERE parked AND list_id IS NOT NULL
        ORDER BY list_id LIMIT 1) AS lowest
    UNION ALL
    SELECT (SELECT r.list_id FROM recipient AS r
            WHERE r.parked AND r.list_id > lists.list_id
            ORDER BY r.list_id LIMIT 1)
    FROM lists WHERE lists.list_id IS NOT NULL
)
SELECT list_id FROM lists WHERE list_id IS NOT NULL`

	unparkRecipients db.SQL = `
UPDATE recipient SET parked = FALSE WHERE id IN (
    SELECT id FROM recipient WHERE parked AND list_id = $1 LIMIT $2)`
)

// parkSlice is how many recipients of a paused list one transaction moves: some 2
// ms of the writer.
const parkSlice = 100

// park sets recipients of paused lists aside, where no claim finds them, and
// returns how many.
func (q *Queue) park(ctx context.Context, found []candidate) (n int, err error) {
	err = q.db.Batch(ctx, func(tx *db.Tx) error {
		n = 0
		for _, c := range found {
			changed, err := tx.Exec(parkRecipient, c.ID)
			if err != nil {
				return err
			}
			n += int(changed)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("park: %w", err)
	}
	return n, nil
}

// unpark lets go on what is parked of lists that are not paused any more.
func (q *Queue) unpark(ctx context.Context) error {
	var lists []id.List
	err := q.db.View(ctx, func(tx *db.Tx) (err error) {
		lists, err = db.Collect(tx, func(row db.Scanner) (l id.List, err error) {
			err = row.Scan(&l)
			return l, err
		}, selectParkedLists)
		return err
	})
	for _, l := range lists {
		for n := int64(parkSlice); n == parkSlice && err == nil; {
			err = q.db.Batch(ctx, func(tx *db.Tx) (err error) {
				if n = 0; q.Paused(tx, l) {
					return nil
				}
				n, err = tx.Exec(unparkRecipients, l, int64(parkSlice))
				if n > 0 {
					tx.OnCommit(q.tellDue)
				}
				return err
			})
		}
	}
	if err != nil {
		return fmt.Errorf("unpark: %w", err)
	}
	return nil
}

// ListsChanged says that a list may have been paused or restarted: what is parked
// goes on without waiting for its turn. It never waits, and needs Run.
func (q *Queue) ListsChanged() {
	select {
	case q.lists <- struct{}{}:
	default:
	}
}
