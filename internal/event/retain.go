package event

import (
	"context"
	"time"

	"mittente/internal/db"
)

// slice is how many events one transaction deletes: about two milliseconds of
// the writer's time.
const slice = 200

// Events are kept in the order of their ids, which is that of their times but
// for a moment; so the oldest are found without an index over at.
const deleteBefore db.SQL = `DELETE FROM event WHERE id IN
	(SELECT oldest.id FROM (SELECT id, at FROM event ORDER BY id LIMIT $2) AS oldest WHERE oldest.at < $1)`

// Retain deletes the events that happened before the given time, in slices, so
// that nobody waits long for the writer.
func Retain(ctx context.Context, d *db.DB, before time.Time) error {
	for {
		var n int64
		err := d.Batch(ctx, func(tx *db.Tx) (err error) {
			n, err = tx.Exec(deleteBefore, db.Micros(before), slice)
			return err
		})
		if err != nil || n < slice {
			return err
		}
	}
}
