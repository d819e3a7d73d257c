package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// ErrNoticed says that a notice is not due any more: somebody has seen to it.
var ErrNoticed = errors.New("queue: the notice is not due any more")

// NoticeKind is what a notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeFailure NoticeKind = "failure" // failed or expired, and the sender wants to know
	NoticeDelay   NoticeKind = "delay"   // waits for longer than its list's Schedule.DelayAfter, and the sender asked to be told
	NoticeSuccess NoticeKind = "success" // delivered, the sender asked to be told, and the next hop does not do it
	NoticeDouble  NoticeKind = "double"  // failed or expired, and nobody can be told: the reverse-path is null or can't be read
)

// Notice is what a sender, or with NoticeDouble the operator, is to be told of
// one message.
type Notice struct {
	Kind       NoticeKind
	Message    *Message
	Recipients []Recipient // at least one, at most 100, in their order
}

const (
	// noticeApart is how long a failure waits for others of its message, while there
	// are any that may fail.
	noticeApart = 10 * time.Second
	// noticeRecipients is how many share a notice.
	noticeRecipients = 100
)

const (
	insertNotice db.SQL = `
INSERT INTO dsn_due (recipient_id, kind, message_id, due) VALUES ($1, $2, $3, $4)
ON CONFLICT (recipient_id, kind) DO NOTHING`

	deleteNotice db.SQL = `DELETE FROM dsn_due WHERE recipient_id = $1 AND kind = $2 AND due > 0`
	keepNotice   db.SQL = `UPDATE dsn_due SET due = 0 WHERE recipient_id = $1 AND kind = $2 AND due > 0`
	dropDelay    db.SQL = `DELETE FROM dsn_due WHERE recipient_id = $1 AND kind = 'delay'`

	putOffNotice db.SQL = `UPDATE dsn_due SET due = $3 WHERE recipient_id = $1 AND kind = $2 AND due > 0`

	// Along the index: a campaign that fails leaves a million, and grouping them
	// would read them all for the first few.
	selectNotices db.SQL = `
SELECT message_id, kind FROM dsn_due WHERE due > 0 AND due <= $1 ORDER BY due LIMIT $2`

	selectNoticed db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE id IN (
    SELECT recipient_id FROM dsn_due
    WHERE message_id = $1 AND kind = $2 AND due > 0 AND due <= $3
    ORDER BY recipient_id LIMIT $4)
ORDER BY id`

	selectNextNotice db.SQL = `SELECT due FROM dsn_due WHERE due > 0 ORDER BY due LIMIT 1`
)

// Notices returns up to limit notices that are due, the oldest first. Recipients
// of one message to which the same happened at about the same time share one.
func (q *Queue) Notices(tx *db.Tx, limit int) ([]Notice, error) {
	now := db.Now()
	list, err := dueNotices(tx, now, limit)
	if err != nil {
		return nil, fmt.Errorf("notices: %w", err)
	}
	complete := list[:0]
	for _, n := range list {
		if n.Recipients, err = db.Collect(tx, func(row db.Scanner) (Recipient, error) { return scanRecipient(row) },
			selectNoticed, n.Message.ID, string(n.Kind), db.Micros(now.Add(noticeApart)), int64(noticeRecipients)); err != nil {
			return nil, fmt.Errorf("notices: %w", err)
		}
		m, err := q.Message(tx, n.Message.ID)
		switch {
		case errors.Is(err, ErrNotFound) || len(n.Recipients) == 0:
			continue // retention takes its rows with the rest
		case err != nil:
			return nil, err
		}
		n.Message = &m.Message
		complete = append(complete, n)
	}
	return complete, nil
}

// dueNotices finds up to limit that are due, one for each message and kind.
func dueNotices(tx *db.Tx, now time.Time, limit int) (list []Notice, err error) {
	type about struct {
		message id.Message
		kind    NoticeKind
	}
	rows, err := db.Collect(tx, func(row db.Scanner) (a about, err error) {
		err = row.Scan(&a.message, &a.kind)
		return a, err
	}, selectNotices, db.Micros(now), int64(limit*noticeRecipients))
	seen := make(map[about]bool, limit)
	for _, a := range rows {
		if !seen[a] && len(list) < limit {
			seen[a] = true
			list = append(list, Notice{Kind: a.kind, Message: &Message{ID: a.message}})
		}
	}
	return list, err
}

// NextNotice returns when the next notice is due, maybe already; ok is false when
// there is none.
func (q *Queue) NextNotice(ctx context.Context) (due time.Time, ok bool, err error) {
	var at int64
	err = q.db.View(ctx, func(tx *db.Tx) error { return tx.Row(selectNextNotice).Scan(&at) })
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, false, fmt.Errorf("next notice: %w", err)
	}
	return db.Time(at), true, nil
}

// Noticed says, in the transaction that sees to it, that a notice is seen to. It
// returns ErrNoticed when it is not due any more, for any of its recipients: then
// the transaction must be rolled back.
func (q *Queue) Noticed(tx *db.Tx, n Notice) error {
	statement := deleteNotice
	if n.Kind == NoticeDelay {
		statement = keepNotice
	}
	for _, r := range n.Recipients {
		done, err := tx.Exec(statement, r.ID, string(n.Kind))
		if err == nil && done == 0 {
			err = ErrNoticed
		}
		if err != nil {
			return fmt.Errorf("notice of %s: %w", r.ID, err)
		}
	}
	return nil
}

// PutOff has a notice that can't be seen to wait until the time given, so that it
// keeps none of the others up.
func (q *Queue) PutOff(tx *db.Tx, n Notice, until time.Time) error {
	for _, r := range n.Recipients {
		if _, err := tx.Exec(putOffNotice, r.ID, string(n.Kind), db.Micros(until)); err != nil {
			return fmt.Errorf("put off notice of %s: %w", r.ID, err)
		}
	}
	return nil
}

// note writes down what is to be told of a recipient that has just come to stand
// as it does; once it is settled, it waits for so long for others of its message.
func (q *Queue) note(tx *db.Tx, m *Message, r Recipient, apart time.Duration) error {
	kind, due := q.telling(tx, m, r)
	if r.Notify.OnDelay() && r.State.Settled() {
		if err := q.unnote(tx, r); err != nil {
			return err
		}
	}
	if kind == "" {
		return nil
	}
	if _, err := tx.Exec(insertNotice, r.ID, string(kind), m.ID, db.Micros(due.Add(apart))); err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	tx.OnCommit(func() { tell(&q.onNotice) })
	return nil
}

// telling decides what is to be told of a recipient, and when; the kind is empty
// for nothing.
func (q *Queue) telling(tx *db.Tx, m *Message, r Recipient) (kind NoticeKind, due time.Time) {
	failed := r.State == Failed || r.State == Expired
	switch {
	case m.From.IsNull() && failed: // also NOTIFY=NEVER: it is no DSN, RFC 3461 §6.2
		return NoticeDouble, r.SettledAt
	case m.From.IsNull():
	case failed && r.Notify.OnFailure():
		return NoticeFailure, r.SettledAt
	case r.State == Delivered && r.Notify.OnSuccess() && !r.Last.DSN:
		return NoticeSuccess, r.SettledAt
	case r.State == Pending && r.Notify.OnDelay():
		told := m.AcceptedAt.Add(q.schedule(tx, m.List).DelayAfter)
		if r.Due.After(told) {
			return NoticeDelay, told
		}
	}
	return "", time.Time{}
}

// unnote takes back that a delay is to be told.
func (q *Queue) unnote(tx *db.Tx, r Recipient) error {
	_, err := tx.Exec(dropDelay, r.ID)
	return err
}
