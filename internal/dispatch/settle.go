package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"mittente/internal/db"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

// report is what an attempt did with an entry.
type report struct {
	entry   *entry
	outcome mail.Outcome
	at      time.Time
	took    time.Duration // 0: settled without an attempt of its own
	due     time.Time     // set: no attempt, the recipient is postponed until then
}

func reportsOf(entries []*entry, o mail.Outcome, at time.Time) []report {
	reports := make([]report, len(entries))
	for i, e := range entries {
		reports[i] = report{entry: e, outcome: o, at: at}
	}
	return reports
}

// settleSlice is how many outcomes one transaction writes: about 5 ms of the writer.
const settleSlice = 100

// settle writes outcomes down. What the database does not take now stays in
// memory until it does: no outcome is lost while the process lives, and no mail
// is sent again for want of a disk.
func (d *Dispatcher) settle(ctx context.Context, reports []report) {
	for slice := range slices.Chunk(reports, settleSlice) {
		if err := d.commit(ctx, slice); err != nil {
			d.hold(ctx, slice, err)
		}
	}
}

// result is what became of a report in its transaction.
type result struct {
	recipient queue.Recipient
	err       error // the queue no longer lets this node settle it
}

// commit settles reports in one transaction.
func (d *Dispatcher) commit(ctx context.Context, reports []report) error {
	results := make([]result, len(reports))
	err := d.deps.DB.Batch(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		for i, r := range reports {
			recipient, err := d.write(tx, r)
			if err != nil && !errors.Is(err, queue.ErrLeaseLost) && !errors.Is(err, queue.ErrMove) {
				return err
			}
			results[i] = result{recipient, err}
		}
		return nil
	})
	if err == nil {
		d.settled(ctx, reports, results)
	}
	return err
}

func (d *Dispatcher) write(tx *db.Tx, r report) (queue.Recipient, error) {
	r = d.onTheWall(r)
	if !r.due.IsZero() {
		return d.deps.Queue.Postpone(tx, r.entry.item(), r.outcome, r.due)
	}
	return d.deps.Queue.Settle(tx, r.entry.item(), r.outcome, r.at)
}

// onTheWall gives a report the times of the clock on the wall as it stands now:
// the clock may have been set since the attempt.
func (d *Dispatcher) onTheWall(r report) report {
	now, wall := time.Now(), d.deps.Clock()
	if !r.due.IsZero() {
		r.due = wall.Add(r.due.Sub(now))
	}
	r.at = wall.Add(r.at.Sub(now))
	return r
}

// settled notes what was committed: log, metrics, memory and the next due time.
func (d *Dispatcher) settled(ctx context.Context, reports []report, results []result) {
	now := time.Now()
	entries := make([]*entry, len(reports))
	var next time.Time
	for i, r := range reports {
		entries[i] = r.entry
		d.log(ctx, r, results[i])
		if results[i].err != nil {
			continue
		}
		d.metrics.outcomes.WithLabelValues(string(r.outcome.Action)).Inc()
		if r.outcome.Action == mail.Delivered {
			d.metrics.commit.Observe(now.Sub(r.at).Seconds())
		}
		if due := results[i].recipient.Due; results[i].recipient.State == queue.Pending && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(entries...)
	d.arm(next)
}

// log writes the one line of an outcome.
func (d *Dispatcher) log(ctx context.Context, r report, res result) {
	attrs := append(make([]slog.Attr, 0, 12),
		slog.String("message", r.entry.letter.message.ID.String()),
		slog.String("recipient", r.entry.recipient.ID.String()),
		slog.String("to", r.entry.recipient.To.String()),
		slog.String("state", string(res.recipient.State)),
		slog.String("status", r.outcome.Status.String()),
		slog.String("reply", r.outcome.Reply()),
		slog.String("remote", r.outcome.RemoteMTA),
		slog.String("tls", r.outcome.TLS),
		slog.Int("attempts", res.recipient.Attempts),
		slog.Duration("duration", r.took))
	if res.err != nil {
		d.deps.Log.LogAttrs(ctx, slog.LevelWarn, "outcome came too late", append(attrs, slog.Any("error", res.err))...)
		return
	}
	if res.recipient.State == queue.Pending {
		attrs = append(attrs, slog.Time("next", res.recipient.Due))
	}
	d.deps.Log.LogAttrs(ctx, slog.LevelInfo, "recipient settled", attrs...)
}

// hold keeps reports that could not be committed.
func (d *Dispatcher) hold(ctx context.Context, reports []report, err error) {
	d.deps.Log.LogAttrs(ctx, slog.LevelError, "outcomes wait for the database",
		slog.Int("recipients", len(reports)), slog.Any("error", err))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retain(ctx, reports)
}

// retain keeps reports until they are settled. The lock is held.
func (d *Dispatcher) retain(ctx context.Context, reports []report) {
	if len(d.unsettled) == 0 {
		d.unsettledSince = time.Now()
	}
	d.unsettled = append(d.unsettled, reports...)
	d.metrics.unsettled.Set(float64(len(d.unsettled)))
	if !d.settling {
		d.settling = true
		d.tasks.Go(func() { d.settleHeld(ctx) })
	}
}

// settleHeld tries to settle what is held until nothing is, and then lets work
// go on. When the drain timeout ends ctx, it tries once more and leaves the
// rest to the next start, which sends that mail again (RFC 5321 §6.1).
func (d *Dispatcher) settleHeld(ctx context.Context) {
	pause := newPause()
	for {
		if pause.wait(ctx); d.settleOnce(ctx) {
			pause = newPause()
		}
		d.mu.Lock()
		left := len(d.unsettled)
		if d.settling = left > 0 && ctx.Err() == nil; !d.settling {
			d.mu.Unlock()
			break
		}
		d.mu.Unlock()
	}
	signal(d.starts)
	signal(d.due)
}

// settleOnce settles what is held, slice by slice, up to the first the database
// does not take; it reports whether it took any. When a slice fails by an error
// that is not the database's own, one report in it can't be written, ever: they
// are settled one by one and that one is put aside, so that it does not stop all
// mail.
func (d *Dispatcher) settleOnce(ctx context.Context) (progress bool) {
	size, singly := settleSlice, 0 // singly: so many to settle one by one
	for {
		slice := d.firstHeld(size)
		if len(slice) == 0 {
			return progress
		}
		err := d.commit(ctx, slice)
		switch {
		case err == nil:
		case isEngine(err):
			d.deps.Log.LogAttrs(ctx, slog.LevelError, "outcomes still wait for the database", slog.Any("error", err))
			return progress
		case len(slice) > 1:
			size, singly = 1, len(slice)
			continue
		case !d.putAside(ctx, slice[0], err):
			return progress
		}
		progress = true
		if singly--; singly <= 0 {
			size = settleSlice
		}
		d.mu.Lock()
		d.unsettled = slices.Delete(d.unsettled, 0, len(slice))
		d.metrics.unsettled.Set(float64(len(d.unsettled)))
		d.mu.Unlock()
	}
}

// firstHeld returns a copy of the first reports that are held, at most n.
func (d *Dispatcher) firstHeld(n int) []report {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.unsettled[:min(n, len(d.unsettled))])
}

// putOff is after what time a recipient whose outcome can't be written is tried again.
const putOff = 15 * time.Minute

// putAside deals with an outcome that can't be written as it is, in this order:
//
//	its action and codes alone are written   the outcome stands: no second copy
//	the recipient is postponed               it is attempted again
//	it stays leased and in memory            the same again after putOff
//
// It returns false when meanwhile the database is in trouble: all is as before.
func (d *Dispatcher) putAside(ctx context.Context, r report, err error) bool {
	recipient := slog.String("recipient", r.entry.recipient.ID.String())
	d.deps.Log.LogAttrs(ctx, slog.LevelError, "outcome can't be written and is put aside", recipient,
		slog.String("action", string(r.outcome.Action)), slog.Any("error", err))
	bare, later := r, r
	bare.outcome = mail.Outcome{Action: r.outcome.Action, Scope: r.outcome.Scope, Code: r.outcome.Code, Status: r.outcome.Status}
	later.due = time.Now().Add(putOff)
	later.outcome = mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 3},
		Diagnostic: "the outcome of the attempt could not be written down",
	}
	for _, instead := range []report{bare, later} {
		if err = d.commit(ctx, []report{instead}); err == nil {
			return true
		}
		if isEngine(err) {
			return false
		}
	}
	d.deps.Log.LogAttrs(ctx, slog.LevelError, "recipient can't be postponed and stays leased", recipient, slog.Any("error", err))
	time.AfterFunc(putOff, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.draining {
			d.retain(ctx, []report{r})
		}
	})
	return true
}

func isEngine(err error) bool { return errors.Is(err, db.ErrUnavailable) || errors.Is(err, db.ErrFull) }
