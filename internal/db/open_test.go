package db

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	insertNote  SQL = `INSERT INTO note (name, body) VALUES ($1, $2)`
	selectNote  SQL = `SELECT body FROM note WHERE name = $1`
	countNotes  SQL = `SELECT COUNT(*) FROM note`
	selectNotes SQL = `SELECT name FROM note ORDER BY name`
	deleteNotes SQL = `DELETE FROM note`
)

// testSchema is a room of this test.
func testSchema() Schema {
	return Schema{Room: "test", FS: fstest.MapFS{"schema/0001_note.sql": {Data: []byte(
		"-- +goose Up\nCREATE TABLE note (name TEXT NOT NULL PRIMARY KEY, body BYTEA);\n",
	)}}}
}

// open opens a database for one test, with the fault layer under it.
func open(tb testing.TB, change ...func(*Config)) (*DB, *faults) {
	tb.Helper()
	f := &faults{}
	cfg := Config{DataDir: tb.TempDir(), ReserveBytes: 1, Wrap: f.wrap}
	for _, c := range change {
		c(&cfg)
	}
	d, err := Open(tb.Context(), cfg, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	if err := d.Migrate(tb.Context(), testSchema()); err != nil {
		tb.Fatal(err)
	}
	return d, f
}

func put(tx *Tx, name string) error {
	_, err := tx.Exec(insertNote, name, []byte("body of "+name))
	return err
}

// names returns what is in the database, in order.
func names(tb testing.TB, d *DB) []string {
	tb.Helper()
	var found []string
	err := d.View(tb.Context(), func(tx *Tx) error {
		rows, err := tx.Rows(selectNotes)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			found = append(found, name)
		}
		return rows.Err()
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func wantNames(tb testing.TB, d *DB, want ...string) {
	tb.Helper()
	slices.Sort(want)
	if got := names(tb, d); !slices.Equal(got, want) {
		tb.Errorf("the database holds %q, want %q", got, want)
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{DataDir: "x"}, ""},
		{Config{}, "data_dir"},
		{Config{DataDir: "x", URL: "postgres://db/mail"}, "PostgreSQL comes later"},
		{Config{DataDir: "x", URL: "mysql://db/mail"}, `"mysql" is not known`},
		{Config{DataDir: "x", ReserveBytes: -1}, "reserve"},
		{Config{DataDir: "x", BusyTimeout: -1}, "busy timeout"},
	} {
		err := c.cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
		if c.want == "" {
			continue
		}
		if _, err := Open(t.Context(), c.cfg, nil); err == nil {
			t.Errorf("%+v: opened", c.cfg)
		}
	}
}

func TestOpenSetsEveryConnection(t *testing.T) {
	d, _ := open(t)
	want := map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		"auto_vacuum": "2", "wal_autocheckpoint": "10000", "journal_size_limit": "67108864",
	}
	for name, value := range want {
		err := d.alone(t.Context(), func(s *session) error { return s.confirm([]pragma{{name, "", value}}) })
		if err != nil {
			t.Error(err)
		}
	}
	info, err := os.Stat(d.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v, %v", info.Mode(), err)
	}
	info, err = os.Stat(d.path + "-wal")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the log: %v, %v", info.Mode(), err)
	}
}

// A setting that the engine does not take is an error, not a risk nobody knows of.
func TestOpenRefusesWhatItCannotMakeDurable(t *testing.T) {
	t.Run("made by another program", func(t *testing.T) {
		dir := t.TempDir()
		other, err := sql.Open("sqlite", filepath.Join(dir, "mittente.db"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Exec("CREATE TABLE t (x)"); err != nil { // auto_vacuum is none for ever
			t.Fatal(err)
		}
		other.Close()
		_, err = Open(t.Context(), Config{DataDir: dir}, nil)
		if err == nil || !strings.Contains(err.Error(), "auto_vacuum") || !errors.Is(err, ErrUnavailable) {
			t.Errorf("opened a file without auto_vacuum: %v", err)
		}
	})
	t.Run("not a database", func(t *testing.T) {
		dir := t.TempDir()
		garbage := []byte(strings.Repeat("this is no database. ", 500))
		if err := os.WriteFile(filepath.Join(dir, "mittente.db"), garbage, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Config{DataDir: dir}, nil); !errors.Is(err, ErrUnavailable) {
			t.Errorf("opened garbage: %v", err)
		}
	})
	t.Run("folder can't be made", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Config{DataDir: filepath.Join(file, "data")}, nil); err == nil {
			t.Error("opened below a file")
		}
	})
	t.Run("a parameter that is ignored", func(t *testing.T) {
		s := &session{}
		d, _ := open(t)
		err := d.alone(t.Context(), func(w *session) error {
			s = w
			return s.confirm([]pragma{{"synchronous", "", "3"}})
		})
		if err == nil || !strings.Contains(err.Error(), `PRAGMA synchronous is "2" and has to be "3"`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOddPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "100% odd?name#1 é")
	d, _ := open(t, func(c *Config) { c.DataDir = dir })
	if err := d.Batch(t.Context(), func(tx *Tx) error { return put(tx, "a") }); err != nil {
		t.Fatal(err)
	}
	wantNames(t, d, "a")
	if _, err := os.Stat(filepath.Join(dir, "mittente.db")); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	dir := t.TempDir()
	d, err := Open(t.Context(), Config{DataDir: dir}, reg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Config{DataDir: dir}, reg); err == nil {
		t.Error("a second database took the same registry")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	again, err := Open(t.Context(), Config{DataDir: dir}, reg)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestClose(t *testing.T) {
	d, _ := open(t)
	if err := d.View(t.Context(), func(*Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := d.Batch(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Batch: %v", err)
	}
	if err := d.View(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("View: %v", err)
	}
	if err := d.Room(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Room: %v", err)
	}
	if _, err := os.Stat(d.path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log is still there: %v", err)
	}
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 11, 24, 15, 32, 53, 123_456_000, time.FixedZone("", 3600))
	if got := Time(Micros(at)); !got.Equal(at) || got.Location() != time.UTC {
		t.Errorf("got %v, want %v", got, at)
	}
	if Micros(time.Time{}) != 0 || !Time(0).IsZero() {
		t.Error("the zero time is not 0")
	}
}

// value returns what a counter or gauge stands at.
func value(tb testing.TB, m prometheus.Metric) float64 {
	tb.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		tb.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}
