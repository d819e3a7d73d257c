package db

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// result is what one caller of Batch got.
type result struct {
	err  error
	runs int  // of the callback
	told int  // runs of OnCommit
	over bool // Batch returned
}

// together has the callbacks share one batch: a first caller leads and is held
// in its callback until all others wait. It must run in a synctest bubble. The
// result of the leader, which writes "leader", comes first.
func together(t *testing.T, d *DB, callbacks ...func(*Tx) error) []*result {
	t.Helper()
	release := make(chan struct{})
	held := func(tx *Tx) error {
		<-release
		return put(tx, "leader")
	}
	var results []*result
	var all sync.WaitGroup
	for _, do := range append([]func(*Tx) error{held}, callbacks...) {
		r := &result{}
		results = append(results, r)
		all.Go(func() {
			r.err = d.Batch(t.Context(), func(tx *Tx) error {
				r.runs++
				tx.OnCommit(func() { r.told++ })
				return do(tx)
			})
			r.over = true
		})
		synctest.Wait() // so that they come in order
	}
	close(release)
	all.Wait()
	return results
}

func putting(name string) func(*Tx) error {
	return func(tx *Tx) error { return put(tx, name) }
}

func want(t *testing.T, r *result, runs, told int, err error) {
	t.Helper()
	if r.runs != runs || r.told != told || !errors.Is(r.err, err) {
		t.Errorf("%d runs, told %d times, %v; want %d, %d, %v", r.runs, r.told, r.err, runs, told, err)
	}
}

func TestBatchSharesOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, f := open(t)
		before := f.commits()
		var callbacks []func(*Tx) error
		for i := range 20 {
			callbacks = append(callbacks, putting(fmt.Sprint(i)))
		}
		results := together(t, d, callbacks...)
		for i := range results {
			want(t, results[i], 1, 1, nil)
		}
		if n := f.commits() - before; n != 1 {
			t.Errorf("%d commits for 21 callers, want 1", n)
		}
		if got := len(names(t, d)); got != 21 {
			t.Errorf("%d rows", got)
		}
	})
}

// One caller fails after it has written: all others are committed exactly once.
func TestFailingCallerCommitsTheOthersOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, f := open(t)
		before := f.commits()
		results := together(t, d,
			putting("a"),
			func(tx *Tx) error { return errors.Join(put(tx, "half"), errInjected) },
			putting("b"), // comes after the failure: not of that batch
		)
		want(t, results[0], 2, 1, nil)
		want(t, results[1], 2, 1, nil)
		want(t, results[2], 2, 0, errInjected)
		want(t, results[3], 1, 1, nil)
		wantNames(t, d, "leader", "a", "b")
		if n := f.commits() - before; n != 3 {
			t.Errorf("%d commits, want one each for leader, a and b", n)
		}
		if n := value(t, d.metrics.alone); n != 3 {
			t.Errorf("%v callers ran alone, want 3", n)
		}
	})
}

// A caller that fails before it writes has nothing to take back.
func TestRefusingCallerDisturbsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, f := open(t)
		before := f.commits()
		results := together(t, d,
			putting("a"),
			func(tx *Tx) error {
				var n int
				return errors.Join(tx.Row(countNotes).Scan(&n), errInjected)
			},
			putting("b"))
		want(t, results[1], 1, 1, nil)
		want(t, results[2], 1, 0, errInjected)
		want(t, results[3], 1, 1, nil)
		wantNames(t, d, "leader", "a", "b")
		if n := f.commits() - before; n != 1 {
			t.Errorf("%d commits, want 1", n)
		}
	})
}

// What a refusing caller read may be rolled back: then it is asked again.
func TestRefusalIsNotFinalBeforeTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, f := open(t)
		f.failOn("COMMIT", 1, coded(4874)) // SQLITE_IOERR_SHMSIZE, any will do
		var seen []int
		results := together(t, d, func(tx *Tx) error {
			var n int
			err := tx.Row(countNotes).Scan(&n)
			seen = append(seen, n)
			return errors.Join(err, errInjected)
		})
		want(t, results[0], 2, 1, nil)
		want(t, results[1], 2, 0, errInjected)
		if !slices.Equal(seen, []int{1, 1}) {
			t.Errorf("saw %v", seen)
		}
	})
}

func TestPanicReachesItsOwnCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t)
		caught := make(chan any, 1)
		release := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			if err := d.Batch(t.Context(), func(tx *Tx) error { <-release; return put(tx, "leader") }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			defer func() { caught <- recover() }()
			_ = d.Batch(t.Context(), func(tx *Tx) error {
				_ = put(tx, "half")
				panic(errInjected)
			})
		})
		all.Go(func() {
			if err := d.Batch(t.Context(), putting("b")); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(release)
		all.Wait()
		if p, ok := (<-caught).(*panicError); !ok || !errors.Is(p.value.(error), errInjected) || len(p.stack) == 0 {
			t.Errorf("caught %v", p)
		}
		wantNames(t, d, "leader", "b")
	})
}

func TestPanicAlone(t *testing.T) {
	d, _ := open(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = d.Batch(t.Context(), func(tx *Tx) error { panic("x") })
	}()
	if err := d.Batch(t.Context(), putting("after")); err != nil {
		t.Error(err)
	}
	wantNames(t, d, "after")
}

// A callback that ends its goroutine, as t.FailNow does, takes the leader with
// it, but neither the lead nor what others wrote half.
func TestGoexitWedgesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t)
		release := make(chan struct{})
		var all sync.WaitGroup
		var errs [3]error
		all.Go(func() {
			errs[0] = d.Batch(t.Context(), func(tx *Tx) error { <-release; return put(tx, "leader") })
		})
		synctest.Wait()
		all.Go(func() {
			errs[1] = d.Batch(t.Context(), func(tx *Tx) error { runtime.Goexit(); return nil })
		})
		synctest.Wait()
		all.Go(func() { errs[2] = d.Batch(t.Context(), putting("b")) })
		synctest.Wait()
		close(release)
		all.Wait()
		if errs[0] != nil { // its goroutine is gone
			t.Errorf("leader: %v", errs[0])
		}
		if !errors.Is(errs[1], ErrUnavailable) || errs[2] != nil {
			t.Errorf("others: %v", errs[1:])
		}
		wantNames(t, d, "b")
	})
}

func TestCancelWithdrawsOnlyWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t)
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var started, waiting error
		all.Go(func() {
			started = d.Batch(ctx, func(tx *Tx) error {
				<-release
				return put(tx, "started")
			})
		})
		synctest.Wait()
		ran, returned := false, false
		all.Go(func() {
			waiting = d.Batch(ctx, func(*Tx) error { ran = true; return nil })
			returned = true
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !returned {
			t.Error("who waits is not withdrawn until the leader is done")
		}
		close(release)
		all.Wait()
		if started != nil {
			t.Errorf("who has started is seen through: %v", started)
		}
		if !errors.Is(waiting, context.Canceled) || ran {
			t.Errorf("who waits is withdrawn: %v, ran: %v", waiting, ran)
		}
		if err := d.Batch(ctx, putting("late")); !errors.Is(err, context.Canceled) {
			t.Errorf("who comes with an ended context: %v", err)
		}
		wantNames(t, d, "started")
		if n := value(t, d.metrics.waiting); n != 0 {
			t.Errorf("%v are said to wait", n)
		}
	})
}

// One whose context ends while the lead is handed to it still leads.
func TestCancelledFollowerHandsTheLeadOn(t *testing.T) {
	d, _ := open(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	var committed []string
	for i := range 400 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3_000))*time.Microsecond)
			defer cancel()
			name := fmt.Sprintf("%03d", i)
			switch err := d.Batch(ctx, putting(name)); {
			case err == nil:
				mu.Lock()
				committed = append(committed, name)
				mu.Unlock()
			case !errors.Is(err, context.DeadlineExceeded):
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantNames(t, d, committed...)
}

// What is done by OnCommit is done after COMMIT has returned.
func TestOnCommitComesAfterTheCommit(t *testing.T) {
	d, f := open(t)
	err := d.Batch(t.Context(), func(tx *Tx) error {
		tx.OnCommit(func() { f.note("told") })
		return put(tx, "a")
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.log); f.log[n-2] != "COMMIT" || f.log[n-1] != "told" {
		t.Errorf("order: %q", f.log)
	}
}

// No commit that fails is told as success, whatever it fails of.
func TestCommitFails(t *testing.T) {
	for name, c := range map[string]struct{ injected, want error }{
		"sync":         {coded(1034), ErrUnavailable}, // SQLITE_IOERR_FSYNC
		"write":        {coded(778), ErrFull},         // SQLITE_IOERR_WRITE
		"full":         {coded(13), ErrFull},
		"not known":    {errInjected, ErrUnavailable},
		"busy":         {coded(5), ErrBusy},
		"busy is down": {coded(5), ErrUnavailable},
	} {
		t.Run(name+"/once", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, f := open(t)
				f.failOn("COMMIT", 1, c.injected)
				results := together(t, d, putting("a"), putting("b"))
				for i := range results {
					want(t, results[i], 2, 1, nil)
				}
				wantNames(t, d, "leader", "a", "b")
			})
		})
		t.Run(name+"/always", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, f := open(t)
				f.failOn("COMMIT", 1000, c.injected)
				results := together(t, d, putting("a"), putting("b"))
				for i := range results {
					want(t, results[i], 2, 0, c.want)
				}
				wantNames(t, d)
				if err := d.Room(); !errors.Is(err, c.want) {
					t.Errorf("Room: %v", err)
				}
				f.set(nil)
				time.Sleep(troubleLast)
				if err := d.Room(); err != nil {
					t.Errorf("Room, a second later: %v", err)
				}
				if err := d.Batch(t.Context(), putting("after")); err != nil {
					t.Errorf("no recovery: %v", err)
				}
				wantNames(t, d, "after")
			})
		})
	}
}

// The engine commits, and the answer is lost: the rollback that follows finds no
// transaction, and the repetition meets its own rows. Nobody is told success
// falsely.
func TestCommitWhoseAnswerIsLost(t *testing.T) {
	d, f := open(t)
	f.after = func(query string, err error) error {
		if query == "COMMIT" {
			return coded(1034)
		}
		return err
	}
	err := d.Batch(t.Context(), putting("a"))
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	f.after = nil
	if err := d.Batch(t.Context(), putting("b")); err != nil {
		t.Error(err)
	}
	wantNames(t, d, "a", "b")
}

// A connection that can't even roll back is thrown away, and another is opened.
func TestBrokenConnectionIsReplaced(t *testing.T) {
	d, f := open(t)
	f.set(func(query string) error {
		if query == "COMMIT" || query == "ROLLBACK" {
			return errInjected
		}
		return nil
	})
	if err := d.Batch(t.Context(), putting("a")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	f.set(nil)
	if err := d.Batch(t.Context(), putting("b")); err != nil {
		t.Error(err)
	}
	wantNames(t, d, "b")
}

// A callback that swallows the failure of a statement does not get it committed.
func TestSwallowedFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t)
		results := together(t, d,
			func(tx *Tx) error {
				_ = put(tx, "leader") // is there already
				if err := put(tx, "after"); !errors.Is(err, ErrConstraint) {
					t.Errorf("the next statement: %v", err)
				}
				var n int
				if err := tx.Row(countNotes).Scan(&n); !errors.Is(err, ErrConstraint) {
					t.Errorf("the next row: %v", err)
				}
				if _, err := tx.Rows(selectNotes); !errors.Is(err, ErrConstraint) { //nolint:rowserrcheck,sqlclosecheck // there are none
					t.Errorf("the next rows: %v", err)
				}
				return nil
			}, putting("b"))
		want(t, results[0], 2, 1, nil)
		want(t, results[1], 2, 0, ErrConstraint)
		want(t, results[2], 1, 1, nil)
		wantNames(t, d, "leader", "b")
	})
}

// SQLite rolls everything back by itself when the disk is full; callers that
// come after must not run, and commit, without a transaction.
func TestEngineRollsBackByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, f := open(t)
		limit(t, d, 20)
		before := f.commits()
		results := together(t, d,
			func(tx *Tx) error {
				_, err := tx.Exec(insertNote, "large", make([]byte, 1<<20))
				if !errors.Is(err, ErrFull) {
					t.Errorf("a MiB in 20 pages: %v", err)
				}
				_ = put(tx, "in autocommit")
				return nil
			}, putting("b"))
		want(t, results[0], 2, 1, nil)
		want(t, results[1], 2, 0, ErrFull)
		want(t, results[2], 1, 1, nil)
		wantNames(t, d, "leader", "b")
		if n := f.commits() - before; n != 2 {
			t.Errorf("%d commits, want 2", n)
		}
		limit(t, d, 1<<30)
		err := d.Batch(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec(insertNote, "large", make([]byte, 1<<20))
			return err
		})
		if err != nil {
			t.Errorf("no recovery: %v", err)
		}
	})
}

// limit bounds the size of the database in pages.
func limit(t *testing.T, d *DB, pages int) {
	t.Helper()
	err := d.alone(t.Context(), func(s *session) error {
		_, err := s.conn.ExecContext(background(), fmt.Sprintf("PRAGMA max_page_count(%d)", pages))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
