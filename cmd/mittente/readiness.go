package main

import (
	"context"
	"sync"
	"time"
)

const (
	readinessLook  = 250 * time.Millisecond // how often the database is asked whether it is in trouble
	readinessProbe = time.Second            // the least time between two probing writes
)

// readiness remembers that the database has refused until a write shows that it
// takes mail again: that it has not been tried since is no proof.
type readiness struct {
	room  func() error                // cheap: what the database knows of its trouble
	write func(context.Context) error // commits something small

	mu    sync.Mutex
	doubt error // why the last write that is known of did not succeed
}

// run looks for trouble until ctx ends, and for its end once there is some.
func (r *readiness) run(ctx context.Context) error {
	tick := time.NewTicker(readinessLook)
	defer tick.Stop()
	var tried time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if r.check() == nil || time.Since(tried) < readinessProbe {
			continue
		}
		err := r.write(ctx)
		if ctx.Err() == nil {
			r.set(err)
		}
		tried = time.Now()
	}
}

// check says why mail can't be taken now, if it can't.
func (r *readiness) check() error {
	if err := r.room(); err != nil {
		r.set(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.doubt
}

func (r *readiness) set(doubt error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doubt = doubt
}
