//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"context"
	"errors"
	"fmt"
)

// View runs do on a snapshot that sees everything committed before. What do
// tries to write fails. A View must not be opened within another: the readers
// are few. Cancelling ctx withdraws a caller that still waits for a reader.
func (d *DB) View(ctx context.Context, do func(*Tx) error) (err error) {
	var s *session
	var open bool
	select {
	case s, open = <-d.readers:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !open || d.isClosed() {
		if open {
			d.readers <- s
		}
		return fmt.Errorf("closed: %w", ErrUnavailable)
	}
	defer func() { d.readers <- s }()
	if s.conn == nil {
		fresh, err := d.engine.openReader(ctx)
		if err != nil {
			return d.note(err)
		}
		s = fresh
	}
	if err := s.run(s.begin); err != nil {
		s.discard()
		return d.note(err)
	}
	tx := &Tx{session: s}
	defer func() {
		finished := tx.finish(err)
		if !s.undo() {
			s.discard()
		}
		err = d.note(finished)
	}()
	return do(tx)
}

func (d *DB) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// note counts trouble of the engine on its way out.
func (d *DB) note(err error) error {
	err = classify(err)
	if err != nil && isEngine(err) && !errors.Is(err, context.Canceled) {
		d.metrics.failed(err)
	}
	return err
}
