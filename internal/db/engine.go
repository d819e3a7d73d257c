//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"modernc.org/sqlite"
)

// Bounds of the write-ahead log. A checkpoint is tried when it has walPages
// pages; a log that grew beyond keepBytes, because a reader held it, is cut to
// that size when it is begun anew, and by DB.Run. As much may be unused in the
// file before space is given back to the disk.
const (
	walPages  = 10_000
	keepBytes = 64 << 20
)

// engine is SQLite on one file: one pool per way of opening it.
type engine struct {
	write, read, aside *sql.DB
	want, wantRead     []pragma
	rolledBack         atomic.Bool // the writer's transaction was rolled back, by whomever
}

// pragma is a setting, and the value by which the engine confirms it.
type pragma struct{ name, value, confirm string }

func newEngine(cfg Config, path string) *engine {
	e := &engine{want: pragmas(cfg), wantRead: readerPragmas(cfg)}
	open := func(want []pragma, extra ...string) *sql.DB {
		var c driver.Connector = connector{dsn: dsn(path, want, extra...)}
		if cfg.Wrap != nil {
			c = cfg.Wrap(c)
		}
		return sql.OpenDB(c)
	}
	e.write = open(append(e.want, pragma{name: "cache_size", value: "-16384"}))
	e.write.SetMaxOpenConns(1)
	e.read = open(e.wantRead, "mode=ro")
	e.read.SetMaxOpenConns(cfg.Readers + 1) // and the witness, see watcher
	e.aside = open(e.want, "_txlock=immediate")
	e.aside.SetMaxOpenConns(1)
	e.aside.SetMaxIdleConns(0)
	return e
}

// pragmas lists the settings of what writes, in the order in which they must be made:
// auto_vacuum before anything writes the file's first page.
func pragmas(cfg Config) []pragma {
	return []pragma{
		busyTimeout(cfg),
		{"auto_vacuum", "INCREMENTAL", "2"},
		{"journal_mode", "WAL", "wal"},
		{"synchronous", "FULL", "2"}, // in WAL mode: a sync of the log at every commit
		{"foreign_keys", "ON", "1"},
		{"wal_autocheckpoint", strconv.Itoa(walPages), strconv.Itoa(walPages)},
		{"journal_size_limit", strconv.Itoa(keepBytes), strconv.Itoa(keepBytes)},
		{"temp_store", "MEMORY", "2"},
	}
}

// readerPragmas lists the settings of a connection that can't write. That the
// file has a log was settled by the writer; it can only be confirmed here.
func readerPragmas(cfg Config) []pragma {
	return []pragma{busyTimeout(cfg), {"query_only", "ON", "1"}, {"temp_store", "MEMORY", "2"}}
}

func busyTimeout(cfg Config) pragma {
	ms := strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10)
	return pragma{"busy_timeout", ms, ms}
}

// dsn is the driver's name for the file. Its parameters must be written as
// _pragma=name(value): others are ignored without a word.
func dsn(path string, want []pragma, extra ...string) string {
	q := append([]string{"_dqs=0", "_defensive=1"}, extra...)
	for _, p := range want {
		q = append(q, fmt.Sprintf("_pragma=%s(%s)", p.name, p.value))
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: strings.Join(q, "&")}
	return u.String()
}

type connector struct{ dsn string }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := sqlite.NewConnector(c.dsn)
	if err != nil {
		return nil, err
	}
	return inner.Connect(ctx)
}

func (c connector) Driver() driver.Driver { return &sqlite.Driver{} }

func (e *engine) openWriter(ctx context.Context) (*session, error) {
	s, err := openSession(ctx, e.write, "BEGIN IMMEDIATE")
	if err != nil {
		return nil, err
	}
	s.rolledBack = &e.rolledBack
	err = s.conn.Raw(e.watchRollbacks)
	if err == nil {
		err = s.confirm(e.want)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (e *engine) openReader(ctx context.Context) (*session, error) {
	s, err := openSession(ctx, e.read, "BEGIN")
	if err != nil {
		return nil, err
	}
	if err := s.confirm(append(e.wantRead, pragma{"journal_mode", "", "wal"})); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// watchRollbacks has the engine tell when it gives up a transaction by itself,
// as it does when the disk is full. Statements that came after would otherwise
// run and commit each on its own.
func (e *engine) watchRollbacks(conn any) error {
	for {
		if h, ok := conn.(sqlite.HookRegisterer); ok {
			h.RegisterRollbackHook(func() { e.rolledBack.Store(true) })
			return nil
		}
		w, ok := conn.(interface{ Unwrap() driver.Conn })
		if !ok {
			return fmt.Errorf("driver connection %T has no rollback hook", conn)
		}
		conn = w.Unwrap()
	}
}

func (e *engine) close() error {
	return errors.Join(e.read.Close(), e.aside.Close(), e.write.Close())
}
