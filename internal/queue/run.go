package queue

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"mittente/internal/db"
	"mittente/internal/node"
)

const (
	reclaimEvery = node.DeadAfter / 2
	countEvery   = 15 * time.Second
	retainEvery  = time.Hour
	unparkEvery  = 5 * time.Second
	clockEvery   = 5 * time.Second
	pullEvery    = time.Hour
)

// Run keeps this node's leases alive, takes back dead ones, counts and deletes
// what is past its retention, until ctx ends. Call Start before it. Trouble of
// the database is logged and tried again at the next turn.
func (q *Queue) Run(ctx context.Context) error {
	if q.Lease().IsZero() {
		return fmt.Errorf("queue: %w", node.ErrNotStarted)
	}
	for _, d := range []duty{
		{"reclaim", reclaimEvery, nil, func(ctx context.Context) error { _, err := q.Reclaim(ctx); return err }},
		{"count", countEvery, nil, q.gauge},
		{"retain", retainEvery, nil, q.retain},
		{"unpark", unparkEvery, q.lists, q.unpark},
		{"clock", clockEvery, nil, q.watchClock()},
		{"pull", pullEvery, nil, q.pull},
	} {
		done := make(chan struct{})
		defer func() { <-done }()
		go func() {
			defer close(done)
			q.repeat(ctx, d)
		}()
	}
	q.repeat(ctx, duty{"heartbeat", node.HeartbeatEvery, nil, q.Heartbeat})
	return nil
}

// duty is something to do at once and then regularly.
type duty struct {
	name  string
	every time.Duration
	now   <-chan struct{} // also when this says so; may be nil
	do    func(context.Context) error
}

func (q *Queue) repeat(ctx context.Context, d duty) {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for {
		if err := d.do(ctx); err != nil && ctx.Err() == nil {
			q.log.LogAttrs(ctx, slog.LevelError, "queue upkeep failed",
				slog.String("duty", d.name), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.now:
		}
	}
}

// gauge refreshes the gauges.
func (q *Queue) gauge(ctx context.Context) error {
	var d Depth
	err := q.db.View(ctx, func(tx *db.Tx) (err error) {
		d, err = q.Depth(tx, time.Now())
		return err
	})
	if err != nil {
		return err
	}
	q.metrics.depth.WithLabelValues(string(Pending)).Set(float64(d.Pending))
	q.metrics.depth.WithLabelValues(string(Leased)).Set(float64(d.Leased))
	q.metrics.depth.WithLabelValues(string(Held)).Set(float64(d.Held))
	q.metrics.overdue.Set(d.Overdue.Seconds())
	return nil
}
