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
	if err := q.write(tx, item, r, settledEvent(r, at)); err != nil {
		return item.Recipient, fmt.Errorf("settle %s: %w", r.ID, err)
	}
	tx.OnCommit(func() { q.metrics.settled.WithLabelValues(string(r.State)).Inc() })
	return r, nil
}

// Postpone puts off a recipient that is leased to this node and was not
// attempted: it is pending until the due time given, its attempts stand as they
// were, and so does its place in the backoff. The outcome, a deferral, says why:
// it becomes the recipient's last, and its event carries no attempt's number. What
// was put off for the same reason already gets no other event: a site that is away
// for days would have each recipient write hundreds. A due time beyond
// the recipient's lifetime becomes its end; who is put off then, expires. What
// it returns is as with Settle, ErrLeaseLost included. It may be repeated.
func (q *Queue) Postpone(tx *db.Tx, item Item, o mail.Outcome, due time.Time) (Recipient, error) {
	at := db.Now()
	r, err := postponed(item, o, at, due)
	if err != nil {
		return item.Recipient, err
	}
	news := []event.Event{settledEvent(r, at)}
	news[0].Detail.Attempt = 0
	if !r.State.Settled() && item.Recipient.Last == o {
		news = nil
	}
	if err := q.write(tx, item, r, news...); err != nil {
		return item.Recipient, fmt.Errorf("postpone %s: %w", r.ID, err)
	}
	tx.OnCommit(func() {
		q.metrics.postponed.Inc()
		if r.State.Settled() {
			q.metrics.settled.WithLabelValues(string(r.State)).Inc()
		}
	})
	return r, nil
}

// write brings a leased recipient to where it stands in r, with what is to be told
// of it. After ErrLeaseLost nothing was written.
func (q *Queue) write(tx *db.Tx, item Item, r Recipient, news ...event.Event) error {
	outcome, err := json.Marshal(r.Last)
	if err != nil {
		return err
	}
	lease := item.Recipient.Lease
	n, err := tx.Exec(settleRecipient, r.ID, string(r.State), db.Micros(r.Due), int64(r.Attempts),
		string(outcome), db.Micros(r.SettledAt), lease.Node, lease.Generation)
	if err != nil {
		return err
	}
	if n == 0 {
		tx.OnCommit(q.metrics.lost.Inc)
		return ErrLeaseLost
	}
	if err := event.Append(tx, news...); err != nil {
		return err
	}
	if !r.State.Settled() {
		return nil
	}
	return q.close(tx, item.Message, r, r.SettledAt)
}

// settled works out where an outcome leaves the recipient; it reads nothing.
func (q *Queue) settled(item Item, o mail.Outcome, at time.Time) (Recipient, error) {
	r := item.Recipient
	r.Attempts++
	r.Last = o
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
	return r.moved(m, at)
}

// postponed works out where a recipient stands that is put off without an attempt.
func postponed(item Item, o mail.Outcome, at, due time.Time) (Recipient, error) {
	r := item.Recipient
	r.Last = o
	if o.Action != mail.Deferred {
		return r, fmt.Errorf("postpone %s: no deferral: %+v", r.ID, o)
	}
	end := item.Message.AcceptedAt.Add(lifetime)
	if !at.Before(end) {
		return r.moved(expire, at)
	}
	r.Due = due
	if due.After(end) { // the last attempt stands there, as with backoff
		r.Due = end
	}
	return r.moved(postpone, at)
}

// moved is a leased recipient after a move that ends its lease.
func (r Recipient) moved(m move, at time.Time) (Recipient, error) {
	state, ok := r.State.next(m)
	if !ok {
		return r, fmt.Errorf("settle %s: %s from %s: %w", r.ID, m, r.State, ErrMove)
	}
	r.State, r.Lease = state, Lease{}
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
