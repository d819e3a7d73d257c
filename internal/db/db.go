// Package db opens, migrates and transacts: many callers share one commit, and it knows no table by name.
//
//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults of Config.
const (
	DefaultReserveBytes = 256 << 20
	DefaultBusyTimeout  = 5 * time.Second
)

// Config says which database to open, and how.
type Config struct {
	// URL of the database; empty is the SQLite file mittente.db in DataDir.
	URL string
	// DataDir is the folder of the SQLite file; it is made when missing. Its
	// file system is the one whose free space Room looks at.
	DataDir string
	// ReserveBytes must stay free on the disk for mail to be accepted, so that
	// what was accepted can still be settled; 0 is DefaultReserveBytes.
	ReserveBytes int64
	// BusyTimeout is how long to wait for another process that holds the
	// database; 0 is DefaultBusyTimeout.
	BusyTimeout time.Duration
	// Readers is how many Views run at once; 0 is the number of CPUs, at least 4.
	Readers int
	// Wrap, if not nil, is put around the driver: the seam at which a test
	// makes disk and engine fail.
	Wrap func(driver.Connector) driver.Connector
}

func (c Config) withDefaults() Config {
	c.ReserveBytes = cmp.Or(c.ReserveBytes, DefaultReserveBytes)
	c.BusyTimeout = cmp.Or(c.BusyTimeout, DefaultBusyTimeout)
	c.Readers = cmp.Or(c.Readers, max(4, runtime.NumCPU()))
	return c
}

// Validate returns an error that names the field at fault.
func (c Config) Validate() error {
	switch scheme, _, ok := strings.Cut(c.URL, "://"); {
	case ok && (scheme == "postgres" || scheme == "postgresql"):
		return errors.New("database: PostgreSQL comes later; leave it empty for SQLite in data_dir")
	case c.URL != "":
		return fmt.Errorf("database: %q is not known; leave it empty for SQLite in data_dir", scheme)
	case c.DataDir == "":
		return errors.New("data_dir: must be set")
	case c.ReserveBytes < 0:
		return errors.New("reserve: must not be negative")
	case c.BusyTimeout < 0:
		return errors.New("busy timeout: must not be negative")
	}
	return nil
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	cfg     Config
	path    string
	engine  *engine
	metrics *metrics
	readers chan *session // idle ones, not yet opened ones included
	room    roomCache
	keep    int64 // bytes that log, and unused part of the file, may have

	mu       sync.Mutex // guards what follows
	idle     *sync.Cond // signalled when nobody leads
	queue    []*call
	ticket   uint64 // of the last caller that came
	leading  bool
	closed   bool
	onChange []func()

	// The writer belongs to whoever leads.
	writer  *session
	version int64 // PRAGMA data_version of the writer when last looked at

	trouble atomic.Pointer[trouble]
}

// Open opens the database and makes sure that it is as durable as it has to be:
// it returns an error when the engine did not take a setting. It starts no
// goroutine of its own; reg may be nil.
func Open(ctx context.Context, cfg Config, reg prometheus.Registerer) (*DB, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	cfg.DataDir = dir
	path := filepath.Join(dir, fileName)
	if err := interruptedRestore(path); err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, err
	}
	d := &DB{cfg: cfg, path: path, keep: keepBytes, readers: make(chan *session, cfg.Readers)}
	d.idle = sync.NewCond(&d.mu)
	d.engine = newEngine(cfg, path)
	if d.metrics, err = newMetrics(d, reg); err != nil {
		return nil, err
	}
	for range cfg.Readers {
		d.readers <- &session{}
	}
	if err := d.openWriter(ctx); err != nil {
		return nil, errors.Join(err, d.engine.close())
	}
	return d, nil
}

// create makes folder and file, readable by their owner only: mail is in it.
// SQLite gives its WAL the mode of the file.
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the path is the operator's
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	// The names must last as long as what is synced under them.
	return errors.Join(syncFolder(filepath.Dir(path)), syncFolder(filepath.Dir(filepath.Dir(path))))
}

// syncFolder writes the names in a folder to the disk. A folder that may not be
// read was not made by this process.
func syncFolder(path string) error {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// openWriter opens the writing connection and notes where the database stands.
func (d *DB) openWriter(ctx context.Context) error {
	w, err := d.engine.openWriter(ctx)
	if err != nil {
		return err
	}
	d.writer = w
	d.version, err = w.dataVersion()
	return err
}

// Close waits for the transactions that run or wait, and closes the database.
// Batch and View return ErrUnavailable afterwards.
func (d *DB) Close() error {
	d.mu.Lock()
	again := d.closed
	d.closed = true
	for d.leading {
		d.idle.Wait()
	}
	d.mu.Unlock()
	if again {
		return nil
	}
	var errs []error
	for range d.cfg.Readers {
		errs = append(errs, (<-d.readers).close())
	}
	close(d.readers)
	errs = append(errs, d.writer.close(), d.engine.close())
	d.metrics.unregister()
	return errors.Join(errs...)
}

// Micros returns the storage form of t: microseconds since 1970 UTC; the zero time is 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time returns the time that Micros stored, in UTC; 0 is the zero time.
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
