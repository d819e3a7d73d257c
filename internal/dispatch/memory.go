package dispatch

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/queue"
	"mittente/internal/reason"
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
	site      *site // once it is known
	paced     bool  // it has a place in the speeds that hold for it
}

func (e *entry) item() queue.Item {
	item := queue.Item{Message: e.letter.message, Recipient: e.recipient}
	if e.site != nil {
		item.Site = e.site.name
	}
	return item
}

// roomOf is how many more recipients of an account memory takes: so many that it
// then has no more there than are free. So one account alone gets a half of
// memory, two a third each, and there is always room for another; and no more
// than its hourly speed lets go now.
func (d *Dispatcher) roomOf(a id.Account) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return 0
	}
	room := (d.cfg.MaxRecipients - d.count - d.accounts[a]) / 2
	if p := d.paces.account[a]; p != nil {
		room = min(room, p.Free(time.Now()))
	}
	return max(0, room)
}

// admit takes leased items into memory.
func (d *Dispatcher) admit(ctx context.Context, items []queue.Item) {
	d.learnSpeeds(ctx, items)
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	var later []report
	for _, item := range items {
		switch {
		case item.Recipient.State != queue.Leased:
			signal(d.due)
		case d.draining || d.count >= d.cfg.MaxRecipients || d.usedUp(item.Message.Account, now):
			item.Bytes = nil
			d.overflow = append(d.overflow, item)
		default:
			e := d.keep(item)
			if due := d.takePace(e, now); !due.IsZero() {
				later = append(later, report{entry: e, outcome: reason.Aside(reason.SayPace), at: now, due: due})
				continue
			}
			d.place(e)
		}
	}
	d.balance()
	if len(later) > 0 {
		d.tasks.Go(func() { d.settle(ctx, later) })
	}
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
	d.accounts[l.message.Account]++
	return &entry{letter: l, recipient: item.Recipient}
}

// forget drops entries from memory. The lock is held.
func (d *Dispatcher) forget(entries ...*entry) {
	for _, e := range entries {
		d.givePaceBack(e)
		account := e.letter.message.Account
		if d.accounts[account]--; d.accounts[account] == 0 {
			delete(d.accounts, account)
		}
		d.count--
		if e.letter.entries--; e.letter.entries == 0 {
			d.bytes -= int64(cap(e.letter.content))
			delete(d.letters, e.letter.message.ID)
		}
	}
	d.balance()
}

// balance wakes the claimer when there is room again. The lock is held.
func (d *Dispatcher) balance() {
	if d.count <= d.starved && d.room() > 0 {
		d.starved = -1
		signal(d.due)
	}
	d.metrics.memory.Set(float64(d.count))
	d.metrics.bytes.Set(float64(d.bytes))
}

// starve has the claimer woken when a sixteenth of memory has become free. The
// lock is held.
func (d *Dispatcher) starve() {
	d.starved = max(0, d.count-d.cfg.MaxRecipients/16)
}

// room is how many recipients may be claimed. The lock is held.
func (d *Dispatcher) room() int {
	if d.draining || len(d.unsettled) > 0 {
		return 0
	}
	return max(0, min(d.cfg.MaxRecipients-d.count, claimBatch))
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
		for _, e := range d.ready.Take(s.Site) {
			items = append(items, e.item())
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
