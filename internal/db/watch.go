//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"context"
	"sync"
	"time"
)

const (
	watchEvery = 100 * time.Millisecond
	// patience is how long the writer may take to say whether others have committed.
	patience  = 250 * time.Millisecond
	tendEvery = time.Second
	// vacuumSlice is how many pages one step gives back to the disk: about a
	// millisecond of the writer's time.
	vacuumSlice  = 128
	vacuumSlices = 50 // per tendEvery

	unknown = -1 // a data_version that no connection has
)

// OnForeignChange has do called, in the goroutine of Run, after another process
// has committed: what is kept in memory may be out of date. Rarely it is called
// with nothing changed, see watcher. do must not wait for the writer. Register before Run.
func (d *DB) OnForeignChange(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onChange = append(d.onChange, do)
}

// Run looks for commits of other processes ten times a second and, once a
// second, gives unused space back to the disk and bounds the write-ahead log.
// It returns nil when ctx ends. What fails is tried again and counted in the metrics.
func (d *DB) Run(ctx context.Context) error {
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() {
		tick := time.NewTicker(tendEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = d.tend(ctx)
			}
		}
	})
	w := watcher{db: d, answers: make(chan answer, 1)}
	w.run(ctx)
	return nil
}

// watcher notices commits of other processes. The writer can tell them from own
// ones, but it can't be asked while it waits for another process, which may
// commit and take the database again. Then the witness is asked, a connection
// for this alone. To it every commit is a foreign one; but who asks the writer
// is first in line, so as good as no own commit comes between question and
// answer, and one that does is taken for foreign rather than the other way round.
type watcher struct {
	db      *DB
	answers chan answer // of the writer, one at a time

	asking  bool
	since   time.Time // of the first question since the writer's last answer; zero: none
	witness *session
	seen    int64 // the witness's data_version before since, or when last told of
}

type answer struct {
	changed bool
	err     error
}

func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	defer func() { _ = w.witness.close() }()
	for {
		select {
		case <-ctx.Done():
			if w.asking {
				<-w.answers
			}
			return
		case <-tick.C:
			w.look()
			w.ask(ctx)
		case a := <-w.answers:
			w.asking = false
			if a.err == nil {
				w.since = time.Time{}
			}
			if a.changed {
				w.db.tellChange()
			}
		}
	}
}

// look asks the witness: for what to compare with, before the writer is asked,
// or, when the writer has been silent for too long, for what has changed since.
func (w *watcher) look() {
	first := w.since.IsZero()
	if !first && time.Since(w.since) < patience {
		return
	}
	v, err := w.testify()
	if first {
		w.seen, w.since = v, time.Now()
	} else if err == nil && v != w.seen {
		w.seen = v
		w.db.tellChange()
	}
}

// testify returns the witness's data_version; with an error, one that is no other's.
func (w *watcher) testify() (int64, error) {
	if w.witness == nil {
		s, err := w.db.engine.openReader(background())
		if err != nil {
			return unknown, w.db.note(err)
		}
		w.witness = s
	}
	v, err := w.witness.dataVersion()
	if err != nil {
		w.witness.discard()
		w.witness = nil
		return unknown, w.db.note(err)
	}
	return v, nil
}

// ask has the writer asked, unless it still is.
func (w *watcher) ask(ctx context.Context) {
	if w.asking {
		return
	}
	w.asking = true
	go func() {
		var a answer
		a.changed, a.err = w.db.changed(ctx)
		w.answers <- a
	}()
}

// changed reports whether another process has committed since it was last called.
func (d *DB) changed(ctx context.Context) (changed bool, err error) {
	err = d.first(ctx, func(s *session) error {
		v, err := s.dataVersion()
		if err == nil {
			changed = v != d.version
			d.version = v
		}
		return err
	})
	return changed, err
}

func (d *DB) tellChange() {
	d.metrics.changes.Inc()
	d.mu.Lock()
	told := d.onChange
	d.mu.Unlock()
	for _, do := range told {
		do()
	}
}

// tend keeps the files from being larger than they need be.
func (d *DB) tend(ctx context.Context) error {
	if err := d.cutLog(ctx); err != nil {
		return err
	}
	return d.vacuum(ctx)
}

// cutLog empties a write-ahead log that has outgrown its bound because there
// was always some reader that held it, and, while space is short, every one that
// is worth it: what vacuum gives back is free only then. It keeps readers back for a moment; a
// View that lasts longer than that puts it off to the next time.
func (d *DB) cutLog(ctx context.Context) error {
	bound := d.keep
	if d.low() {
		bound /= 16
	}
	if fileSize(d.path+"-wal") <= bound {
		return nil
	}
	// Most of it can be copied beside the writer.
	if _, err := d.engine.aside.ExecContext(background(), "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return d.note(classifyControl(err))
	}
	held := d.holdReaders(ctx, watchEvery)
	defer func() {
		for _, s := range held {
			d.readers <- s
		}
	}()
	if len(held) < d.cfg.Readers {
		return nil
	}
	return d.alone(ctx, func(s *session) error { return s.truncateLog(d.cfg.BusyTimeout) })
}

// holdReaders takes readers out of use until it has all, or for at most the given time.
func (d *DB) holdReaders(ctx context.Context, wait time.Duration) []*session {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	held := make([]*session, 0, d.cfg.Readers)
	for len(held) < d.cfg.Readers {
		select {
		case s, open := <-d.readers:
			if !open {
				return held
			}
			held = append(held, s)
		case <-timer.C:
			return held
		case <-ctx.Done():
			return held
		}
	}
	return held
}

// vacuum gives pages back to the disk when a quarter of the file, or any part of
// it while space is short, is unused.
func (d *DB) vacuum(ctx context.Context) error {
	for range vacuumSlices {
		more := false
		err := d.alone(ctx, func(s *session) error {
			free, all, err := s.pages()
			if err != nil || !d.worthVacuum(free, all) {
				return err
			}
			more = true
			return s.giveBack(vacuumSlice)
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (d *DB) worthVacuum(free, all int64) bool {
	const pageSize = 4096
	if free == 0 {
		return false
	}
	return free*pageSize > d.keep && free > all/4 || d.low()
}

// low reports whether less than the reserve is free.
func (d *DB) low() bool {
	free, err := d.room.get(d.cfg.DataDir)
	return err == nil && free < d.cfg.ReserveBytes
}
