package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// obeyApart keeps a flood of changes from costing a look at all of memory each.
const obeyApart = 100 * time.Millisecond

// obey gives back what is in memory and must not be attempted now, whenever
// something may have been wished of it, until ctx ends. What has begun is seen
// through; the queue then does as was wished.
func (d *Dispatcher) obey(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wishes:
		}
		if err := d.obeyOnce(ctx); err != nil && ctx.Err() == nil {
			d.deps.Log.LogAttrs(ctx, slog.LevelError, "wishes can't be read", slog.Any("error", err))
			time.AfterFunc(claimRetry, func() { signal(d.wishes) })
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(obeyApart):
		}
	}
}

func (d *Dispatcher) obeyOnce(ctx context.Context) error {
	paused := make(map[id.List]bool)
	d.mu.Lock()
	for _, l := range d.letters {
		paused[l.message.List] = false
	}
	d.mu.Unlock()
	wished := make(map[id.Recipient]bool)
	err := d.deps.DB.View(ctx, func(tx *db.Tx) error {
		list, err := d.deps.Queue.Wishes(tx)
		for _, w := range list {
			wished[w.Recipient] = true
		}
		for l := range paused {
			paused[l] = d.deps.Queue.Paused(tx, l)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.withdraw(func(e *entry) bool { return wished[e.recipient.ID] || paused[e.letter.message.List] })
	signal(d.starts)
	return nil
}

// withdraw gives back what waits and is unwanted. The lock is held.
func (d *Dispatcher) withdraw(unwanted func(*entry) bool) {
	var gone []*entry
	for _, dom := range d.domains {
		dom.waiting = slices.DeleteFunc(dom.waiting, func(e *entry) bool {
			if unwanted(e) {
				gone = append(gone, e)
				return true
			}
			return false
		})
	}
	for _, s := range d.sites {
		if s.Len() > 0 {
			gone = append(gone, d.ready.Remove(s.Site, unwanted)...)
		}
	}
	for _, e := range gone {
		d.overflow = append(d.overflow, e.item())
	}
	d.forget(gone...)
	d.metrics.ready.Set(float64(d.ready.Len()))
}
