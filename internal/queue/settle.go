package queue

import (
	"database/sql"
	"encoding/json"
	"errors"
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
SET state = $2, due = $3, attempts = $4, outcome = $5, settled_at = $6, site = $9,
    lease_node = 0, lease_generation = 0, wish = '', wished_by = ''
WHERE id = $1 AND state = 'leased' AND lease_node = $7 AND lease_generation = $8`

	// The same for what is not settled for good, unless something is wished for it.
	deferRecipient db.SQL = `
UPDATE recipient
SET state = $2, due = $3, attempts = $4, outcome = $5, settled_at = $6, site = $9,
    lease_node = 0, lease_generation = 0
WHERE id = $1 AND state = 'leased' AND lease_node = $7 AND lease_generation = $8 AND wish = ''`

	selectWish db.SQL = `
SELECT wish, wished_by FROM recipient
WHERE id = $1 AND state = 'leased' AND lease_node = $2 AND lease_generation = $3`

	countSettled db.SQL = `
UPDATE message SET unsettled = unsettled - 1, undelivered = undelivered + $2
WHERE id = $1
RETURNING unsettled, undelivered`

	releaseRecipient db.SQL = `
UPDATE recipient SET state = 'pending', lease_node = 0, lease_generation = 0
WHERE id = $1 AND state = 'leased' AND lease_node = $2 AND lease_generation = $3 AND wish = ''`
)

// Settle writes what an attempt did with a recipient that is leased to this
// node: the new state and its event, and, with the last recipient of a message,
// that its content may go after its retention; also what its sender is to be told
// (Notices). A deferral sets the next due time, not before a reply's
// Outcome.RetryAfter, or, when the recipient's time is over, expires it; what an
// operator wished for meanwhile is done then. It returns the recipient as it
// stands then, or ErrLeaseLost, after which the transaction can go on: nothing was
// written. It may be repeated.
func (q *Queue) Settle(tx *db.Tx, item Item, o mail.Outcome, at time.Time) (Recipient, error) {
	r, err := q.settled(tx, item, o, at)
	if err != nil {
		return item.Recipient, err
	}
	if r, err = q.write(tx, item, r, at, settledEvent(r, at)); err != nil {
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
// for days would have each recipient write hundreds. A due time more than 24 h
// ahead becomes that, one beyond the recipient's lifetime its end; who is put off
// then, expires. What it returns is as with Settle, ErrLeaseLost included. It may be
// repeated.
func (q *Queue) Postpone(tx *db.Tx, item Item, o mail.Outcome, due time.Time) (Recipient, error) {
	at := q.deps.Clock().UTC().Truncate(time.Microsecond)
	end := item.Message.AcceptedAt.Add(q.schedule(tx, item.Message.List).Lifetime)
	r, err := postponed(item, o, at, due, end)
	if err != nil {
		return item.Recipient, err
	}
	news := []event.Event{settledEvent(r, at)}
	news[0].Detail.Attempt = 0
	if !r.State.Settled() && item.Recipient.Last == o {
		news = nil
	}
	if r, err = q.write(tx, item, r, at, news...); err != nil {
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

// write brings a leased recipient to where it stands in r, or to where a wish
// leads it from there, with what is to be told of it. After ErrLeaseLost nothing
// was written.
func (q *Queue) write(tx *db.Tx, item Item, r Recipient, at time.Time, news ...event.Event) (Recipient, error) {
	statement := settleRecipient
	if !r.State.Settled() {
		statement = deferRecipient
	}
	n, err := q.put(tx, statement, item, r)
	if n == 0 && err == nil && !r.State.Settled() {
		var more []event.Event
		if r, more, err = q.wished(tx, item.Recipient.Lease, r, at); err == nil {
			news = append(news, more...)
			n, err = q.put(tx, settleRecipient, item, r)
		}
	}
	if err != nil {
		return r, err
	}
	if n == 0 {
		tx.OnCommit(q.metrics.lost.Inc)
		return r, ErrLeaseLost
	}
	return r, q.follow(tx, item.Message, r, news)
}

// put writes where a leased recipient stands; n is 0 when it is not leased so.
func (q *Queue) put(tx *db.Tx, statement db.SQL, item Item, r Recipient) (n int64, err error) {
	outcome, err := json.Marshal(r.Last)
	if err != nil {
		return 0, err
	}
	if r.Last == (mail.Outcome{}) {
		outcome = nil // of what was never attempted
	}
	lease := item.Recipient.Lease
	return tx.Exec(statement, r.ID, string(r.State), db.Micros(r.Due), int64(r.Attempts),
		string(outcome), db.Micros(r.SettledAt), lease.Node, lease.Generation, r.Site)
}

// follow writes what follows from where a recipient has come to stand: its
// events, what is to be told of it, and, when it is settled, its message's counters.
func (q *Queue) follow(tx *db.Tx, m *Message, r Recipient, news []event.Event) error {
	if err := event.Append(tx, news...); err != nil {
		return err
	}
	apart := time.Duration(0)
	if r.State.Settled() {
		var err error
		if apart, err = q.close(tx, m, r, r.SettledAt); err != nil {
			return err
		}
	}
	return q.note(tx, m, r, apart)
}

// wished does with a recipient, which its holder has just let go, what an operator
// wished for meanwhile. Without a wish nothing changes.
func (q *Queue) wished(tx *db.Tx, lease Lease, r Recipient, at time.Time) (Recipient, []event.Event, error) {
	var wish Operation
	var actor string
	switch err := tx.Row(selectWish, r.ID, lease.Node, lease.Generation).Scan(&wish, &actor); {
	case errors.Is(err, sql.ErrNoRows):
		return r, nil, nil // the lease is lost: nothing is going to be written
	case err != nil:
		return r, nil, err
	}
	r.Wish, r.WishedBy = "", ""
	after, ok := r.operated(wish, at)
	if !ok {
		return r, nil, nil
	}
	return after, []event.Event{operatedEvent(after, wish, actor, at)}, nil
}

// settled works out where an outcome leaves the recipient; it reads nothing.
func (q *Queue) settled(tx *db.Tx, item Item, o mail.Outcome, at time.Time) (Recipient, error) {
	r := item.Recipient
	r.Attempts++
	r.Last = o
	if item.Site != "" {
		r.Site = item.Site
	}
	m := fail
	switch o.Action {
	case mail.Delivered:
		m = deliver
	case mail.Failed:
	case mail.Deferred:
		due, ok := q.schedule(tx, item.Message.List).after(r, item.Message.AcceptedAt, at, q.deps.Jitter())
		if m = expire; ok {
			m, r.Due = postpone, due
		}
	default:
		return r, fmt.Errorf("settle %s: no action in %+v", r.ID, o)
	}
	return r.moved(m, at)
}

// postponed works out where a recipient stands that is put off without an attempt,
// and whose time ends at the end given.
func postponed(item Item, o mail.Outcome, at, due, end time.Time) (Recipient, error) {
	r := item.Recipient
	r.Last = o
	if item.Site != "" {
		r.Site = item.Site
	}
	if o.Action != mail.Deferred {
		return r, fmt.Errorf("postpone %s: no deferral: %+v", r.ID, o)
	}
	if !at.Before(end) && !r.late(at) {
		return r.moved(expire, at)
	}
	if furthest := at.Add(maxRetryAfter); due.After(furthest) {
		due = furthest
	}
	if at.Before(end) && due.After(end) { // the last attempt stands there
		due = end
	}
	r.Due = due
	return r.moved(postpone, at)
}

// moved is a leased recipient after a move that ends its lease.
func (r Recipient) moved(m move, at time.Time) (Recipient, error) {
	state, ok := r.State.next(m)
	if !ok {
		return r, fmt.Errorf("settle %s: %s from %s: %w", r.ID, m, r.State, ErrMove)
	}
	r.State, r.Lease, r.Wish, r.WishedBy = state, Lease{}, "", ""
	if state.Settled() {
		r.SettledAt = at
	}
	return r, nil
}

// close counts a settled recipient and lets go of the content with the last one. What
// is to be told of it waits for others of its message, but not with the last.
func (q *Queue) close(tx *db.Tx, m *Message, r Recipient, at time.Time) (apart time.Duration, err error) {
	var failed, unsettled, undelivered int64
	if r.State != Delivered {
		failed = 1
	}
	if err := tx.Row(countSettled, m.ID, failed).Scan(&unsettled, &undelivered); err != nil {
		return 0, err
	}
	if unsettled > 0 {
		return noticeApart, nil
	}
	keep := q.deps.Retention.Delivered
	if undelivered > 0 {
		keep = q.deps.Retention.Failed
	}
	return 0, q.deps.Spool.Release(tx, m.Content, at.Add(keep))
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
// pending again and due when they were, unless an operator wished for something
// meanwhile. The caller must forget them: this node may lease them again under the
// same lease. Those whose lease is lost are left alone.
func (q *Queue) Release(tx *db.Tx, items []Item) error {
	var released int64
	for _, item := range items {
		n, err := q.release(tx, item.Message, item.Recipient)
		if err != nil {
			return fmt.Errorf("release %s: %w", item.Recipient.ID, err)
		}
		released += n
	}
	tx.OnCommit(func() { q.metrics.released.Add(float64(released)) })
	return nil
}

func (q *Queue) release(tx *db.Tx, m *Message, r Recipient) (n int64, err error) {
	lease := r.Lease
	free, ok := r.State.next(giveBack)
	if !ok {
		return 0, nil
	}
	n, err = tx.Exec(releaseRecipient, r.ID, lease.Node, lease.Generation)
	if n > 0 || err != nil {
		return n, err
	}
	r.State, r.Lease = free, Lease{}
	at := db.Now()
	r, news, err := q.wished(tx, lease, r, at)
	if err != nil {
		return 0, err
	}
	if n, err = q.put(tx, settleRecipient, Item{Recipient: Recipient{Lease: lease}}, r); n == 0 || err != nil {
		return 0, err
	}
	tx.OnCommit(func() {
		switch {
		case r.State.Settled():
			q.metrics.settled.WithLabelValues(string(r.State)).Inc()
		case r.State == Pending:
			q.tellDue()
		}
	})
	return n, q.follow(tx, m, r, news)
}
