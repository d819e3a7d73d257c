package dispatch

import (
	"context"
	"log/slog"
	"time"
)

const (
	claimBatch = 500
	// claimApart keeps due times that lie close together from costing a
	// transaction each. Fresh mail does not come this way.
	claimApart = 50 * time.Millisecond
	claimRetry = time.Second // after trouble of the database
	// claimIdle is how long the claimer sleeps at most: every change signals, this
	// is for a clock that was set, and for what nobody thought of.
	claimIdle = time.Minute
	// claimLean is how long, at most, what is due and has no room waits to be
	// looked at again. Room that is made signals before.
	claimLean = 2 * time.Second
	// troubleAfter is how long claims fail before Trouble says so.
	troubleAfter = 10 * time.Second
)

// claim takes what is due whenever something is and there is room, until ctx ends.
func (d *Dispatcher) claim(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.rearm:
			timer.Reset(d.untilArmed())
			continue
		case <-d.due:
		case <-timer.C:
		}
		next, err := d.claimDue(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			d.deps.Log.LogAttrs(ctx, slog.LevelError, "claim failed", slog.Any("error", err))
			d.claimed(err)
			next = d.deps.Clock().Add(claimRetry)
		}
		d.mu.Lock()
		d.arm(next) // unless a deferral that was settled meanwhile is due earlier
		d.mu.Unlock()
		timer.Reset(d.untilArmed())
	}
}

// claimDue takes what is due until nothing is or there is no room, and returns
// when something will be: the zero time when nothing waits, or when room has to
// come first (balance then signals).
func (d *Dispatcher) claimDue(ctx context.Context) (next time.Time, err error) {
	d.refreshSpeeds(ctx)
	d.mu.Lock()
	d.armed, d.starved = time.Time{}, -1
	d.mu.Unlock()
	took := 0
	for {
		d.mu.Lock()
		n := d.room()
		if n == 0 {
			d.starve()
		}
		d.mu.Unlock()
		if n == 0 {
			return time.Time{}, nil
		}
		items, err := d.deps.Queue.Claim(ctx, n, d.deps.Clock())
		d.admit(context.WithoutCancel(ctx), items)
		if err != nil {
			return time.Time{}, err
		}
		took += len(items)
		if len(items) == n {
			d.claimed(nil)
			continue
		}
		return d.nextClaim(ctx, took)
	}
}

// nextClaim returns when to claim again: when something will be due or, if
// something is and had no room, when there may be.
func (d *Dispatcher) nextClaim(ctx context.Context, took int) (time.Time, error) {
	next, ok, err := d.deps.Queue.NextDue(ctx, time.Time{})
	if err != nil {
		return time.Time{}, err
	}
	d.claimed(nil)
	if !ok {
		return time.Time{}, nil
	}
	now := d.deps.Clock()
	if next.After(now) {
		return later(next, now.Add(claimApart)), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.starve()
	if d.lean = min(2*d.lean, claimLean); took > 0 || d.lean == 0 {
		d.lean = claimLean / 8
	}
	return now.Add(d.lean), nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// claimed notes whether the last claim worked.
func (d *Dispatcher) claimed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && d.claimErr == nil {
		d.claimFailing = time.Now()
		d.metrics.claimFailing.Set(1)
	}
	if err == nil && d.claimErr != nil {
		d.metrics.claimFailing.Set(0)
	}
	d.claimErr = err
}

// Trouble returns why mail does not leave: the error of the last claim, when
// none has worked for more than 10 s.
func (d *Dispatcher) Trouble() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.claimErr == nil || time.Since(d.claimFailing) <= troubleAfter {
		return nil
	}
	return d.claimErr
}

// arm makes sure that a claim takes place at the due time. The lock is held.
func (d *Dispatcher) arm(due time.Time) {
	if due.IsZero() || (!d.armed.IsZero() && !due.Before(d.armed)) {
		return
	}
	d.armed = due
	signal(d.rearm)
}

// untilArmed is how long the claimer may sleep: until something is due, but not
// for long, because the clock by which it is due may be set.
func (d *Dispatcher) untilArmed() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed.IsZero() {
		return claimIdle
	}
	return max(0, min(d.armed.Sub(d.deps.Clock()), claimIdle))
}
