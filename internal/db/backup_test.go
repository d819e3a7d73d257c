package db_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"mittente/internal/db"
)

const (
	insertPair db.SQL = `INSERT INTO pair (id, twin) VALUES ($1, $1)`
	countPairs db.SQL = `SELECT count(*), coalesce(sum(CASE WHEN id = twin THEN 0 ELSE 1 END), 0), coalesce(max(id), 0) FROM pair`
	breakPair  db.SQL = `UPDATE pair SET twin = twin + 1 WHERE id = $1`
	mendPair   db.SQL = `UPDATE pair SET twin = id WHERE id = $1`
	fillPair   db.SQL = `UPDATE pair SET filler = $2 WHERE id = $1`
)

func pairs() db.Schema {
	return db.Schema{Room: "pairs", FS: fstest.MapFS{"0001_pairs.sql": &fstest.MapFile{Data: []byte(
		"-- +goose Up\nCREATE TABLE pair (id BIGINT NOT NULL PRIMARY KEY, twin BIGINT NOT NULL, filler BYTEA);\n")}}}
}

// writePairs commits rows until it is told to stop; in between, inside of each
// transaction, a row stands wrong.
func writePairs(t *testing.T, d *db.DB, stop *atomic.Bool) (written <-chan int64) {
	t.Helper()
	done := make(chan int64, 1)
	go func() {
		var n int64
		for ; !stop.Load(); n++ {
			err := d.Batch(context.Background(), func(tx *db.Tx) error {
				for _, step := range []struct {
					q    db.SQL
					args []any
				}{{insertPair, []any{n}}, {breakPair, []any{n}}, {fillPair, []any{n, make([]byte, 4096)}}, {mendPair, []any{n}}} {
					if _, err := tx.Exec(step.q, step.args...); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
				break
			}
		}
		done <- n
	}()
	return done
}

func count(t *testing.T, d *db.DB) (rows, wrong, highest int64) {
	t.Helper()
	if err := d.View(t.Context(), func(tx *db.Tx) error { return tx.Row(countPairs).Scan(&rows, &wrong, &highest) }); err != nil {
		t.Fatal(err)
	}
	return rows, wrong, highest
}

func openPairs(t *testing.T, dir string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{DataDir: dir, ReserveBytes: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := d.Migrate(t.Context(), pairs()); err != nil {
		t.Fatal(err)
	}
	return d
}

// A copy taken while others write holds what was committed before it began, whole
// transactions only, without gaps; and it opens elsewhere.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	d := openPairs(t, t.TempDir())
	var stop atomic.Bool
	written := writePairs(t, d, &stop)
	for rows := int64(0); rows < 200; rows, _, _ = count(t, d) {
	}
	before, _, _ := count(t, d)
	file, told := filepath.Join(t.TempDir(), "copy.db"), 0
	if err := d.Backup(t.Context(), file, func(done, all int) {
		if told++; done > all {
			t.Errorf("%d of %d", done, all)
		}
	}); err != nil {
		t.Fatal(err)
	}
	stop.Store(true)
	all := <-written
	dir := t.TempDir()
	aside, err := db.Restore(t.Context(), file, dir, nil, nil)
	if err != nil || aside != "" {
		t.Fatal(aside, err)
	}
	rows, wrong, highest := count(t, openPairs(t, dir))
	if rows < before || rows > all || wrong != 0 || highest != rows-1 || told == 0 {
		t.Errorf("%d rows (at least %d, at most %d), %d wrong, highest %d, progress told %d times", rows, before, all, wrong, highest, told)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestBackupLeavesNothingBehindWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	d := openPairs(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if err := d.Backup(ctx, filepath.Join(dir, "copy.db"), nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestBackupOverwritesNothing(t *testing.T) {
	t.Parallel()
	d := openPairs(t, t.TempDir())
	file := filepath.Join(t.TempDir(), "there.db")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Backup(t.Context(), file, nil); !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(file); string(text) != "mine" {
		t.Errorf("the file holds %q now", text)
	}
}

// What can't be used is refused before anything of the folder is touched.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "good.db")
	d := openPairs(t, t.TempDir())
	if err := d.Backup(t.Context(), good, nil); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(file string) []byte{
		"no database":   func(string) []byte { return []byte(strings.Repeat("not a database ", 500)) },
		"empty":         func(string) []byte { return nil },
		"cut off":       func(string) []byte { return whole[:len(whole)/2] },
		"with a log":    func(file string) []byte { _ = os.WriteFile(file+"-wal", []byte("log"), 0o600); return whole },
		"zeroes inside": func(string) []byte { b := append([]byte(nil), whole...); clear(b[4096:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, dir := filepath.Join(t.TempDir(), "bad.db"), t.TempDir()
			if err := os.WriteFile(file, damage(file), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Restore(t.Context(), file, dir, nil, nil); !errors.Is(err, db.ErrNotABackup) {
				t.Errorf("restored: %v", err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left in the folder: %v", left)
			}
		})
	}
}

// What stood in the folder is kept, with the log that belongs to it.
func TestRestoreKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "copy.db")
	if err := openPairs(t, t.TempDir()).Backup(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	old := openPairs(t, dir)
	if err := old.Batch(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(insertPair, int64(7)); return err }); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	aside, err := db.Restore(t.Context(), file, dir, nil, nil)
	if err != nil || aside == "" {
		t.Fatal(aside, err)
	}
	if rows, _, _ := count(t, openPairs(t, dir)); rows != 0 {
		t.Errorf("%d rows in what was restored from an empty one", rows)
	}
	back := t.TempDir()
	if _, err := db.Restore(t.Context(), aside, back, nil, nil); err != nil {
		t.Fatal(err)
	}
	if rows, _, highest := count(t, openPairs(t, back)); rows != 1 || highest != 7 {
		t.Errorf("%d rows in what was kept, highest %d", rows, highest)
	}
}

// Who looks at the copy before it takes its place can refuse it.
func TestRestoreCanBeRefusedByWhoKnowsTheRooms(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "copy.db")
	if err := openPairs(t, t.TempDir()).Backup(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	dir, no := t.TempDir(), errors.New("another key")
	_, err := db.Restore(t.Context(), file, dir, nil, func(at string) error {
		if rows, _, _ := count(t, openPairs(t, at)); rows != 0 {
			t.Errorf("%d rows", rows)
		}
		return no
	})
	if left, _ := os.ReadDir(dir); !errors.Is(err, no) || len(left) != 0 {
		t.Errorf("%v; left: %v", err, left)
	}
}

func TestAnInterruptedRestoreIsNotHidden(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "restoring"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := db.Open(t.Context(), db.Config{DataDir: dir}, nil)
	if !errors.Is(err, db.ErrUnavailable) || !strings.Contains(err.Error(), "restore") {
		t.Errorf("opened: %v", err)
	}
}

// unclosed is a folder with a database whose last commit stands in its log only, as
// a killed process leaves it.
func unclosed(t *testing.T) (dir string) {
	t.Helper()
	from := t.TempDir()
	d := openPairs(t, from)
	if err := d.Batch(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(insertPair, int64(7)); return err }); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, name := range []string{"mittente.db", "mittente.db-wal"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A restore that is killed while it puts the old database aside leaves it as it
// was, or a folder that can't be opened: never the database without its log.
func TestRestoreThatIsKilledLosesNoCommit(t *testing.T) {
	t.Parallel()
	killed := errors.New("killed")
	for steps := range 3 {
		dir := unclosed(t)
		if err := os.Mkdir(filepath.Join(dir, "restoring"), 0o700); err != nil {
			t.Fatal(err)
		}
		left := steps
		_, err := db.SetAside(filepath.Join(dir, "mittente.db"), func(from, to string) error {
			if left--; left < 0 {
				return killed
			}
			return os.Rename(from, to)
		})
		if steps == 0 && !errors.Is(err, killed) {
			t.Fatal(err)
		}
		d, err := db.Open(t.Context(), db.Config{DataDir: dir}, nil)
		if errors.Is(err, db.ErrUnavailable) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if rows, _, highest := count(t, d); rows != 1 || highest != 7 {
			t.Errorf("after %d steps: %d rows, highest %d", steps, rows, highest)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The log of another database must not be taken for that of the restored one.
func TestRestoreBesideTheLogOfAnother(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "copy.db")
	if err := openPairs(t, t.TempDir()).Backup(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	dir := unclosed(t)
	if err := os.Remove(filepath.Join(dir, "mittente.db")); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Restore(t.Context(), file, dir, nil, nil); err != nil {
		t.Fatal(err)
	}
	if rows, _, _ := count(t, openPairs(t, dir)); rows != 0 {
		t.Errorf("%d rows in what was restored from an empty one", rows)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "mittente.db.before-restore-*-wal"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept %v, %v", kept, err)
	}
}
