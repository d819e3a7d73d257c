package notify

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"mittente/internal/db"
	"mittente/internal/queue"
)

const (
	noticesAtOnce = 20
	lookEvery     = time.Minute // at least, for notices that are due
	firstPause    = 5 * time.Second
	longestPause  = time.Minute
	putOff        = 15 * time.Minute // of what can't be seen to, though the database works
)

// Wake has Run look at what is to be told. It does not block: queue.OnNotice and
// db.OnForeignChange call it.
func (n *Notifier) Wake() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run reports to senders what became of their mail, as they asked for it (RFC
// 3461), and to the operators what nobody else can be told, until ctx ends. What
// fails, because the disk is full or the database away, is tried again.
func (n *Notifier) Run(ctx context.Context) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	pause := firstPause
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		case <-wait.C:
		}
		if err := n.tell(ctx); err != nil && ctx.Err() == nil {
			n.metrics.failures.Inc()
			n.deps.Log.LogAttrs(ctx, slog.LevelError, "reports are late", slog.Any("error", err))
			wait.Reset(pause)
			pause = min(2*pause, longestPause)
			n.drain(ctx, wait)
			continue
		}
		pause = firstPause
		wait.Reset(n.untilDue(ctx))
	}
}

// drain waits for a pause to end: while the disk is full every settled recipient
// would wake us.
func (n *Notifier) drain(ctx context.Context, wait *time.Timer) {
	select {
	case <-ctx.Done():
	case <-wait.C:
		wait.Reset(0)
	}
}

// untilDue is how long nothing is to be told.
func (n *Notifier) untilDue(ctx context.Context) time.Duration {
	due, ok, err := n.deps.Queue.NextNotice(ctx)
	if err != nil || !ok {
		return lookEvery
	}
	return min(max(time.Until(due), 0), lookEvery)
}

// tell sees to all notices that are due. One that can't be seen to is put off, and
// keeps none of the others up; when not even that can be written down, all wait.
func (n *Notifier) tell(ctx context.Context) error {
	for ctx.Err() == nil {
		var due []queue.Notice
		err := n.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
			due, err = n.deps.Queue.Notices(tx, noticesAtOnce)
			return err
		})
		if err != nil {
			return err
		}
		for _, notice := range due {
			err := n.see(ctx, notice)
			if err == nil || errors.Is(err, queue.ErrNoticed) { // another node was quicker
				continue
			}
			if ctx.Err() != nil || errors.Is(err, db.ErrFull) {
				return err
			}
			if later := n.putOff(ctx, notice); later != nil {
				return errors.Join(err, later)
			}
			n.metrics.failures.Inc()
			n.deps.Log.LogAttrs(ctx, slog.LevelError, "a report can't be made now", slog.String("kind", string(notice.Kind)),
				slog.String("message", notice.Message.ID.String()), slog.Any("error", err))
		}
		if len(due) == 0 {
			return nil
		}
	}
	return nil
}

func (n *Notifier) putOff(ctx context.Context, notice queue.Notice) error {
	return n.deps.DB.Batch(ctx, func(tx *db.Tx) error { return n.deps.Queue.PutOff(tx, notice, db.Now().Add(putOff)) })
}

// see sees to one notice.
func (n *Notifier) see(ctx context.Context, notice queue.Notice) error {
	if notice.Kind == queue.NoticeDouble || n.own(notice.Message) {
		return n.deps.DB.Batch(ctx, func(tx *db.Tx) error { return n.returned(tx, notice) })
	}
	d, err := n.report(ctx, notice)
	if err != nil {
		return err
	}
	if d == nil {
		return n.deps.DB.Batch(ctx, func(tx *db.Tx) error { return n.deps.Queue.Noticed(tx, notice) })
	}
	defer d.content.Discard(context.WithoutCancel(ctx))
	return n.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		if err := n.deps.Queue.Noticed(tx, notice); err != nil {
			return err
		}
		tx.OnCommit(n.metrics.reports.WithLabelValues(string(notice.Kind)).Inc)
		return n.put(tx, d)
	})
}

// own reports whether the house wrote the message: what became of it concerns
// the operators alone.
func (n *Notifier) own(m *queue.Message) bool {
	return m.UserName == "" && m.From.Address == n.cfg.From
}
