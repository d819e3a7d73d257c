package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestReadinessWaitsForAWrite: a database that has refused is not ready again
// before a write succeeds, however long ago the refusal was, and it is tried once
// a second at most.
func TestReadinessWaitsForAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var room, write atomic.Pointer[error]
		var fine error
		room.Store(&fine)
		write.Store(&fine)
		var probes atomic.Int64
		r := &readiness{
			room:  func() error { return *room.Load() },
			write: func(context.Context) error { probes.Add(1); return *write.Load() },
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx) }()
		later := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		later(time.Minute)
		if err := r.check(); err != nil || probes.Load() != 0 {
			t.Fatalf("in good health: %v, %d writes", err, probes.Load())
		}
		locked := errors.New("held by another process")
		room.Store(&locked)
		write.Store(&locked)
		later(2 * readinessLook)
		room.Store(&fine) // it forgets
		later(time.Minute)
		if err := r.check(); !errors.Is(err, locked) {
			t.Errorf("a minute later: %v", err)
		}
		if n := probes.Load(); n < 30 || n > 61 {
			t.Errorf("%d writes in a minute", n)
		}
		write.Store(&fine)
		later(2 * readinessProbe)
		before := probes.Load()
		if err := r.check(); err != nil {
			t.Errorf("after a write: %v", err)
		}
		if later(time.Minute); probes.Load() != before {
			t.Errorf("%d writes without need", probes.Load()-before)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
