package queue

import (
	"context"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
)

const (
	deleteOldRecipients db.SQL = `
DELETE FROM recipient WHERE message_id IN (
    SELECT id FROM message WHERE id < $1 AND unsettled = 0 ORDER BY id LIMIT $2)`

	deleteOldMessages db.SQL = `
DELETE FROM message WHERE id IN (
    SELECT id FROM message WHERE id < $1 AND unsettled = 0 ORDER BY id LIMIT $2)`
)

// retainSlice is how many messages one transaction deletes, with all their
// recipients: one, where a message may have a thousand of them, up to fifty.
const retainSlice = 50

// Retain deletes what is older than the retention of events: messages of which
// every recipient is settled, and their recipients, in slices. Their content
// has its own, shorter retention in the spool.
func (q *Queue) Retain(ctx context.Context, now time.Time) error {
	limit := id.Before[id.Message](now.Add(-q.retention.Events))
	for n := int64(retainSlice); n == retainSlice; {
		err := q.db.Batch(ctx, func(tx *db.Tx) error {
			if _, err := tx.Exec(deleteOldRecipients, limit[:], int64(retainSlice)); err != nil {
				return err
			}
			deleted, err := tx.Exec(deleteOldMessages, limit[:], int64(retainSlice))
			n = deleted
			return err
		})
		if err != nil {
			return fmt.Errorf("retain messages: %w", err)
		}
	}
	return nil
}

// retain deletes messages and events past their retention.
func (q *Queue) retain(ctx context.Context) error {
	now := time.Now()
	if err := q.Retain(ctx, now); err != nil {
		return err
	}
	return event.Retain(ctx, q.db, now.Add(-q.retention.Events))
}
