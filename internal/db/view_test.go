package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestViewIsASnapshotThatCannotWrite(t *testing.T) {
	d, _ := open(t)
	if err := d.Batch(t.Context(), putting("a")); err != nil {
		t.Fatal(err)
	}
	err := d.View(t.Context(), func(tx *Tx) error {
		var before, after int
		if err := tx.Row(countNotes).Scan(&before); err != nil {
			return err
		}
		if err := d.Batch(t.Context(), putting("b")); err != nil {
			return err
		}
		if err := tx.Row(countNotes).Scan(&after); err != nil {
			return err
		}
		if before != 1 || after != 1 {
			t.Errorf("saw %d, then %d", before, after)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	wantNames(t, d, "a", "b")
	if err := d.View(t.Context(), putting("c")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a View wrote: %v", err)
	}
	wantNames(t, d, "a", "b")
}

func TestViewWaitsForAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t, func(c *Config) { c.Readers = 2 })
		release := make(chan struct{})
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				if err := d.View(t.Context(), func(*Tx) error { <-release; return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.View(ctx, func(*Tx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a third: %v", err)
		}
		close(release)
		all.Wait()
		if err := d.View(t.Context(), func(*Tx) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

// Rows and Row that a callback forgets hold neither connection nor snapshot.
func TestForgottenRowsAreClosed(t *testing.T) {
	d, _ := open(t)
	if err := d.Batch(t.Context(), func(tx *Tx) error { return errors.Join(put(tx, "a"), put(tx, "b")) }); err != nil {
		t.Fatal(err)
	}
	forget := func(tx *Tx) error {
		rows, err := tx.Rows(selectNotes) //nolint:sqlclosecheck // forgetting it is the point
		if err != nil {
			return err
		}
		rows.Next()
		tx.Row(selectNote, "a")
		return rows.Err()
	}
	for range 3 * d.cfg.Readers {
		if err := errors.Join(d.View(t.Context(), forget), d.Batch(t.Context(), forget)); err != nil {
			t.Fatal(err)
		}
	}
	var busy, pages, moved int
	err := d.alone(t.Context(), func(s *session) error {
		return s.conn.QueryRowContext(background(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	})
	if err != nil || busy != 0 {
		t.Errorf("something still reads: busy %d, %v", busy, err)
	}
}

func TestTxIsOverAfterItsCallback(t *testing.T) {
	d, _ := open(t)
	var kept *Tx
	for name, run := range map[string]func(context.Context, func(*Tx) error) error{"Batch": d.Batch, "View": d.View} {
		if err := run(t.Context(), func(tx *Tx) error { kept = tx; return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := kept.Exec(insertNote, "late", nil); !errors.Is(err, errOver) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := kept.Rows(selectNotes); !errors.Is(err, errOver) { //nolint:rowserrcheck,sqlclosecheck // there are none
			t.Errorf("%s: %v", name, err)
		}
		var n int
		if err := kept.Row(countNotes).Scan(&n); !errors.Is(err, errOver) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantNames(t, d)
}

func TestNoRowIsNoFailure(t *testing.T) {
	d, _ := open(t)
	err := d.Batch(t.Context(), func(tx *Tx) error {
		var body []byte
		if err := tx.Row(selectNote, "nobody").Scan(&body); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("got %v", err)
		}
		n, err := tx.Exec(deleteNotes)
		if err != nil || n != 0 {
			t.Errorf("deleted %d, %v", n, err)
		}
		return put(tx, "a")
	})
	if err != nil {
		t.Error(err)
	}
	wantNames(t, d, "a")
}

func TestDialect(t *testing.T) {
	if SQLite.Choose("a", "b") != "a" || PostgreSQL.Choose("a", "b") != "b" {
		t.Error("the wrong text")
	}
	if s := fmt.Sprint(SQLite, PostgreSQL); s != "SQLite PostgreSQL" {
		t.Error(s)
	}
	d, _ := open(t)
	if err := d.View(t.Context(), func(tx *Tx) error { _ = tx.Dialect(); return nil }); err != nil {
		t.Error(err)
	}
}
