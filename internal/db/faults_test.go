package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"sync"
)

// faults is a layer under database/sql that counts what reaches the engine, and
// fails where a test says.
type faults struct {
	mu     sync.Mutex
	log    []string                          // BEGIN, COMMIT, ROLLBACK in the order in which they ended
	before func(query string) error          // fails a statement before the engine sees it
	after  func(query string, e error) error // replaces the result of a statement
}

func (f *faults) wrap(inner driver.Connector) driver.Connector {
	return faultyConnector{inner, f}
}

// failOn makes statements that begin with verb fail with err, the first n of them.
func (f *faults) failOn(verb string, n int, err error) {
	f.set(func(query string) error {
		if n > 0 && strings.HasPrefix(query, verb) {
			n--
			return err
		}
		return nil
	})
}

func (f *faults) set(before func(query string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *faults) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, what)
}

// commits returns how often the engine has committed.
func (f *faults) commits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, entry := range f.log {
		if entry == "COMMIT" {
			n++
		}
	}
	return n
}

func (f *faults) exec(query string, do func() (driver.Result, error)) (driver.Result, error) {
	f.mu.Lock()
	var err error
	if f.before != nil {
		err = f.before(query)
	}
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	res, err := do()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after != nil {
		err = f.after(query, err)
	}
	if err == nil {
		f.log = append(f.log, strings.Fields(query)[0])
	}
	return res, err
}

type faultyConnector struct {
	driver.Connector
	f *faults
}

func (c faultyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return faultyConn{conn, c.f}, nil
}

type faultyConn struct {
	driver.Conn
	f *faults
}

func (c faultyConn) Unwrap() driver.Conn { return c.Conn }

func (c faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return faultyStmt{stmt, query, c.f}, nil
}

func (c faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.f.exec(query, func() (driver.Result, error) {
		return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	})
}

func (c faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

type faultyStmt struct {
	driver.Stmt
	query string
	f     *faults
}

func (s faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.f.exec(s.query, func() (driver.Result, error) {
		return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	})
}

func (s faultyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.f.mu.Lock()
	before := s.f.before
	s.f.mu.Unlock()
	if before != nil {
		if err := before(s.query); err != nil {
			return nil, err
		}
	}
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

// coded is an error with a result code of SQLite.
type coded int

func (c coded) Error() string { return "injected" }
func (c coded) Code() int     { return int(c) }

var errInjected = errors.New("injected")
