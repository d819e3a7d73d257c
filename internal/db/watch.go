//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"context"
	"time"
)

const (
	watchEvery = 100 * time.Millisecond
	tendEvery  = time.Second
	// vacuumSlice is how many pages one step gives back to the disk: about a
	// millisecond of the writer's time.
	vacuumSlice  = 128
	vacuumSlices = 50 // per tendEvery
)

// OnForeignChange has do called, in the goroutine of Run, after another process
// has committed: what is kept in memory may be out of date. Register before Run.
func (d *DB) OnForeignChange(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onChange = append(d.onChange, do)
}

// Run looks for commits of other processes ten times a second and, once a
// second, gives unused space back to the disk and bounds the write-ahead log.
// It returns nil when ctx ends. What fails is tried again and counted in the metrics.
func (d *DB) Run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	tended := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		_ = d.poll(ctx)
		if time.Since(tended) >= tendEvery {
			_ = d.tend(ctx)
			tended = time.Now()
		}
	}
}

// poll tells those who registered when another process has committed.
func (d *DB) poll(ctx context.Context) error {
	changed := false
	err := d.alone(ctx, func(s *session) error {
		v, err := s.dataVersion()
		changed = err == nil && v != d.version
		if changed {
			d.version = v
		}
		return err
	})
	if !changed {
		return err
	}
	d.metrics.changes.Inc()
	d.mu.Lock()
	told := d.onChange
	d.mu.Unlock()
	for _, do := range told {
		do()
	}
	return nil
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
