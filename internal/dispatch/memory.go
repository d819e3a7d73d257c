package dispatch

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mittente/internal/db"
	"mittente/internal/queue"
)

// letter is a message in memory, shared by those of its recipients that are there.
type letter struct {
	message *queue.Message
	content []byte // nil: in the spool only
	entries int    // guarded by Dispatcher.mu

	sealing sync.Mutex
	sealed  bool
	seal    []byte // DKIM-Signature fields
}

// entry is a recipient in memory, leased to this node.
type entry struct {
	letter    *letter
	recipient queue.Recipient
}

func (e *entry) item() queue.Item {
	return queue.Item{Message: e.letter.message, Recipient: e.recipient}
}

// Room is measured in quarters of Config.MaxRecipients: claims fill two of
// them, the rest is for fresh mail. Beyond three, new mail is not leased to
// this node any more; it goes to memory again when half of the room is free.

// admit takes leased items into memory, up to the given number in all.
func (d *Dispatcher) admit(items []queue.Item, bound int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, item := range items {
		switch {
		case item.Recipient.State != queue.Leased:
			signal(d.due)
		case d.draining || d.count >= bound:
			item.Bytes = nil
			d.overflow = append(d.overflow, item)
		default:
			d.place(d.keep(item))
		}
	}
	d.balance()
	signal(d.starts)
}

// keep makes an entry of an item. The lock is held.
func (d *Dispatcher) keep(item queue.Item) *entry {
	l := d.letters[item.Message.ID]
	if l == nil {
		l = &letter{message: item.Message}
		if d.bytes+int64(cap(item.Bytes)) <= d.cfg.MaxBytes {
			l.content = item.Bytes
			d.bytes += int64(cap(item.Bytes))
		}
		d.letters[item.Message.ID] = l
	}
	l.entries++
	d.count++
	return &entry{letter: l, recipient: item.Recipient}
}

// forget drops entries from memory. The lock is held.
func (d *Dispatcher) forget(entries ...*entry) {
	for _, e := range entries {
		d.count--
		if e.letter.entries--; e.letter.entries == 0 {
			d.bytes -= int64(cap(e.letter.content))
			delete(d.letters, e.letter.message.ID)
		}
	}
	d.balance()
}

// balance turns leasing of new mail on and off, and wakes the claimer when there
// is room. The lock is held.
func (d *Dispatcher) balance() {
	switch {
	case d.direct && d.count > d.cfg.MaxRecipients/4*3:
		d.direct = false
		d.deps.Queue.Direct(false)
	case !d.direct && d.count <= d.cfg.MaxRecipients/2:
		d.direct = true
		d.deps.Queue.Direct(true)
		signal(d.due)
	}
	if d.starved && d.room() > 0 {
		d.starved = false
		signal(d.due)
	}
	d.metrics.memory.Set(float64(d.count))
	d.metrics.bytes.Set(float64(d.bytes))
}

// room is how many recipients may be claimed; a part of a quarter is not worth
// a transaction. The lock is held.
func (d *Dispatcher) room() int {
	free := d.cfg.MaxRecipients/2 - d.count
	if d.draining || len(d.unsettled) > 0 || free < max(1, d.cfg.MaxRecipients/8) {
		return 0
	}
	return min(free, claimBatch)
}

const releaseSlice = 100 // recipients per transaction

// release gives back what had no room. When the database does not take it, it
// tries again later: Enqueue has long stopped leasing by then, so the list is
// no longer than what was being accepted when memory got full.
func (d *Dispatcher) release(ctx context.Context) {
	pause := newPause()
	for {
		d.mu.Lock()
		n := min(len(d.overflow), releaseSlice)
		if n == 0 || d.draining {
			d.releasing = false
			d.mu.Unlock()
			return
		}
		items := slices.Clone(d.overflow[:n])
		d.mu.Unlock()
		if err := d.releaseItems(ctx, items); err != nil {
			d.deps.Log.LogAttrs(ctx, slog.LevelError, "release failed", slog.Any("error", err))
			if !pause.wait(ctx) {
				d.mu.Lock()
				d.releasing = false
				d.mu.Unlock()
				return
			}
			continue
		}
		pause = newPause()
		d.mu.Lock()
		d.overflow = slices.Delete(d.overflow, 0, n)
		if len(d.overflow) == 0 {
			d.overflow = nil
		}
		d.mu.Unlock()
		signal(d.due)
	}
}

func (d *Dispatcher) releaseItems(ctx context.Context, items []queue.Item) error {
	return d.deps.DB.Batch(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		return d.deps.Queue.Release(tx, items)
	})
}

// giveBack releases everything that is in memory, after the last worker is gone.
// What can't be released is reclaimed at the next start.
func (d *Dispatcher) giveBack(ctx context.Context) error {
	d.mu.Lock()
	items := d.overflow
	d.overflow = nil
	for _, dom := range d.domains {
		for _, e := range dom.waiting {
			items = append(items, e.item())
		}
		dom.waiting = nil
	}
	for _, s := range d.sites {
		for _, b := range s.ready.takeAll() {
			for _, e := range b.entries {
				items = append(items, e.item())
			}
		}
	}
	d.mu.Unlock()
	for slice := range slices.Chunk(items, releaseSlice) {
		if err := d.releaseItems(ctx, slice); err != nil {
			return err
		}
	}
	return nil
}

// pause is a wait that grows from 100 ms to 5 s.
type pause struct{ next time.Duration }

func newPause() *pause { return &pause{next: 100 * time.Millisecond} }

// wait reports false when ctx ended first.
func (p *pause) wait(ctx context.Context) bool {
	timer := time.NewTimer(p.next)
	defer timer.Stop()
	p.next = min(2*p.next, 5*time.Second)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
