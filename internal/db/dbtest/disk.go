// Package dbtest makes the disk under a database full, for tests.
package dbtest

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync/atomic"
)

// ErrDisk is what the engine is told while the disk is full.
var ErrDisk = errors.New("the test's disk is full")

// Disk is a layer under the database: while it is full, nothing can be committed.
type Disk struct{ Full atomic.Bool }

// Wrap is for db.Config.
func (d *Disk) Wrap(c driver.Connector) driver.Connector { return diskConnector{c, d} }

type diskConnector struct {
	driver.Connector
	disk *Disk
}

func (c diskConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return diskConn{conn, c.disk}, nil
}

type diskConn struct {
	driver.Conn
	disk *Disk
}

func (c diskConn) Unwrap() driver.Conn { return c.Conn }

func (c diskConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil || query != "COMMIT" {
		return stmt, err
	}
	return diskCommit{stmt, c.disk}, nil
}

func (c diskConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c diskConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c diskConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

type diskCommit struct {
	driver.Stmt
	disk *Disk
}

func (s diskCommit) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if s.disk.Full.Load() {
		return nil, ErrDisk
	}
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}
