package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestReadinessWaitsForAWrite: a database that has refused is not ready again
// before a write succeeds, however long ago the refusal was, and it is tried once
// a second at most.
func TestReadinessWaitsForAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var room, write error
		probes := 0
		r := &readiness{room: func() error { return room }, write: func(context.Context) error { probes++; return write }}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx) }()
		later := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		later(time.Minute)
		if err := r.check(); err != nil || probes != 0 {
			t.Fatalf("in good health: %v, %d writes", err, probes)
		}
		locked := errors.New("held by another process")
		room, write = locked, locked
		later(2 * readinessLook)
		room = nil // it forgets
		later(time.Minute)
		if err := r.check(); !errors.Is(err, locked) {
			t.Errorf("a minute later: %v", err)
		}
		if probes < 30 || probes > 61 {
			t.Errorf("%d writes in a minute", probes)
		}
		write = nil
		later(2 * readinessProbe)
		before := probes
		if err := r.check(); err != nil {
			t.Errorf("after a write: %v", err)
		}
		if later(time.Minute); probes != before {
			t.Errorf("%d writes without need", probes-before)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
