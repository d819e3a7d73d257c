package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestStagesEndInOrder: each stage is waited for before the next is told.
func TestStagesEndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var said []string
		room := func(name string, drain time.Duration) func(context.Context) error {
			return func(ctx context.Context) error {
				<-ctx.Done()
				mu.Lock()
				said = append(said, name+" told")
				mu.Unlock()
				time.Sleep(drain)
				mu.Lock()
				said = append(said, name+" ended")
				mu.Unlock()
				return nil
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := runStages(ctx, stage{room("door", 3*time.Second)}, stage{}, stage{room("dispatch", time.Second)}, stage{room("db", 0)})
		if err != nil {
			t.Error(err)
		}
		want := []string{"door told", "door ended", "dispatch told", "dispatch ended", "db told", "db ended"}
		if !slices.Equal(said, want) {
			t.Errorf("got %v, want %v", said, want)
		}
	})
}

// TestStagesEndTogether: a room that fails, or just ends, ends the house.
func TestStagesEndTogether(t *testing.T) {
	waits := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	broken := errors.New("broken")
	for name, last := range map[string]error{"failed": broken, "ended": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := runStages(t.Context(), stage{waits}, stage{waits, func(context.Context) error { return last }}, stage{waits})
				if last != nil && !errors.Is(err, last) {
					t.Errorf("got %v, want %v", err, last)
				}
			})
		})
	}
}
