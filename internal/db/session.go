//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// session is a connection with its prepared statements. One goroutine uses it
// at a time. The zero value is one that is not open yet.
type session struct {
	conn       *sql.Conn
	statements map[SQL]*sql.Stmt
	begin      *sql.Stmt
	commit     *sql.Stmt
	rollback   *sql.Stmt
	version    *sql.Stmt
	rolledBack *atomic.Bool // nil for a reader
}

func openSession(ctx context.Context, pool *sql.DB, begin string) (*session, error) {
	conn, err := pool.Conn(context.WithoutCancel(ctx))
	if err != nil {
		return nil, classifyControl(err)
	}
	s := &session{conn: conn, statements: make(map[SQL]*sql.Stmt)}
	for _, p := range []struct {
		to   **sql.Stmt
		text string
	}{{&s.begin, begin}, {&s.commit, "COMMIT"}, {&s.rollback, "ROLLBACK"}, {&s.version, "PRAGMA data_version"}} {
		if *p.to, err = conn.PrepareContext(background(), p.text); err != nil { //nolint:sqlclosecheck // see close
			return nil, errors.Join(classifyControl(err), s.close())
		}
	}
	return s, nil
}

// confirm compares the engine's settings with the wanted ones.
func (s *session) confirm(want []pragma) error {
	for _, p := range want {
		var got string
		if err := s.conn.QueryRowContext(background(), "PRAGMA "+p.name).Scan(&got); err != nil {
			return classifyControl(fmt.Errorf("PRAGMA %s: %w", p.name, err))
		}
		if got != p.confirm {
			return fmt.Errorf("%w: PRAGMA %s is %q and has to be %q: the file was made by another program, "+
				"or its file system can't do it", ErrUnavailable, p.name, got, p.confirm)
		}
	}
	return nil
}

// prepared returns the statement for q, kept as long as the connection. There
// are as many as the program has constants of type SQL.
func (s *session) prepared(q SQL) (*sql.Stmt, error) {
	if stmt := s.statements[q]; stmt != nil {
		return stmt, nil
	}
	stmt, err := s.conn.PrepareContext(background(), string(q))
	if err != nil {
		return nil, fmt.Errorf("prepare %.60q: %w", strings.Join(strings.Fields(string(q)), " "), err)
	}
	s.statements[q] = stmt
	return stmt, nil
}

func (s *session) run(stmt *sql.Stmt) error {
	_, err := stmt.ExecContext(background())
	return classifyControl(err)
}

// undo ends a transaction that must leave nothing behind. It reports whether
// the connection can be used afterwards: SQLite may have rolled back by itself,
// and says so, which is as good.
func (s *session) undo() bool {
	_, err := s.rollback.ExecContext(background())
	return err == nil || strings.Contains(err.Error(), "no transaction is active")
}

// dataVersion changes when another connection has committed: https://sqlite.org/pragma.html#pragma_data_version
func (s *session) dataVersion() (int64, error) {
	var v int64
	err := s.version.QueryRowContext(background()).Scan(&v)
	return v, classifyControl(err)
}

// discard closes the connection for good, rather than giving it back to its
// pool. What goes wrong with that is of no interest any more.
func (s *session) discard() {
	_ = s.closeStatements()
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = s.conn.Close()
	s.conn = nil
}

func (s *session) close() error {
	if s == nil || s.conn == nil {
		return nil
	}
	err := errors.Join(s.closeStatements(), s.conn.Close())
	s.conn = nil
	return err
}

func (s *session) closeStatements() error {
	errs := make([]error, 0, len(s.statements)+4)
	for _, stmt := range s.statements {
		errs = append(errs, stmt.Close())
	}
	for _, stmt := range []*sql.Stmt{s.begin, s.commit, s.rollback, s.version} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// pages returns how many pages of the file are unused, and how many there are.
func (s *session) pages() (free, all int64, err error) {
	if err = s.conn.QueryRowContext(background(), "PRAGMA freelist_count").Scan(&free); err == nil {
		err = s.conn.QueryRowContext(background(), "PRAGMA page_count").Scan(&all)
	}
	return free, all, classifyControl(err)
}

// giveBack returns unused pages to the disk.
func (s *session) giveBack(pages int) error {
	_, err := s.conn.ExecContext(background(), "PRAGMA incremental_vacuum("+strconv.Itoa(pages)+")")
	return classifyControl(err)
}

// truncateLog copies the write-ahead log into the file and empties it, unless a
// reader of another process holds it; the writer does not wait for that one.
func (s *session) truncateLog(busy time.Duration) error {
	_, err := s.conn.ExecContext(background(), "PRAGMA busy_timeout(20); PRAGMA wal_checkpoint(TRUNCATE)")
	_, restored := s.conn.ExecContext(background(), "PRAGMA busy_timeout("+strconv.FormatInt(busy.Milliseconds(), 10)+")")
	return classifyControl(errors.Join(err, restored))
}
