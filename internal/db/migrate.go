package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/pressly/goose/v3"
	"golang.org/x/sys/unix"
)

// Schema is what one room keeps in the database: its migrations, numbered
// NNNN_name.sql in the form of goose, at the root of FS or in its folder
// "schema". The text is the same for both engines.
type Schema struct {
	Room string
	FS   fs.FS
}

// ErrNewer says that the database was last used by a newer mittente.
var ErrNewer = errors.New("the database is newer than this program")

// Migrate brings the tables of every room up to date, forward only, each room
// with a version table of its own. Processes that start at once take turns. It
// returns ErrNewer for a database that has migrations this program does not know.
func (d *DB) Migrate(ctx context.Context, schemas ...Schema) error {
	unlock, err := lockFile(ctx, d.path+".lock")
	if err != nil {
		return classifyControl(err)
	}
	defer unlock()
	for _, s := range schemas {
		if err := migrate(ctx, d.engine.aside, goose.DialectSQLite3, s); err != nil {
			return d.note(err)
		}
	}
	return nil
}

// versionTable is how the tables begin in which each room's version is kept.
const versionTable = "schema_version_"

func migrate(ctx context.Context, pool *sql.DB, dialect goose.Dialect, s Schema) error {
	fail := func(err error) error { return fmt.Errorf("schema of %s: %w", s.Room, err) }
	files, err := s.files()
	if err != nil {
		return fail(err)
	}
	p, err := goose.NewProvider(dialect, pool, files, goose.WithTableName(versionTable+s.Room),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fail(err)
	}
	current, target, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return fail(err)
	case current > target:
		return fail(fmt.Errorf("%w: it is at version %d, the program at %d", ErrNewer, current, target))
	}
	if _, err := p.Up(ctx); err != nil {
		return fail(err)
	}
	return nil
}

func (s Schema) files() (fs.FS, error) {
	if names, err := fs.Glob(s.FS, "*.sql"); err != nil || len(names) > 0 {
		return s.FS, err
	}
	return fs.Sub(s.FS, "schema")
}

// lockFile takes a lock that ends with the process. It is not on the database's
// own file: closing another descriptor of that would drop SQLite's locks
// (https://sqlite.org/howtocorrupt.html §2.2).
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the path is the operator's
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
