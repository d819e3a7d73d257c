//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"
)

// MigratePostgres is Migrate for a PostgreSQL server, for the test of the statements.
func MigratePostgres(ctx context.Context, pool *sql.DB, s Schema) error {
	return migrate(ctx, pool, goose.DialectPostgres, s)
}

// Prepare has the writer prepare q.
func Prepare(ctx context.Context, d *DB, q SQL) error {
	return d.alone(ctx, func(s *session) error {
		_, err := s.prepared(q) //nolint:sqlclosecheck // kept as long as its connection
		return err
	})
}

// SetAside is for tests that end it before its time.
func SetAside(path string, rename func(from, to string) error) (string, error) {
	return setAside(path, rename)
}
