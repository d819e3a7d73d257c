package notify

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync/atomic"
)

// disk can be made full: then nothing can be committed.
type disk struct{ full atomic.Bool }

var errDisk = errors.New("the test's disk is full")

func (d *disk) wrap(c driver.Connector) driver.Connector { return diskConnector{c, d} }

type diskConnector struct {
	driver.Connector
	disk *disk
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
	disk *disk
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
	disk *disk
}

func (s diskCommit) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if s.disk.full.Load() {
		return nil, errDisk
	}
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}
