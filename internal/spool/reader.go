package spool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

const (
	selectContent db.SQL = `SELECT size, keep_until FROM content WHERE id = $1`
	selectChunk   db.SQL = `SELECT bytes FROM content_chunk WHERE content_id = $1 AND n = $2`
)

// Reader reads one content, chunk by chunk. Between two reads it holds nothing
// of the database. It is used by one goroutine, which closes it.
type Reader struct {
	spool *Spool
	id    id.Content
	size  int64
	got   int64  // bytes fetched
	next  int64  // chunk to fetch
	buf   []byte // of the pool
	rest  []byte // what of buf is not read yet
}

// Open returns a reader of the content; the error is ErrGone when it is past
// its retention or never was. The reader returns ErrGone, too, when the content
// goes while it is being read.
func (s *Spool) Open(ctx context.Context, content id.Content) (*Reader, error) {
	r := &Reader{spool: s, id: content}
	err := s.db.View(ctx, func(tx *db.Tx) error {
		var keepUntil sql.NullInt64
		switch err := tx.Row(selectContent, content).Scan(&r.size, &keepUntil); {
		case errors.Is(err, sql.ErrNoRows):
			return ErrGone
		case err != nil:
			return err
		case keepUntil.Valid && keepUntil.Int64 <= db.Micros(time.Now()):
			return ErrGone
		}
		return r.fetch(tx)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%v: %w", content, err), r.Close())
	}
	return r, nil
}

// Size returns the size of the whole content in bytes.
func (r *Reader) Size() int64 { return r.size }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: a whole chunk goes out in one write.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := r.fill(); errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := w.Write(r.rest)
		r.rest = r.rest[n:]
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// Close gives the reader's memory back.
func (r *Reader) Close() error {
	r.spool.free(r.buf)
	r.buf, r.rest, r.got, r.size = nil, nil, 0, 0
	return nil
}

// fill fetches the next chunk when the last one is used up; io.EOF after the last.
func (r *Reader) fill() error {
	if len(r.rest) > 0 {
		return nil
	}
	if r.got == r.size {
		return io.EOF
	}
	err := r.spool.db.View(context.Background(), r.fetch)
	if err != nil {
		return fmt.Errorf("%v: %w", r.id, err)
	}
	return nil
}

// fetch reads a chunk into the buffer.
func (r *Reader) fetch(tx *db.Tx) error {
	if r.got == r.size {
		return nil
	}
	rows, err := tx.Rows(selectChunk, r.id, r.next)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(rows.Err(), ErrGone)
	}
	var raw sql.RawBytes
	if err := rows.Scan(&raw); err != nil {
		return err
	}
	if len(raw) == 0 || r.got+int64(len(raw)) > r.size {
		return ErrGone
	}
	if r.buf == nil {
		r.buf = r.room(len(raw))
	}
	r.buf = append(r.buf[:0], raw...)
	r.rest = r.buf
	r.got += int64(len(raw))
	r.next++
	r.spool.metrics.read.Add(float64(len(raw)))
	return nil
}

// room returns a buffer for a first chunk of n bytes; small content has no
// others, and needs none of the pool.
func (r *Reader) room(n int) []byte {
	if r.size > int64(n) || n > growthEnd {
		return r.spool.buffer()
	}
	return make([]byte, 0, n)
}
