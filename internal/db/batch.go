//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// Bounds of one batch: it takes no further caller beyond either.
const (
	maxCallers = 256
	maxWork    = 5 * time.Millisecond
)

// call is one caller of Batch.
//
//	waiting ──► started ──► settled      waiting ──► withdrawn (its context ended)
//
// A started call is the leader's; whoever leads settles it and tells.
type call struct {
	do     func(*Tx) error
	solo   func(*session) error // instead of do: alone, outside a transaction
	urgent bool                 // goes to the head of the line
	ticket uint64               // 0 for an urgent one: it is refused with those behind it
	wake   chan signal          // takes one signal

	started bool // guarded by DB.mu

	settled bool
	err     error
	hooks   []func()
	panic   *panicError
}

type signal bool

const (
	told signal = false // the call is settled
	lead signal = true  // the call is started, and its caller leads
)

// panicError carries a panic from the goroutine that led to the one that called.
type panicError struct {
	value any
	stack []byte
}

// Error returns the value and the stack of the panic.
func (p *panicError) Error() string {
	return fmt.Sprintf("panic in a callback of db.Batch: %v\n\n%s", p.value, p.stack)
}

// errGoexit is for those whose batch ended because a callback ended its goroutine.
var errGoexit = fmt.Errorf("another caller ended the goroutine: %w", ErrUnavailable)

// Batch runs do in a transaction that it may share with other callers, and
// returns after the commit is on disk. One caller leads: it runs the callbacks
// of all that wait in one plain transaction and commits once.
//
// If a callback or the commit fails, everything is rolled back, each caller of
// that batch runs once more alone, and each gets its own error. So do may run
// twice, in another goroutine: it holds only SQL, sets what it returns anew
// each time, and does everything else by OnCommit. It is short: nobody else
// writes meanwhile. It must not call Batch.
//
// Cancelling ctx withdraws a caller that has not started; a started one is
// seen through. The error is do's, or is ErrFull, ErrBusy or ErrUnavailable,
// and then nothing was written.
func (d *DB) Batch(ctx context.Context, do func(*Tx) error) error {
	return d.submit(ctx, &call{do: do, wake: make(chan signal, 1)})
}

// alone runs do on the writer between two batches, outside a transaction.
func (d *DB) alone(ctx context.Context, do func(*session) error) error {
	return d.submit(ctx, &call{solo: do, wake: make(chan signal, 1)})
}

// first is alone, before all that wait; do takes no time worth speaking of.
func (d *DB) first(ctx context.Context, do func(*session) error) error {
	return d.submit(ctx, &call{solo: do, urgent: true, wake: make(chan signal, 1)})
}

func (d *DB) submit(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	leads, err := d.enqueue(c)
	if err != nil {
		return err
	}
	if !leads {
		var withdrawn bool
		if leads, withdrawn = d.await(ctx, c); withdrawn {
			return ctx.Err()
		}
	}
	if leads {
		d.lead(c)
	}
	if c.panic != nil {
		panic(c.panic)
	}
	if c.err == nil {
		for _, hook := range c.hooks {
			hook()
		}
	}
	return c.err
}

// enqueue puts c in line; leads says that nobody leads and c has to.
func (d *DB) enqueue(c *call) (leads bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false, fmt.Errorf("closed: %w", ErrUnavailable)
	}
	if !c.urgent {
		d.ticket++
		c.ticket = d.ticket
	}
	if !d.leading {
		d.leading, c.started = true, true
		return true, nil
	}
	if c.urgent {
		d.queue = slices.Insert(d.queue, 0, c)
	} else {
		d.queue = append(d.queue, c)
	}
	d.metrics.waiting.Inc()
	return false, nil
}

// await returns when c is settled or has to lead, or, if it has not started, when ctx ends.
func (d *DB) await(ctx context.Context, c *call) (leads, withdrawn bool) {
	select {
	case s := <-c.wake:
		return bool(s), false
	case <-ctx.Done():
	}
	if d.withdraw(c) {
		return false, true
	}
	return bool(<-c.wake), false
}

func (d *DB) withdraw(c *call) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.started {
		return false
	}
	d.queue = slices.DeleteFunc(d.queue, func(other *call) bool { return other == c })
	d.metrics.waiting.Dec()
	return true
}

// pop starts the call at the head of the line, if ok says it may. The lock is held.
func (d *DB) pop(ok func(*call) bool) *call {
	if len(d.queue) == 0 || !ok(d.queue[0]) {
		return nil
	}
	c := d.queue[0]
	d.queue[0] = nil
	d.queue = d.queue[1:]
	c.started = true
	d.metrics.waiting.Dec()
	return c
}

// batch is the work of one leader. calls[0] is its own.
type batch struct {
	db    *DB
	calls []*call
	since time.Time
	over  bool
}

// lead settles first and whoever else waits, and hands the lead on.
func (d *DB) lead(first *call) {
	b := &batch{db: d, calls: []*call{first}}
	defer b.end()
	defer b.abort()
	if first.solo != nil {
		b.solo(first)
	} else {
		b.run()
	}
	b.over = true
}

func (b *batch) solo(c *call) {
	defer func() {
		if v := recover(); v != nil {
			c.panic = &panicError{v, debug.Stack()}
		}
	}()
	if c.err = b.db.ready(); c.err == nil {
		c.err = b.db.note(c.solo(b.db.writer))
	}
	c.settled = true
}

func (b *batch) run() {
	b.db.mu.Lock()
	present := b.db.ticket
	b.db.mu.Unlock()
	if err := b.db.begin(); err != nil {
		b.refuse(present, err)
		return
	}
	if b.together() {
		return
	}
	if len(b.calls) == 1 { // it was alone already
		return
	}
	b.oneByOne()
}

// refuse tells all that came up to the given ticket that no transaction can be
// had. They have waited as long as their leader has; were each to try for
// itself, the last would wait for the sum.
func (b *batch) refuse(ticket uint64, err error) {
	b.db.mu.Lock()
	defer b.db.mu.Unlock()
	for c := b.calls[0]; c != nil; {
		c.err, c.settled = err, true
		c = b.db.pop(func(c *call) bool { return c.ticket <= ticket })
		if c != nil {
			b.calls = append(b.calls, c)
		}
	}
}

// together runs all that wait in the transaction that has begun, and commits.
// It reports whether that settled them.
func (b *batch) together() bool {
	b.since = time.Now()
	anyDone := false
	for c := b.calls[0]; c != nil; c = b.next() {
		failed := c.attempt(b.db)
		if failed {
			b.db.undo()
			return false
		}
		anyDone = anyDone || c.err == nil
	}
	if !anyDone {
		b.db.undo()
		return b.settle(nil)
	}
	b.db.metrics.batchSize.Observe(float64(len(b.calls)))
	return b.settle(b.db.commit())
}

// next starts one more caller, within the bounds of a batch.
func (b *batch) next() *call {
	if len(b.calls) >= maxCallers || time.Since(b.since) >= maxWork {
		return nil
	}
	c := b.take()
	if c == nil {
		// Those of the batch before have just been told and are about to come
		// with their next: a commit that waits for them is one commit less.
		runtime.Gosched()
		c = b.take()
	}
	return c
}

func (b *batch) take() *call {
	b.db.mu.Lock()
	defer b.db.mu.Unlock()
	c := b.db.pop(func(c *call) bool { return c.solo == nil })
	if c != nil {
		b.calls = append(b.calls, c)
	}
	return c
}

func (b *batch) settle(err error) bool {
	for _, c := range b.calls {
		if c.err == nil {
			c.err = err
		}
		c.settled = err == nil
	}
	return err == nil
}

// oneByOne repeats the calls of a batch that was rolled back, each in its own transaction.
func (b *batch) oneByOne() {
	for i, c := range b.calls {
		if err := b.db.begin(); err != nil {
			for _, c := range b.calls[i:] {
				c.err, c.panic, c.settled = err, nil, true
			}
			return
		}
		b.db.metrics.alone.Inc()
		if c.attempt(b.db); c.err != nil {
			b.db.undo()
		} else {
			c.err = b.db.commit()
		}
		c.settled = true
	}
}

// attempt runs the callback in the transaction that has begun. failed says that
// the transaction can't be committed: an error of a caller that has written
// nothing is no reason, it has nothing to take back.
func (c *call) attempt(d *DB) (failed bool) {
	tx := &Tx{session: d.writer}
	c.err, c.hooks, c.panic = nil, nil, nil
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil { // otherwise the goroutine ends, see end
			c.panic = &panicError{v, debug.Stack()}
			c.err = tx.finish(c.panic)
			failed = true
		}
	}()
	err := c.do(tx)
	returned = true
	c.err = d.troubled(tx.finish(err))
	c.hooks = tx.hooks
	return c.err != nil && (tx.wrote || tx.failed != nil || d.writer.gaveUp())
}

// end hands the lead on and tells the callers.
func (b *batch) end() {
	d := b.db
	d.mu.Lock()
	if next := d.pop(func(*call) bool { return true }); next != nil {
		next.wake <- lead
	} else {
		d.leading = false
		d.idle.Broadcast()
	}
	d.mu.Unlock()
	for _, c := range b.calls[1:] {
		c.wake <- told
	}
}

// abort rolls back when a callback ended the goroutine, as t.FailNow does.
func (b *batch) abort() {
	if b.over {
		return
	}
	defer b.db.undo()
	for _, c := range b.calls {
		if !c.settled {
			c.err, c.hooks, c.panic, c.settled = errGoexit, nil, nil, true
		}
	}
}

// ready opens the writer again if it had to be thrown away.
func (d *DB) ready() error {
	if d.writer.conn != nil {
		return nil
	}
	w, err := d.engine.openWriter(background())
	if err != nil {
		return d.troubled(err)
	}
	d.writer = w
	d.version = unknown // what happened meanwhile is not known: count it as a change
	return nil
}

func (d *DB) begin() error {
	if err := d.ready(); err != nil {
		return err
	}
	d.engine.rolledBack.Store(false)
	if err := d.writer.run(d.writer.begin); err != nil {
		d.undo()
		return d.troubled(err)
	}
	return nil
}

// commit returns nil when the transaction is on disk. After any error it is not
// there, and no transaction is open.
func (d *DB) commit() error {
	start := time.Now()
	err := d.writer.run(d.writer.commit)
	d.metrics.commit.Observe(time.Since(start).Seconds())
	if err != nil {
		d.undo()
		return d.troubled(err)
	}
	if d.trouble.Load() != nil {
		d.trouble.Store(nil)
	}
	return nil
}

func (d *DB) undo() {
	if d.writer.conn != nil && !d.writer.undo() {
		d.writer.discard()
	}
}

// troubled notes a failure of the engine for the metrics and for Room.
func (d *DB) troubled(err error) error {
	err = d.note(err)
	if isEngine(err) && !errors.Is(err, errGoexit) {
		d.trouble.Store(&trouble{at: time.Now(), err: err})
	}
	return err
}
