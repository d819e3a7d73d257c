package queue

import (
	"encoding/json"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/mail"
)

const (
	// The lease in the condition is what keeps an old generation out: it finds no row.
	settleRecipient db.SQL = `
UPDATE recipient
SET state = $2, due = $3, attempts = $4, outcome = $5, settled_at = $6, lease_node = 0, lease_generation = 0
WHERE id = $1 AND state = 'leased' AND lease_node = $7 AND lease_generation = $8`

	countSettled db.SQL = `
UPDATE message SET unsettled = unsettled - 1, undelivered = undelivered + $2
WHERE id = $1
RETURNING unsettled, undelivered`

	releaseRecipient db.SQL = `
UPDATE recipient SET state = 'pending', lease_node = 0, lease_generation = 0
WHERE id = $1 AND state = 'leased' AND lease_node = $2 AND lease_generation = $3`
)

// Settle writes what an attempt did with a recipient that is leased to this
// node: the new state and its event, and, with the last recipient of a message,
// that its content may go after its retention. A deferral sets the next due
// time or, when the recipient's time is over, expires it. It returns the
// recipient as it stands then, or ErrLeaseLost, after which the transaction can
// go on: nothing was written. It may be repeated.
func (q *Queue) Settle(tx *db.Tx, item Item, o mail.Outcome, at time.Time) (Recipient, error) {
	r, err := q.settled(item, o, at)
	if err != nil {
		return item.Recipient, err
	}
	lease := item.Recipient.Lease
	outcome, err := json.Marshal(o)
	if err != nil {
		return item.Recipient, fmt.Errorf("settle %s: %w", r.ID, err)
	}
	n, err := tx.Exec(settleRecipient, r.ID, string(r.State), db.Micros(r.Due), int64(r.Attempts),
		string(outcome), db.Micros(r.SettledAt), lease.Node, lease.Generation)
	if err != nil {
		return item.Recipient, fmt.Errorf("settle %s: %w", r.ID, err)
	}
	if n == 0 {
		tx.OnCommit(q.metrics.lost.Inc)
		return item.Recipient, fmt.Errorf("settle %s: %w", r.ID, ErrLeaseLost)
	}
	if err := event.Append(tx, settledEvent(r, at)); err != nil {
		return item.Recipient, fmt.Errorf("settle %s: %w", r.ID, err)
	}
	if r.State.Settled() {
		if err := q.close(tx, item.Message, r, at); err != nil {
			return item.Recipient, fmt.Errorf("settle %s: %w", r.ID, err)
		}
	}
	tx.OnCommit(func() { q.metrics.settled.WithLabelValues(string(r.State)).Inc() })
	return r, nil
}

// settled works out where an outcome leaves the recipient; it reads nothing.
func (q *Queue) settled(item Item, o mail.Outcome, at time.Time) (Recipient, error) {
	r := item.Recipient
	r.Attempts++
	r.Last = o
	r.Lease = Lease{}
	m := fail
	switch o.Action {
	case mail.Delivered:
		m = deliver
	case mail.Failed:
	case mail.Deferred:
		due, ok := q.backoff.after(r.Attempts, at, item.Message.AcceptedAt)
		if m = expire; ok {
			m, r.Due = postpone, due
		}
	default:
		return r, fmt.Errorf("settle %s: no action in %+v", r.ID, o)
	}
	state, ok := r.State.next(m)
	if !ok {
		return r, fmt.Errorf("settle %s: %s from %s: %w", r.ID, m, r.State, ErrMove)
	}
	r.State = state
	if state.Settled() {
		r.SettledAt = at
	}
	return r, nil
}

// close counts a settled recipient and lets go of the content with the last one.
func (q *Queue) close(tx *db.Tx, m *Message, r Recipient, at time.Time) error {
	var failed, unsettled, undelivered int64
	if r.State != Delivered {
		failed = 1
	}
	if err := tx.Row(countSettled, m.ID, failed).Scan(&unsettled, &undelivered); err != nil {
		return err
	}
	if unsettled > 0 {
		return nil
	}
	keep := q.retention.Delivered
	if undelivered > 0 {
		keep = q.retention.Failed
	}
	return q.spool.Release(tx, m.Content, at.Add(keep))
}

func settledEvent(r Recipient, at time.Time) event.Event {
	e := event.Event{
		Account: r.Account, Message: r.Message, Recipient: r.ID, At: at,
		Detail: event.Detail{Outcome: &r.Last, Attempt: r.Attempts},
	}
	switch r.State {
	case Delivered:
		e.Kind = event.Delivered
	case Failed, Suppressed:
		e.Kind = event.Failed
	case Expired:
		e.Kind = event.Expired
	case Cancelled:
		e.Kind = event.Cancelled
	case Pending, Leased, Held:
		e.Kind, e.Detail.Next = event.Deferred, r.Due
	}
	return e
}

// Release gives leased recipients back, unattempted and unchanged: they are
// pending again and due when they were, and the caller must forget them: this
// node may lease them again under the same lease. Those whose lease is lost are
// left alone.
func (q *Queue) Release(tx *db.Tx, items []Item) error {
	var released int64
	for _, item := range items {
		r := item.Recipient
		if _, ok := r.State.next(giveBack); !ok {
			continue
		}
		n, err := tx.Exec(releaseRecipient, r.ID, r.Lease.Node, r.Lease.Generation)
		if err != nil {
			return fmt.Errorf("release %s: %w", r.ID, err)
		}
		released += n
	}
	tx.OnCommit(func() { q.metrics.released.Add(float64(released)) })
	return nil
}
