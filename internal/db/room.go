package db

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	roomFresh   = 250 * time.Millisecond // how long an answer of the file system is good
	troubleLast = time.Second            // how long a failure keeps Room from saying yes
)

type roomCache struct {
	mu   sync.Mutex
	at   time.Time
	free int64
	err  error
}

// trouble is the last failure of the engine, until a commit succeeds.
type trouble struct {
	at  time.Time
	err error
}

// Room says whether there is room to accept mail: nil, or an error that is
// ErrFull when less than the reserve is free (what was accepted can still be
// settled then), or ErrUnavailable. It is cheap. After a failure of the engine
// it says no for a second, so that not everybody waits for it anew.
func (d *DB) Room() error {
	if d.isClosed() {
		return fmt.Errorf("closed: %w", ErrUnavailable)
	}
	if t := d.trouble.Load(); t != nil && time.Since(t.at) < troubleLast {
		return t.err
	}
	free, err := d.room.get(d.cfg.DataDir)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case free < d.cfg.ReserveBytes:
		return fmt.Errorf("%w: %d bytes are free, %d are kept in reserve", ErrFull, free, d.cfg.ReserveBytes)
	}
	return nil
}

func (c *roomCache) get(dir string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.at.IsZero() || now.Sub(c.at) >= roomFresh {
		c.free, c.err = freeBytes(dir)
		c.at = now
	}
	return c.free, c.err
}

// freeBytes returns what is free for this process on the file system of dir.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	for {
		err := unix.Statfs(dir, &s)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("free space of %s: %w", dir, err)
		}
		return int64(s.Bavail) * int64(s.Bsize), nil //nolint:gosec,unconvert // a disk of 8 EiB is far off; the fields have other types on other systems
	}
}
