package spool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// Bounds of one slice of deleting: the writer's time, and how much is looked at.
const (
	sliceTime     = 3 * time.Millisecond
	sliceContents = 64
	sliceChunks   = 4
)

// enter keeps Sweep from taking the content for left behind.
func (w *Writer) enter() {
	if w.entered {
		return
	}
	w.entered = true
	w.spool.setLive(func(live map[id.Content]struct{}) { live[w.id] = struct{}{} })
}

func (w *Writer) leave() {
	if !w.entered {
		return
	}
	w.entered = false
	w.spool.setLive(func(live map[id.Content]struct{}) { delete(live, w.id) })
}

func (s *Spool) setLive(change func(map[id.Content]struct{})) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.live)
	s.metrics.live.Set(float64(len(s.live)))
}

func (s *Spool) isLive(c id.Content) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.live[c]
	return ok
}

// Discard removes what was written ahead, unless the content was accepted, and
// gives the buffer back. It does so even when ctx has ended; what can't be
// removed now is swept later. Content.Bytes stay good. It can be called whatever
// came before, and again.
func (w *Writer) Discard(ctx context.Context) {
	if w.ahead > 0 || cap(w.buf) == ChunkSize && !w.sealed {
		w.spool.free(w.buf)
	}
	written := w.ahead > 0 && !w.stored
	w.buf, w.sealed, w.ahead = nil, true, 0
	if written {
		if err := w.spool.removeAhead(context.WithoutCancel(ctx), w.id); err != nil {
			w.spool.metrics.failures.Inc()
		}
	}
	w.leave()
}

const (
	selectAhead db.SQL = `SELECT id FROM content_ahead WHERE started_at < $1 AND id > $2 ORDER BY id LIMIT $3`
	lastChunk   db.SQL = `SELECT n FROM content_chunk WHERE content_id = $1 ORDER BY n DESC LIMIT 1`
	deleteFrom  db.SQL = `DELETE FROM content_chunk WHERE content_id = $1 AND n > $2`
	killAhead   db.SQL = `UPDATE content_ahead SET dead = TRUE WHERE id = $1 AND NOT dead`
	deleteAhead db.SQL = `DELETE FROM content_ahead WHERE id = $1`
	deleteRow   db.SQL = `DELETE FROM content WHERE id = $1`
)

// Sweep removes content that began to be written ahead before the given time
// and was never accepted, because its client or the process ended. What this
// process is still writing stays. It returns how many contents it removed.
func (s *Spool) Sweep(ctx context.Context, olderThan time.Time) (n int, err error) {
	var after id.Content
	for {
		var found []id.Content
		err := s.db.View(ctx, func(tx *db.Tx) (err error) {
			found, err = aheadOf(tx, olderThan, after)
			return err
		})
		if err != nil || len(found) == 0 {
			return n, err
		}
		for _, c := range found {
			after = c
			if s.isLive(c) {
				continue
			}
			if err := s.removeAhead(ctx, c); err != nil {
				return n, err
			}
			n++
			s.metrics.swept.Inc()
		}
	}
}

func aheadOf(tx *db.Tx, olderThan time.Time, after id.Content) ([]id.Content, error) {
	return db.Collect(tx, func(row db.Scanner) (c id.Content, err error) {
		err = row.Scan(&c)
		return c, err
	}, selectAhead, db.Micros(olderThan), after[:], sliceContents)
}

// removeAhead removes chunks that were written ahead, in slices. From the first
// on they can't be accepted; the mark goes with the last, so that Sweep finds
// what is left should the process end in between.
func (s *Spool) removeAhead(ctx context.Context, c id.Content) error {
	return s.slices(ctx, func(tx *db.Tx) (bool, error) {
		if _, err := tx.Exec(killAhead, c); err != nil {
			return false, err
		}
		more, err := removeChunks(tx, c)
		if err != nil || more {
			return more, err
		}
		_, err = tx.Exec(deleteAhead, c)
		return false, err
	})
}

// slices repeats do, each time in a batch, until it says that there is no more.
func (s *Spool) slices(ctx context.Context, do func(*db.Tx) (more bool, err error)) error {
	for more := true; more; {
		err := s.db.Batch(ctx, func(tx *db.Tx) (err error) {
			more, err = do(tx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeChunks deletes the last few chunks of a content.
func removeChunks(tx *db.Tx, c id.Content) (more bool, err error) {
	var last int64
	switch err := tx.Row(lastChunk, c).Scan(&last); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	}
	_, err = tx.Exec(deleteFrom, c, last-sliceChunks)
	return last >= sliceChunks, err
}

// Retain removes content whose time is over, and then the oldest released as
// long as what is released exceeds Config.ContentMax, in slices of a few
// milliseconds.
func (s *Spool) Retain(ctx context.Context, now time.Time) error {
	if err := s.retainTime(ctx, now); err != nil {
		return fmt.Errorf("retention by time: %w", err)
	}
	if err := s.retainSize(ctx, now); err != nil {
		return fmt.Errorf("retention by size: %w", err)
	}
	return nil
}

const (
	selectOver db.SQL = `SELECT id, size FROM content WHERE keep_until <= $1 ORDER BY keep_until LIMIT $2`
	// The sum of BIGINT is NUMERIC on PostgreSQL.
	sumReleased    db.SQL = `SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM content WHERE released_at IS NOT NULL`
	selectReleased db.SQL = `SELECT id, size FROM content WHERE released_at IS NOT NULL ORDER BY released_at, id LIMIT $1`
	endNow         db.SQL = `UPDATE content SET keep_until = $2 WHERE id = $1 AND keep_until > $2`
)

// sized is a content and its size in bytes.
type sized struct {
	id   id.Content
	size int64
}

func (s *Spool) retainTime(ctx context.Context, now time.Time) error {
	return s.slices(ctx, func(tx *db.Tx) (bool, error) {
		found, err := sizes(tx, selectOver, db.Micros(now), sliceContents)
		if err != nil {
			return false, err
		}
		start := time.Now()
		for i, c := range found {
			more, err := removeChunks(tx, c.id)
			if err != nil || more {
				return more, err
			}
			if _, err := tx.Exec(deleteRow, c.id); err != nil {
				return false, err
			}
			tx.OnCommit(func() { s.metrics.removed.Add(float64(c.size)) })
			if time.Since(start) > sliceTime {
				return i+1 < len(found) || len(found) == sliceContents, nil
			}
		}
		return len(found) == sliceContents, nil
	})
}

// retainSize ends the time of the oldest released, and has retainTime remove them.
func (s *Spool) retainSize(ctx context.Context, now time.Time) error {
	if s.cfg.ContentMax <= 0 {
		return nil
	}
	var excess int64
	err := s.db.View(ctx, func(tx *db.Tx) error { return tx.Row(sumReleased).Scan(&excess) })
	if err != nil {
		return err
	}
	for excess -= s.cfg.ContentMax; excess > 0; {
		var freed int64
		err := s.db.Batch(ctx, func(tx *db.Tx) (err error) {
			freed, err = endOldest(tx, excess, now)
			return err
		})
		if err != nil || freed == 0 {
			return err
		}
		if err := s.retainTime(ctx, now); err != nil {
			return err
		}
		excess -= freed
	}
	return nil
}

// endOldest ends the time of as many of the oldest released as make up the excess.
func endOldest(tx *db.Tx, excess int64, now time.Time) (freed int64, err error) {
	found, err := sizes(tx, selectReleased, sliceContents)
	if err != nil {
		return 0, err
	}
	for _, c := range found {
		if freed >= excess {
			break
		}
		if _, err := tx.Exec(endNow, c.id, db.Micros(now)); err != nil {
			return 0, err
		}
		freed += c.size
	}
	return freed, nil
}

func sizes(tx *db.Tx, q db.SQL, args ...any) ([]sized, error) {
	return db.Collect(tx, func(row db.Scanner) (c sized, err error) {
		err = row.Scan(&c.id, &c.size)
		return c, err
	}, q, args...)
}
