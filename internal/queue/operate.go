package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
)

// Operation is what an operator does with recipients.
type Operation string

// The operations. Each leaves alone what it can't be done with.
const (
	Retry  Operation = "retry"  // what waits for its time is due at once
	Hold   Operation = "hold"   // what waits is attempted no more
	Resume Operation = "resume" // what is held goes on where it was
	Cancel Operation = "cancel" // what waits or is held is settled, and its sender told nothing
)

// states are those in which recipients can be operated on: what is leased may be
// so again, or no more, by the time that the others are done.
func (o Operation) states() []State {
	switch o {
	case Retry, Hold:
		return []State{Leased, Pending}
	case Resume:
		return []State{Leased, Held}
	case Cancel:
		return []State{Leased, Pending, Held}
	}
	return nil
}

// Order is an operation on a selection.
type Order struct {
	Do       Operation
	Of       Selection      // ErrUnselected when nothing in it is set
	Actor    string         // who, for the record
	Progress func(done int) // called after every slice with what was changed so far; may be nil
}

const (
	operatePage  = 1000 // recipients read at once
	operateSlice = 50   // recipients changed per transaction: about 3 ms of the writer
)

// Operate does what is ordered, in slices, each change with its event, and returns
// how many recipients it changed. What a node has leased it can only ask its holder
// for (Wishes); that counts, too. It may be broken off and repeated: what is done
// already is not done again.
func (q *Queue) Operate(ctx context.Context, o Order) (done int, err error) {
	parts, err := o.parts()
	if err != nil {
		return 0, err
	}
	if parts[0].State == Leased && len(parts) > 1 { // what came to be leased meanwhile
		parts = append(parts, parts[0])
	}
	for _, part := range parts {
		if done, err = q.operate(ctx, o, part, done); err != nil {
			return done, fmt.Errorf("%s: %w", o.Do, err)
		}
	}
	return done, nil
}

// Count returns how many recipients Operate would look at.
func (q *Queue) Count(tx *db.Tx, o Order) (int, error) {
	parts, err := o.parts()
	if err != nil {
		return 0, err
	}
	total := 0
	for _, part := range parts {
		n, err := q.count(tx, part, o.Do.states())
		if err != nil {
			return 0, fmt.Errorf("count: %w", err)
		}
		total += n
	}
	return total, nil
}

// parts are the selections of an order, one for each state that it is for.
func (o Order) parts() ([]Selection, error) {
	switch {
	case len(o.Do.states()) == 0:
		return nil, fmt.Errorf("queue: %q is no operation", string(o.Do))
	case !o.Of.All && !o.Of.narrows():
		return nil, ErrUnselected
	case !o.Of.Message.IsZero() || !o.Of.Recipient.IsZero():
		return []Selection{o.Of}, nil
	}
	var parts []Selection
	for _, state := range o.Do.states() {
		if o.Of.State == "" || o.Of.State == state {
			part := o.Of
			part.State = state
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("%s what is %s: %w", o.Do, o.Of.State, ErrMove)
	}
	return parts, nil
}

// operate does one part of an order.
func (q *Queue) operate(ctx context.Context, o Order, part Selection, done int) (int, error) {
	page := Page{Limit: operatePage}
	for {
		var found []Recipient
		err := q.db.View(ctx, func(tx *db.Tx) (err error) {
			found, err = part.page(tx, page)
			return err
		})
		if err != nil {
			return done, err
		}
		matching := slices.DeleteFunc(slices.Clone(found), func(r Recipient) bool { return !part.matches(r) })
		for slice := range slices.Chunk(matching, operateSlice) {
			n, err := q.change(ctx, o, slice)
			if done += n; err != nil {
				return done, err
			}
			if o.Progress != nil {
				o.Progress(done)
			}
		}
		if len(found) < operatePage {
			return done, nil
		}
		page.After = found[len(found)-1].Place()
	}
}

// change does what is ordered with recipients, as they stand now.
func (q *Queue) change(ctx context.Context, o Order, slice []Recipient) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	at := db.Now()
	err = q.db.Batch(ctx, func(tx *db.Tx) error {
		n = 0
		asked := false
		for _, r := range slice {
			now, err := q.Recipient(tx, r.ID)
			if err != nil {
				return err
			}
			ok, err := q.changeOne(tx, o, now, at)
			if err != nil {
				return err
			}
			if ok {
				n++
				asked = asked || now.State == Leased
			}
		}
		tx.OnCommit(func() {
			if asked {
				tell(&q.onWish)
			}
			if o.Do == Retry || o.Do == Resume {
				q.tellDue()
			}
		})
		return nil
	})
	if err != nil {
		return 0, err
	}
	q.metrics.operated.WithLabelValues(string(o.Do)).Add(float64(n))
	return n, nil
}

const (
	wishFor db.SQL = `
UPDATE recipient SET wish = $2, wished_by = $3 WHERE id = $1 AND state = 'leased' AND wish <> $2`

	operateOn db.SQL = `
UPDATE recipient SET state = $2, due = $3, settled_at = $4, parked = FALSE
WHERE id = $1 AND state = $5`
)

// changeOne does what is ordered with one recipient; ok is false when there is
// nothing to do.
func (q *Queue) changeOne(tx *db.Tx, o Order, r Recipient, at time.Time) (ok bool, err error) {
	if r.State == Leased {
		wish := o.Do
		if wish == Resume {
			if r.Wish != Hold {
				return false, nil
			}
			wish = ""
		}
		n, err := tx.Exec(wishFor, r.ID, string(wish), o.Actor)
		return n > 0, err
	}
	after, ok := r.operated(o.Do, at)
	if !ok {
		return false, nil
	}
	n, err := tx.Exec(operateOn, r.ID, string(after.State), db.Micros(after.Due), db.Micros(after.SettledAt), string(r.State))
	if n == 0 || err != nil {
		return false, err
	}
	if err := event.Append(tx, operatedEvent(after, o.Do, o.Actor, at)); err != nil {
		return false, err
	}
	if !after.State.Settled() {
		return true, nil
	}
	return true, q.calledOff(tx, after, at)
}

// operated works out where an operation leaves a recipient that nobody has leased.
func (r Recipient) operated(o Operation, at time.Time) (Recipient, bool) {
	m := map[Operation]move{Retry: hasten, Hold: hold, Resume: resume, Cancel: cancel}[o]
	state, ok := r.State.next(m)
	if !ok || o == Retry && !r.Due.After(at) {
		return r, false
	}
	r.State, r.Parked = state, false
	if o == Retry {
		r.Due = at
	}
	if state.Settled() {
		r.SettledAt = at
	}
	return r, true
}

func operatedEvent(r Recipient, o Operation, actor string, at time.Time) event.Event {
	e := event.Event{
		Account: r.Account, Message: r.Message, Recipient: r.ID, At: at,
		Kind: map[Operation]event.Kind{
			Retry: event.Retried, Hold: event.Held, Resume: event.Resumed, Cancel: event.Cancelled,
		}[o],
		Detail: event.Detail{Actor: actor},
	}
	if r.State == Pending {
		e.Detail.Next = r.Due
	}
	return e
}

// calledOff settles the accounts of a cancelled recipient: its message's counters
// and content, and what its sender was to be told.
func (q *Queue) calledOff(tx *db.Tx, r Recipient, at time.Time) error {
	m, err := q.Message(tx, r.Message)
	if err != nil {
		return err
	}
	if _, err := q.close(tx, &m.Message, r, at); err != nil {
		return err
	}
	tx.OnCommit(func() { q.metrics.settled.WithLabelValues(string(r.State)).Inc() })
	return q.unnote(tx, r)
}

const (
	countPendingOf db.SQL = `SELECT COUNT(*) FROM recipient WHERE state = 'pending' AND NOT parked` + narrowed
	countParkedOf  db.SQL = `SELECT COUNT(*) FROM recipient WHERE parked` + narrowed
	countLeasedOf  db.SQL = `SELECT COUNT(*) FROM recipient WHERE state = 'leased'` + narrowed
	countHeldOf    db.SQL = `SELECT COUNT(*) FROM recipient WHERE state = 'held'` + narrowed
)

// count counts a selection, in those of the given states. Where the statements
// leave something open it reads them all.
func (q *Queue) count(tx *db.Tx, s Selection, states []State) (int, error) {
	if s.Reply != "" || !s.Message.IsZero() || !s.Recipient.IsZero() {
		return q.countRead(tx, s, states)
	}
	statements := map[State][]db.SQL{
		Pending: {countPendingOf, countParkedOf}, Leased: {countLeasedOf}, Held: {countHeldOf},
	}[s.State]
	total := 0
	for _, statement := range statements {
		var n int
		if err := tx.Row(statement, s.args()...).Scan(&n); err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (q *Queue) countRead(tx *db.Tx, s Selection, states []State) (int, error) {
	total := 0
	for page := (Page{Limit: operatePage}); ; {
		found, err := s.page(tx, page)
		if err != nil {
			return 0, err
		}
		for _, r := range found {
			if s.matches(r) && slices.Contains(states, r.State) {
				total++
			}
		}
		if len(found) < operatePage {
			return total, nil
		}
		page.After = found[len(found)-1].Place()
	}
}

// Wish is what an operator asks of who holds the lease of a recipient.
type Wish struct {
	Recipient id.Recipient
	Do        Operation // Retry, Hold or Cancel
}

const selectWishes db.SQL = `
SELECT id, wish FROM recipient WHERE wish <> '' AND lease_node = $1 AND lease_generation = $2 LIMIT $3`

// Wishes returns what is asked of this node, at most MaxLimit. It obeys by
// releasing what it has not begun to attempt: Release does what is wished. An
// attempt that runs is finished; what it defers becomes what was wished, with its
// settlement. Settled for good, the wish is gone.
func (q *Queue) Wishes(tx *db.Tx) ([]Wish, error) {
	lease := q.Lease()
	list, err := db.Collect(tx, func(row db.Scanner) (w Wish, err error) {
		err = row.Scan(&w.Recipient, &w.Do)
		return w, err
	}, selectWishes, lease.Node, lease.Generation, int64(MaxLimit))
	if err != nil {
		return nil, fmt.Errorf("wishes: %w", err)
	}
	return list, nil
}
