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
DELETE FROM recipient WHERE id IN (
    SELECT r.id FROM recipient AS r WHERE r.message_id IN (
        SELECT m.id FROM message AS m WHERE m.id < $1 AND m.unsettled = 0 ORDER BY m.id LIMIT $2)
    LIMIT $3)`

	// What nobody was told in all that time.
	deleteOldNotices db.SQL = `
DELETE FROM dsn_due WHERE recipient_id IN (
    SELECT r.id FROM recipient AS r WHERE r.message_id IN (
        SELECT m.id FROM message AS m WHERE m.id < $1 AND m.unsettled = 0 ORDER BY m.id LIMIT $2)
    LIMIT $3)`

	deleteOldMessages db.SQL = `
DELETE FROM message WHERE id IN (
    SELECT id FROM message WHERE id < $1 AND unsettled = 0 ORDER BY id LIMIT $2)`
)

// What one transaction deletes at most: about 3 ms of the writer.
const (
	retainMessages   = 50
	retainRecipients = 100
)

// Retain deletes what is older than the retention of events: messages of which
// every recipient is settled, and their recipients, in slices. Their content
// has its own, shorter retention in the spool.
func (q *Queue) Retain(ctx context.Context, now time.Time) error {
	limit := id.Before[id.Message](now.Add(-q.deps.Retention.Events))
	for more := true; more; {
		err := q.db.Batch(ctx, func(tx *db.Tx) error {
			if _, err := tx.Exec(deleteOldNotices, limit[:], int64(retainMessages), int64(retainRecipients)); err != nil {
				return err
			}
			n, err := tx.Exec(deleteOldRecipients, limit[:], int64(retainMessages), int64(retainRecipients))
			if more = n == retainRecipients; more || err != nil {
				return err // some of these messages may have recipients left
			}
			n, err = tx.Exec(deleteOldMessages, limit[:], int64(retainMessages))
			more = n == retainMessages
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
	return event.Retain(ctx, q.db, now.Add(-q.deps.Retention.Events))
}
