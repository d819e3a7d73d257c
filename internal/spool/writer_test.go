package spool

import (
	"bytes"
	"errors"
	"testing"

	"mittente/internal/db"
	"mittente/internal/id"
)

// After the commit Discard gives every buffer of the pool back, once, and
// leaves alone what whoever delivers has been given.
func TestDiscardReturnsBuffers(t *testing.T) {
	for _, size := range []int{1000, growthEnd, growthEnd + 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 1 << 20} {
		s, d := open(t, Config{Buffers: 4})
		w := s.Create(id.New[id.Account]())
		if _, err := w.Write(random(size)); err != nil {
			t.Fatal(err)
		}
		if err := d.Batch(t.Context(), w.Put); err != nil {
			t.Fatal(err)
		}
		given := w.Content()
		w.Discard(t.Context())
		w.Discard(t.Context())
		back := 0
		if size > growthEnd {
			back = 1
		}
		if len(s.buffers) != back {
			t.Errorf("%d bytes: %d buffers came back, want %d", size, len(s.buffers), back)
		}
		for range 3 { // what the pool has is written over
			b := s.buffer()
			clear(b[:ChunkSize])
		}
		if (given.Bytes != nil) != (size <= ChunkSize) {
			t.Errorf("%d bytes: %d were given", size, len(given.Bytes))
		}
		if given.Bytes != nil && !bytes.Equal(given.Bytes, random(size)) {
			t.Errorf("%d bytes: overwritten after Discard", size)
		}
		if got := read(t, s, given.ID); !bytes.Equal(got, random(size)) {
			t.Errorf("%d bytes: came back as %d", size, len(got))
		}
	}
}

// A transfer that began above the reserve does not go on into it.
func TestWritingAheadSparesTheReserve(t *testing.T) {
	dir := t.TempDir()
	open := func(reserve int64) *db.DB {
		d, err := db.Open(t.Context(), db.Config{DataDir: dir, ReserveBytes: reserve}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	d, full := open(1), open(1<<60)
	if err := d.Migrate(t.Context(), Schema()); err != nil {
		t.Fatal(err)
	}
	s := New(d, Config{}, nil)
	begun, settling := s.Create(id.New[id.Account]()), s.Create(id.New[id.Account]())
	if _, err := begun.Write(random(2*ChunkSize + 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := settling.Write(random(ChunkSize)); err != nil {
		t.Fatal(err)
	}
	wantRows(t, d, 0, 2, 1)
	s.db = full // as if others had filled the disk
	if n, err := begun.Write(random(1 << 20)); !errors.Is(err, db.ErrFull) || n != ChunkSize-1 {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := full.Batch(t.Context(), begun.Put); !errors.Is(err, db.ErrFull) {
		t.Errorf("accepted: %v", err)
	}
	begun.Discard(t.Context())
	wantRows(t, d, 0, 0, 0)
	if err := full.Batch(t.Context(), settling.Put); err != nil {
		t.Errorf("the reserve is for this: %v", err)
	}
	settling.Discard(t.Context())
}

// Writers that fail with their first chunk are not taken for writing for ever.
func TestFailedWritersAreForgotten(t *testing.T) {
	s, d := open(t, Config{})
	err := d.Batch(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(db.SQL("DROP TABLE content_ahead"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, ChunkSize+1)
	for range 1000 {
		w := s.Create(id.New[id.Account]())
		if _, err := w.Write(content); err == nil {
			t.Fatal("wrote ahead without a mark")
		}
		w.Discard(t.Context())
	}
	if len(s.live) != 0 {
		t.Errorf("%d contents are said to be written", len(s.live))
	}
	if len(s.buffers) != 1 {
		t.Errorf("%d buffers came back, one was used", len(s.buffers))
	}
}
