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

// Polling goes on when the database can't be read for a while.
func TestPollSurvivesTrouble(t *testing.T) {
	d, f := open(t)
	_ = d.poll(t.Context())
	f.set(func(string) error { return coded(266) })
	if err := d.poll(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	f.set(nil)
	if err := d.poll(t.Context()); err != nil {
		t.Error(err)
	}
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
