//nolint:contextcheck // a caller's context never reaches the driver: see background
package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
)

// ErrNotABackup says that a file is no database of this program, or a damaged one.
var ErrNotABackup = errors.New("not a usable backup")

const (
	fileName       = "mittente.db"
	restoringName  = "restoring" // folder of a copy under way; Open refuses to make an empty database beside it
	pagesPerStep   = 1024        // 4 MiB between two looks at the context
	asideTimestamp = "20060102-150405"
)

// Progress is told how many pages of how many are copied, now and then.
type Progress func(done, all int)

// Backup writes the database as it stands when the call begins to a file, which
// must not exist, and reads the copy through once. Others go on reading and
// writing meanwhile; the write-ahead log grows with what they write. The file is
// on the disk when Backup returns; after an error, or when ctx ends, it is removed.
func (d *DB) Backup(ctx context.Context, file string, tell Progress) error {
	return copyDatabase(ctx, d.path, file, tell)
}

// Restore puts a copy of the backup file in the place of the database of a data
// folder, over which no process may run. Before, check is given a folder that
// holds the copy, to open it there and to say no. What stood there is kept beside
// it under the name that is returned, empty when there was nothing. The backup is
// not changed. ErrNotABackup says that it can't be used. After an error nothing
// was changed, unless a name is returned with it: that is the old database then.
func Restore(ctx context.Context, file, dataDir string, tell Progress, check func(dir string) error) (aside string, err error) {
	if err := inspect(file); err != nil {
		return "", err
	}
	fresh := filepath.Join(dataDir, restoringName)
	if err := errors.Join(os.RemoveAll(fresh), os.Mkdir(fresh, 0o700)); err != nil {
		return "", err
	}
	defer func() {
		if aside == "" || err == nil { // else it is the newer of two, and worth keeping
			err = errors.Join(err, os.RemoveAll(fresh))
		}
	}()
	if err := copyDatabase(ctx, file, filepath.Join(fresh, fileName), tell); err != nil {
		return "", err
	}
	if check != nil {
		if err := check(fresh); err != nil {
			return "", err
		}
	}
	if aside, err = setAside(filepath.Join(dataDir, fileName), os.Rename); err != nil {
		return aside, err
	}
	if err := os.Rename(filepath.Join(fresh, fileName), filepath.Join(dataDir, fileName)); err != nil {
		return aside, err
	}
	return aside, syncFolder(dataDir)
}

// setAside renames a database with its log, which belongs to it while nobody has
// closed it cleanly. Whatever it is ended by, the database is either where it was,
// with its log, or aside with it, and then Open refuses the folder (restoringName):
// a database without its log would look sound, and lack what was acknowledged last.
func setAside(path string, rename func(from, to string) error) (aside string, err error) {
	name := path + ".before-restore-" + time.Now().UTC().Format(asideTimestamp)
	aside = name
	for n := 2; exists(aside) || exists(aside+"-wal"); n++ { // rename overwrites
		aside = fmt.Sprintf("%s-%d", name, n)
	}
	log, folder := path+"-wal", filepath.Dir(path)
	if !exists(path) {
		if exists(log) { // left by a restore that did not end: it must not come to lie beside another database
			return "", rename(log, aside+"-wal")
		}
		return "", nil
	}
	if err := os.Link(log, aside+"-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := errors.Join(syncFolder(folder), rename(path, aside), syncFolder(folder)); err != nil {
		return "", err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return aside, err
		}
	}
	return aside, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// interruptedRestore is the error of opening a folder in which a restore ended
// before it was done: an empty database made there would hide that.
func interruptedRestore(path string) error {
	if exists(path) || !exists(filepath.Join(filepath.Dir(path), restoringName)) {
		return nil
	}
	return fmt.Errorf("%w: a restore into %s did not end: run it again", ErrUnavailable, filepath.Dir(path))
}

// copyDatabase copies one file of SQLite into another, in one snapshot.
func copyDatabase(ctx context.Context, from, to string, tell Progress) (err error) {
	if err := claimFile(to); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeDatabase(to))
		}
	}()
	conn, err := connector{dsn(from, readerPragmas(Config{BusyTimeout: DefaultBusyTimeout}))}.Connect(background())
	if err != nil {
		return classifyControl(err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := copyPages(ctx, conn, to, tell); err != nil {
		return err
	}
	if err := syncFile(to); err != nil {
		return err
	}
	return inspect(to)
}

// claimFile makes the file, readable by its owner only.
func claimFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the path is the operator's
	if err != nil {
		return err
	}
	return f.Close()
}

// copyPages holds one read transaction for all steps: without it every commit of
// another process would make the copy begin again, and under load it would never
// end (https://sqlite.org/c3ref/backup_finish.html, "Concurrent Usage").
func copyPages(ctx context.Context, conn driver.Conn, to string, tell Progress) (err error) {
	source, ok := conn.(interface {
		driver.ExecerContext
		driver.QueryerContext
		NewBackup(dst string) (*sqlite.Backup, error)
	})
	if !ok {
		return fmt.Errorf("driver connection %T can't be backed up", conn)
	}
	if err := pin(source); err != nil {
		return err
	}
	b, err := source.NewBackup(to)
	if err != nil {
		return classifyControl(err)
	}
	defer func() { err = errors.Join(err, classifyControl(b.Finish())) }()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err = b.Step(pagesPerStep); err != nil {
			return classifyControl(err)
		}
		if tell != nil {
			tell(b.PageCount()-b.Remaining(), b.PageCount())
		}
	}
	return nil
}

// pin begins a read transaction and reads, which is what fixes its snapshot.
func pin(conn interface {
	driver.ExecerContext
	driver.QueryerContext
},
) error {
	if _, err := conn.ExecContext(background(), "BEGIN", nil); err != nil {
		return classifyControl(err)
	}
	rows, err := conn.QueryContext(background(), "SELECT count(*) FROM sqlite_schema", nil)
	if err != nil {
		return classifyControl(err)
	}
	return errors.Join(rows.Next(make([]driver.Value, 1)), rows.Close())
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the path is the operator's
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), syncFolder(filepath.Dir(path)))
}

// removeDatabase removes a file of SQLite with what may lie beside it.
func removeDatabase(path string) error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// inspect reads a file through and makes sure that it is a sound database that
// Migrate once worked on. It writes nothing, not even a log beside it.
func inspect(path string) (err error) {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return fmt.Errorf("%w: beside %s lies a log, so it is a database in use or a plain copy of one; "+
			"a part of it may be in that log only", ErrNotABackup, path)
	}
	pool := sql.OpenDB(connector{dsn(path, nil, "mode=ro", "immutable=1")})
	defer func() { err = errors.Join(err, pool.Close()) }()
	var verdict string
	if err := pool.QueryRowContext(background(), "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotABackup, path, err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s is damaged: %s", ErrNotABackup, path, verdict)
	}
	var rooms int
	const versions = `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, length($1)) = $1`
	if err := pool.QueryRowContext(background(), versions, versionTable).Scan(&rooms); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotABackup, path, err)
	}
	if rooms == 0 {
		return fmt.Errorf("%w: %s is a database of another program", ErrNotABackup, path)
	}
	return nil
}
