package db

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
)

// SQL is the text of a statement: always a constant, valid on SQLite and on
// PostgreSQL 15, with parameters $1, $2 ….
type SQL string

// Dialect is the engine's way of speaking where the two differ.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota
	PostgreSQL
)

// String returns the name of the engine.
func (d Dialect) String() string {
	if d == PostgreSQL {
		return "PostgreSQL"
	}
	return "SQLite"
}

// Choose returns the text for the dialect, where one text can't do: claiming
// rows wants FOR UPDATE SKIP LOCKED on PostgreSQL, and one writer needs nothing.
// The name of the constant that only PostgreSQL reads ends in "Postgres".
func (d Dialect) Choose(sqlite, postgres SQL) SQL {
	if d == PostgreSQL {
		return postgres
	}
	return sqlite
}

// Tx is a transaction, valid until the callback that was given it returns. It
// must not be used by two goroutines at once.
//
// A statement that fails spoils its transaction: those that follow return the
// same error, and nothing is committed even if the callback returns nil. Both
// engines behave alike that way.
type Tx struct {
	session *session
	dialect Dialect
	hooks   []func()
	rows    []*sql.Rows
	row     []*sql.Row
	failed  error // of the first statement that failed
	wrote   bool
	over    bool
}

// Exec runs a statement and returns how many rows it changed.
func (t *Tx) Exec(q SQL, args ...any) (int64, error) {
	stmt, err := t.statement(q) //nolint:sqlclosecheck // kept as long as its connection
	if err != nil {
		return 0, err
	}
	res, err := stmt.ExecContext(background(), args...)
	if err != nil {
		return 0, t.fail(q, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, t.fail(q, err)
	}
	return n, nil
}

// Row runs a statement that returns at most one row; Scan returns
// sql.ErrNoRows when there is none.
func (t *Tx) Row(q SQL, args ...any) *sql.Row {
	stmt, err := t.statement(q) //nolint:sqlclosecheck // kept as long as its connection
	if err != nil {
		return t.session.begin.QueryRowContext(background(), failure{err})
	}
	row := stmt.QueryRowContext(background(), args...)
	if err := row.Err(); err != nil {
		_ = t.fail(q, err)
		return row
	}
	t.row = append(t.row, row)
	return row
}

// Rows runs a statement that returns rows. The caller closes them; what is
// still open when the callback returns is closed then.
func (t *Tx) Rows(q SQL, args ...any) (*sql.Rows, error) {
	stmt, err := t.statement(q) //nolint:sqlclosecheck // kept as long as its connection
	if err != nil {
		return nil, err
	}
	rows, err := stmt.QueryContext(background(), args...)
	if err == nil {
		err = rows.Err()
	}
	if err != nil {
		return nil, t.fail(q, err)
	}
	t.rows = append(t.rows, rows)
	return rows, nil
}

// OnCommit has do called after the commit is durable and before Batch returns,
// in the goroutine that called Batch. It is dropped when the transaction is
// rolled back. A callback of Batch may run twice: what it does outside the
// database, it does here.
func (t *Tx) OnCommit(do func()) { t.hooks = append(t.hooks, do) }

// Dialect returns the engine's way of speaking.
func (t *Tx) Dialect() Dialect { return t.dialect }

// statement prepares q, unless the transaction can run no more statements.
func (t *Tx) statement(q SQL) (*sql.Stmt, error) {
	switch {
	case t.over:
		return nil, errOver
	case t.failed != nil:
		return nil, t.failed
	case t.session.gaveUp():
		t.failed = errRolledBack
		return nil, t.failed
	}
	stmt, err := t.session.prepared(q)
	if err != nil {
		return nil, t.fail(q, err)
	}
	t.wrote = t.wrote || !isSelect(q)
	return stmt, nil
}

func (t *Tx) fail(q SQL, err error) error {
	t.failed = classify(fmt.Errorf("%.60q: %w", strings.Join(strings.Fields(string(q)), " "), err))
	return t.failed
}

// failure is an argument that can't be had: the only way to make a sql.Row whose
// Scan returns a given error.
type failure struct{ err error }

// Value returns the error.
func (f failure) Value() (driver.Value, error) { return nil, f.err }

// finish closes what the callback left open and says whether its work stands.
func (t *Tx) finish(err error) error {
	t.over = true
	for _, rows := range t.rows {
		_ = rows.Close()
	}
	for _, row := range t.row {
		_ = row.Scan() // does nothing but close it
	}
	t.rows, t.row = nil, nil
	switch {
	case err != nil:
		return err
	case t.failed != nil:
		return t.failed
	case t.session.gaveUp():
		return errRolledBack
	}
	return nil
}

// gaveUp reports whether the engine has rolled back the writer's transaction by itself.
func (s *session) gaveUp() bool { return s.rolledBack != nil && s.rolledBack.Load() }

// isSelect reports whether q certainly writes nothing.
func isSelect(q SQL) bool {
	text := strings.TrimLeft(string(q), " \t\r\n")
	return len(text) >= 6 && strings.EqualFold(text[:6], "select")
}
