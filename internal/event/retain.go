package event

import (
	"context"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// slice is how many events one transaction deletes: about two milliseconds of
// the writer's time.
const slice = 200

const deleteBefore db.SQL = `DELETE FROM event WHERE id IN
	(SELECT id FROM event WHERE id < $1 ORDER BY id LIMIT $2)`

// Retain deletes the events that happened before the given time, in slices, so
// that nobody waits long for the writer.
func Retain(ctx context.Context, d *db.DB, before time.Time) error {
	for {
		var n int64
		err := d.Batch(ctx, func(tx *db.Tx) (err error) {
			n, err = tx.Exec(deleteBefore, id.Before[id.Event](before), slice)
			return err
		})
		if err != nil || n < slice {
			return err
		}
	}
}
