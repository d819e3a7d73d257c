package spool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// smallBuffer is where a Writer's buffer begins to grow by doubling; above
// growthEnd it is exchanged for one of a whole chunk from the pool.
const (
	smallBuffer = 4 << 10
	growthEnd   = 64 << 10
)

// Writer takes in the content of one message. It is used by one goroutine.
type Writer struct {
	spool   *Spool
	account id.Account
	id      id.Content
	buf     []byte
	ahead   int64 // chunks in the database already
	entered bool  // among the Spool's live ones
	size    int64
	sealed  bool
	stored  bool
	err     error
}

// Create begins a content. Whoever calls it calls Discard when done with it,
// accepted or not.
func (s *Spool) Create(account id.Account) *Writer {
	return &Writer{spool: s, account: account, id: id.New[id.Content]()}
}

var errSealed = errors.New("write to content that is complete")

// Write takes in more content. Up to ChunkSize stay in memory; of larger
// content all but the last chunk is written ahead, in transactions of their own,
// and memory is bounded by one chunk. An error is final; it is db.ErrFull when
// the disk has come down to its reserve meanwhile.
func (w *Writer) Write(p []byte) (int, error) {
	if w.sealed && w.err == nil {
		w.err = errSealed
	}
	if w.err != nil {
		return 0, w.err
	}
	n := 0
	for n < len(p) {
		if len(w.buf) == ChunkSize {
			if w.err = w.writeAhead(); w.err != nil {
				return n, w.err
			}
		}
		w.grow(len(p) - n)
		took := min(cap(w.buf), ChunkSize) - len(w.buf)
		took = min(took, len(p)-n)
		w.buf = append(w.buf, p[n:n+took]...)
		n += took
		w.size += int64(took)
	}
	return n, nil
}

// grow makes room for some of the next n bytes.
func (w *Writer) grow(n int) {
	if len(w.buf) < cap(w.buf) {
		return
	}
	var bigger []byte
	if want := max(2*cap(w.buf), smallBuffer, min(cap(w.buf)+n, growthEnd)); want <= growthEnd {
		bigger = make([]byte, 0, want)
	} else {
		bigger = w.spool.buffer()
	}
	w.buf = append(bigger, w.buf...)
}

const (
	insertAhead db.SQL = `INSERT INTO content_ahead (id, started_at, chunks, dead) VALUES ($1, $2, 1, FALSE)`
	updateAhead db.SQL = `UPDATE content_ahead SET chunks = $2 WHERE id = $1 AND NOT dead`
	acceptAhead db.SQL = `DELETE FROM content_ahead WHERE id = $1 AND NOT dead`
	insertChunk db.SQL = `INSERT INTO content_chunk (content_id, n, bytes) VALUES ($1, $2, $3)`
	insertRow   db.SQL = `INSERT INTO content (id, account_id, size) VALUES ($1, $2, $3)`
)

// writeAhead puts a full buffer into the database, under an id that nothing
// refers to yet, unless that would take from the reserve. It is not the caller's
// to cancel: half a content helps nobody.
func (w *Writer) writeAhead() error {
	if err := w.spool.db.Room(); err != nil {
		return fmt.Errorf("write ahead: %w", err)
	}
	w.enter()
	err := w.spool.db.Batch(context.Background(), func(tx *db.Tx) error {
		if err := w.mark(tx); err != nil {
			return err
		}
		return w.putChunk(tx)
	})
	if err != nil {
		return fmt.Errorf("write ahead: %w", err)
	}
	w.ahead++
	w.buf = w.buf[:0]
	return nil
}

// mark notes what is written ahead, for Sweep to find should it never be accepted.
func (w *Writer) mark(tx *db.Tx) error {
	if w.ahead == 0 {
		_, err := tx.Exec(insertAhead, w.id, db.Micros(time.Now()))
		return err
	}
	return one(tx.Exec(updateAhead, w.id, w.ahead+1))
}

// one wants a mark that is still there and has not been given up.
func one(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrSwept
	}
	return err
}

func (w *Writer) putChunk(tx *db.Tx) error {
	if len(w.buf) == 0 {
		return nil
	}
	n := len(w.buf)
	tx.OnCommit(func() { w.spool.metrics.written.Add(float64(n)) })
	_, err := tx.Exec(insertChunk, w.id, w.ahead, w.buf)
	return err
}

// Put writes the content in the transaction that accepts it, or what has not
// been written ahead of it. It can be repeated. It returns ErrSwept when the
// content took so long that it was taken for left behind.
func (w *Writer) Put(tx *db.Tx) error {
	if w.err != nil {
		return w.err
	}
	w.seal()
	if _, err := tx.Exec(insertRow, w.id, w.account, w.size); err != nil {
		return err
	}
	if err := w.putChunk(tx); err != nil {
		return err
	}
	if w.ahead > 0 {
		if err := one(tx.Exec(acceptAhead, w.id)); err != nil {
			return err
		}
	}
	tx.OnCommit(func() {
		w.stored = true
		w.leave()
	})
	return nil
}

// seal ends the writing. Bytes of a content that stays in memory outlive the
// Writer, so they do not stay in a buffer of the pool.
func (w *Writer) seal() {
	if w.sealed {
		return
	}
	w.sealed = true
	if w.ahead == 0 && cap(w.buf) == ChunkSize {
		exact := append(make([]byte, 0, len(w.buf)), w.buf...)
		w.spool.free(w.buf)
		w.buf = exact
	}
}

// Content returns what was taken in; nothing can be written afterwards.
func (w *Writer) Content() Content {
	w.seal()
	c := Content{ID: w.id, Size: w.size}
	if w.ahead == 0 {
		c.Bytes = w.buf
	}
	return c
}
