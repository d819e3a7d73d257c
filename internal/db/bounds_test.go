package db

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBatchIsBoundedByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, f := open(t)
		before := f.commits()
		var callbacks []func(*Tx) error
		for i := range 12 { // 24 ms of work
			callbacks = append(callbacks, func(tx *Tx) error {
				time.Sleep(2 * time.Millisecond)
				return put(tx, fmt.Sprint(i))
			})
		}
		results := together(t, d, callbacks...)
		for i := range results {
			want(t, results[i], 1, 1, nil)
		}
		if n := f.commits() - before; n != 4 { // three at a time: the bound is looked at after each
			t.Errorf("%d commits, want 4", n)
		}
	})
}

func TestBatchIsBoundedByCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, f := open(t)
		before := f.commits()
		var callbacks []func(*Tx) error
		for i := range maxCallers {
			callbacks = append(callbacks, putting(fmt.Sprint(i)))
		}
		together(t, d, callbacks...)
		if n := f.commits() - before; n != 2 {
			t.Errorf("%d commits for %d callers, want 2", n, maxCallers+1)
		}
	})
}

func TestCloseSeesThroughWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t)
		release := make(chan struct{})
		var all sync.WaitGroup
		errs := make([]error, 5)
		for i := range errs {
			all.Go(func() {
				errs[i] = d.Batch(t.Context(), func(tx *Tx) error { <-release; return put(tx, fmt.Sprint(i)) })
			})
		}
		synctest.Wait()
		all.Go(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := d.Batch(t.Context(), putting("late")); !errors.Is(err, ErrUnavailable) {
			t.Errorf("a late one: %v", err)
		}
		close(release)
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	})
}

// Under load, with callers that fail in every way, the rows that are there are
// exactly those whose callers were told so, and each was told once.
func TestToldIsCommitted(t *testing.T) {
	d, f := open(t)
	var n int
	f.set(func(query string) error {
		if n++; query == "COMMIT" && n%17 == 0 || query == string(insertNote) && n%41 == 0 {
			return coded(778)
		}
		return nil
	})
	var mu sync.Mutex
	var told []string
	var all sync.WaitGroup
	for caller := range 16 {
		all.Go(func() {
			for i := range 30 {
				name := fmt.Sprintf("%02d-%02d", caller, i)
				err := d.Batch(t.Context(), func(tx *Tx) error {
					if i%7 == 1 {
						return errInjected
					}
					if err := put(tx, name); err != nil || i%5 == 1 {
						return errors.Join(err, errInjected)
					}
					tx.OnCommit(func() {
						mu.Lock()
						defer mu.Unlock()
						told = append(told, name)
					})
					return nil
				})
				if err != nil && !errors.Is(err, errInjected) && !errors.Is(err, ErrFull) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	f.set(nil)
	wantNames(t, d, told...)
}
