package db

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A commit of another process is noticed within a tenth of a second, an own one never.
func TestForeignChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t)
		other, err := Open(t.Context(), Config{DataDir: d.cfg.DataDir}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		noticed := make(chan time.Time, 10)
		d.OnForeignChange(func() { noticed <- time.Now() })
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if err := d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		for len(noticed) > 0 { // the migration had a connection of its own
			<-noticed
		}
		for i := range 20 {
			if err := d.Batch(t.Context(), putting(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if len(noticed) != 0 {
			t.Error("own commits were taken for foreign ones")
		}
		for i := range 3 {
			if err := other.Batch(t.Context(), putting(fmt.Sprint("foreign", i))); err != nil {
				t.Fatal(err)
			}
			at := time.Now()
			if took := (<-noticed).Sub(at); took > 100*time.Millisecond {
				t.Errorf("noticed after %v", took)
			}
		}
		cancel()
		all.Wait()
	})
}

// A commit of another process is noticed even while the writer waits for that
// process, which has taken the database again at once.
func TestForeignChangeWhileTheWriterWaits(t *testing.T) {
	d, _ := open(t)
	var noticed atomic.Int64
	d.OnForeignChange(func() { noticed.Add(1) })
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { _ = d.Run(ctx) })
	other := start(t, "commit and hold", d.cfg.DataDir)
	all.Go(func() {
		if err := d.Batch(t.Context(), putting("own")); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(2 * time.Second)
	before := noticed.Load()
	if before > 1 { // the migration had a connection of its own
		t.Errorf("noticed %d changes before there were any", before)
	}
	if !other.out.Scan() || other.out.Text() != "committed" {
		t.Fatalf("said %q", other.out.Text())
	}
	for at := time.Now(); noticed.Load() == before; time.Sleep(time.Millisecond) {
		if time.Since(at) > time.Second {
			t.Error("not noticed within a second")
			break
		}
	}
	other.finish()
}

// Own commits are not taken for foreign ones, though the writer is busy with
// them for so long that it can't be asked in time.
func TestSlowOwnCommitsAreNotForeign(t *testing.T) {
	d, _ := open(t)
	if _, err := d.changed(t.Context()); err != nil { // the migration had a connection of its own
		t.Fatal(err)
	}
	var noticed atomic.Int64
	d.OnForeignChange(func() { noticed.Add(1) })
	ctx, cancel := context.WithCancel(t.Context())
	var run, writers sync.WaitGroup
	run.Go(func() { _ = d.Run(ctx) })
	for i := range 6 {
		writers.Go(func() {
			err := d.Batch(t.Context(), func(tx *Tx) error {
				time.Sleep(patience + watchEvery)
				return put(tx, fmt.Sprint(i))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	cancel()
	run.Wait()
	if n := noticed.Load(); n != 0 {
		t.Errorf("own commits were taken for foreign ones %d times", n)
	}
}

// Who asks for foreign changes does not wait for those that wait for the writer.
func TestWhoAsksIsFirstInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t)
		var order []string // the writer's, one at a time
		release := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { _ = d.Batch(t.Context(), func(*Tx) error { <-release; time.Sleep(maxWork); return nil }) })
		synctest.Wait()
		all.Go(func() { _ = d.alone(t.Context(), func(*session) error { order = append(order, "later"); return nil }) })
		synctest.Wait()
		all.Go(func() { _ = d.first(t.Context(), func(*session) error { order = append(order, "first"); return nil }) })
		synctest.Wait()
		close(release)
		all.Wait()
		if fmt.Sprint(order) != "[first later]" {
			t.Errorf("order %v", order)
		}
	})
}

// Watching goes on when the database can't be read for a while, and what was
// committed meanwhile is noticed.
func TestWatchSurvivesTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, f := open(t)
		other, err := Open(t.Context(), Config{DataDir: d.cfg.DataDir}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, err := d.changed(t.Context()); err != nil {
			t.Fatal(err)
		}
		var noticed atomic.Int64
		d.OnForeignChange(func() { noticed.Add(1) })
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = d.Run(ctx) })
		time.Sleep(time.Second)
		f.set(func(string) error { return coded(266) })
		if _, err := d.changed(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
		if err := other.Batch(t.Context(), putting("foreign")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := noticed.Load(); n != 0 {
			t.Errorf("noticed %d changes, and could read none", n)
		}
		f.set(nil)
		time.Sleep(time.Second)
		if noticed.Load() == 0 {
			t.Error("the change was not noticed")
		}
		cancel()
		run.Wait()
	})
}

// Readers that overlap without a gap keep SQLite from beginning its log anew;
// it is cut all the same.
func TestReadersDoNotPinTheLogForEver(t *testing.T) {
	d, _ := open(t)
	d.keep = 4 << 20
	var over atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for !over.Load() {
				err := d.View(t.Context(), func(tx *Tx) error {
					var n int
					defer time.Sleep(time.Millisecond)
					return tx.Row(countNotes).Scan(&n)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	largest := int64(0)
	body := make([]byte, 1<<20)
	for i := range 40 {
		err := d.Batch(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec(insertNote, fmt.Sprint(i), body)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 { // as Run does once a second
			if err := d.cutLog(t.Context()); err != nil {
				t.Error(err)
			}
		}
		largest = max(largest, fileSize(d.path+"-wal"))
	}
	over.Store(true)
	readers.Wait()
	if largest > d.keep+6<<20 {
		t.Errorf("the log grew to %d MiB", largest>>20)
	}
}

// A View that lasts holds up neither who reads nor who writes, only the cutting.
func TestLongViewPutsCuttingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t, func(c *Config) { c.Readers = 2 })
		release := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { _ = d.View(t.Context(), func(*Tx) error { <-release; return nil }) })
		synctest.Wait()
		held := d.holdReaders(t.Context(), watchEvery)
		if len(held) != 1 {
			t.Errorf("held %d readers of 2", len(held))
		}
		for _, s := range held {
			d.readers <- s
		}
		if err := d.View(t.Context(), func(*Tx) error { return nil }); err != nil {
			t.Error(err)
		}
		close(release)
		all.Wait()
	})
}

// Space that deleted rows leave goes back to the disk, step by step.
func TestUnusedSpaceGoesBack(t *testing.T) {
	d, _ := open(t)
	d.keep = 4 << 20
	for i := range 32 {
		err := d.Batch(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec(insertNote, fmt.Sprint(i), make([]byte, 1<<20))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Batch(t.Context(), func(tx *Tx) error { _, err := tx.Exec(deleteNotes); return err }); err != nil {
		t.Fatal(err)
	}
	unused := func() (free int64) {
		err := d.alone(t.Context(), func(s *session) (err error) { free, _, err = s.pages(); return err })
		if err != nil {
			t.Fatal(err)
		}
		return free
	}
	before := unused()
	if err := d.vacuum(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := unused()
	if gone := before - after; gone < vacuumSlice || gone > vacuumSlice*vacuumSlices || after == 0 {
		t.Errorf("%d pages went back, %d are left", gone, after)
	}
	for range 10 {
		if err := d.tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left := unused() * 4096; left > d.keep {
		t.Errorf("%d bytes are left", left)
	}
	if size := fileSize(d.path) + fileSize(d.path+"-wal"); size > 12<<20 {
		t.Errorf("the files have %d bytes still", size)
	}
	if err := d.Batch(t.Context(), putting("after")); err != nil {
		t.Error(err)
	}
}
