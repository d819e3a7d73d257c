package submission

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/id"
)

// One account whose clients never end leaves a quarter of the places to the others.
func TestOneAccountLeavesPlacesForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(100)
		slow, other := id.New[id.Account](), id.New[id.Account]()
		got := 0
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if p.take(ctx, slow) == nil {
				got++
			}
			cancel()
		}
		if got != 75 {
			t.Errorf("one account got %d of 100 places", got)
		}
		for n := range 15 {
			if err := p.take(t.Context(), other); err != nil {
				t.Fatalf("place %d of another: %v", n+1, err)
			}
		}
	})
}

func TestPlacesAreGivenInTheOrderOfComing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(1)
		a := id.New[id.Account]()
		if err := p.take(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		var order []int
		for n := range 3 {
			go func() {
				if p.take(t.Context(), id.New[id.Account]()) == nil {
					order = append(order, n)
				}
			}()
			synctest.Wait()
		}
		gone, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- p.take(gone, a) }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		p.give(a)
		synctest.Wait()
		if len(order) != 1 || order[0] != 0 || p.free != 0 || len(p.waiting) != 2 {
			t.Errorf("granted to %v, %d free, %d waiting", order, p.free, len(p.waiting))
		}
		for v := range p.held { // let the others end
			p.give(v)
		}
		synctest.Wait()
		for v := range p.held {
			p.give(v)
		}
		synctest.Wait()
		if len(order) != 3 {
			t.Errorf("granted to %v", order)
		}
	})
}
