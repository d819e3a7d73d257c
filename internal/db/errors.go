package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"syscall"

	sqlite3 "modernc.org/sqlite/lib"
)

// What the engine's failures come to; errors.Is finds them in everything that
// Batch, View and Room return.
var (
	// ErrUnavailable says that the database can't be used now: it is held by
	// another, broken, or closed.
	ErrUnavailable = errors.New("database unavailable")
	// ErrBusy says that another process held the database for longer than
	// Config.BusyTimeout; it is also an ErrUnavailable.
	ErrBusy = fmt.Errorf("held by another process: %w", ErrUnavailable)
	// ErrFull says that there is no space left, or that the engine could not write.
	ErrFull = errors.New("no space left for the database")
	// ErrConstraint says that a row broke a constraint of its table, as a
	// second one with the same key does.
	ErrConstraint = errors.New("constraint violated")
)

// errRolledBack is for statements after the engine gave up a transaction by itself.
var errRolledBack = fmt.Errorf("the engine has rolled the transaction back: %w", ErrUnavailable)

// errOver is for a Tx that was kept after its callback returned.
var errOver = errors.New("the transaction is over")

// classify says what an error of the engine comes to; one that is none of the
// engine's passes through.
func classify(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrFull) || errors.Is(err, ErrConstraint) {
		return err
	}
	if kind := kindOf(err); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return err
}

// classifyControl is classify for BEGIN, COMMIT and the like, where no error is
// the caller's.
func classifyControl(err error) error {
	err = classify(err)
	if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrFull) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func kindOf(err error) error {
	var coded interface{ Code() int }
	switch {
	case errors.As(err, &coded):
		return kindOfCode(coded.Code())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ErrFull
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, syscall.EIO):
		return ErrUnavailable
	}
	return nil
}

// kindOfCode reads an (extended) result code of SQLite: https://sqlite.org/rescode.html
func kindOfCode(code int) error {
	switch code {
	case sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE: // quota, full disk behind a mapping
		return ErrFull
	}
	switch code & 0xff {
	case sqlite3.SQLITE_FULL:
		return ErrFull
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return ErrBusy
	case sqlite3.SQLITE_CONSTRAINT:
		return ErrConstraint
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_ABORT, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOLFS:
		return ErrUnavailable
	}
	return nil // a mistake in the statement, say
}

// isEngine reports whether err is trouble of the engine, not of one caller.
func isEngine(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrFull)
}

// background is the context of every statement: a caller's never reaches the
// driver, because an interrupted statement makes SQLite roll back what other
// callers have written in the same transaction.
func background() context.Context { return context.Background() }
