package db

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
)

// room is a room with as many migrations as it is given.
func room(name string, migrations ...string) Schema {
	files := fstest.MapFS{}
	for i, text := range migrations {
		files["schema/000"+string(rune('1'+i))+"_step.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)}
	}
	return Schema{Room: name, FS: files}
}

func TestMigrateRoomsOnTheirOwn(t *testing.T) {
	d, _ := open(t)
	one := "CREATE TABLE one (id BYTEA NOT NULL PRIMARY KEY, ok BOOLEAN NOT NULL);"
	two := "CREATE TABLE two (n BIGINT);"
	if err := d.Migrate(t.Context(), room("one", one), room("two", two)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		err := d.Migrate(t.Context(), room("two", two), room("one", one, "ALTER TABLE one ADD COLUMN more TEXT;"))
		if err != nil {
			t.Fatal(err)
		}
	}
	const insert SQL = `INSERT INTO one (id, ok, more) VALUES ($1, TRUE, 'x')`
	if err := d.Batch(t.Context(), func(tx *Tx) error { _, err := tx.Exec(insert, []byte{1}); return err }); err != nil {
		t.Error(err)
	}
}

func TestMigrateRefusesTheNewer(t *testing.T) {
	d, _ := open(t)
	first, second := "CREATE TABLE one (n BIGINT);", "ALTER TABLE one ADD COLUMN m BIGINT;"
	if err := d.Migrate(t.Context(), room("one", first, second)); err != nil {
		t.Fatal(err)
	}
	err := d.Migrate(t.Context(), room("one", first))
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "schema of one") ||
		!strings.Contains(err.Error(), "version 2, the program at 1") {
		t.Errorf("got %v", err)
	}
}

func TestMigrateFails(t *testing.T) {
	d, _ := open(t)
	for name, s := range map[string]Schema{
		"no migrations": room("none"),
		"bad statement": room("bad", "CREATE TABEL x (n BIGINT);"),
	} {
		if err := d.Migrate(t.Context(), s); err == nil || !strings.Contains(err.Error(), "schema of "+s.Room) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.Migrate(t.Context(), room("bad", "CREATE TABLE x (n BIGINT);")); err != nil {
		t.Errorf("a step that failed left something behind: %v", err)
	}
}

// Processes that start at once on a new database take turns.
func TestMigrateInTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	var processes []*process
	for range 4 {
		processes = append(processes, start(t, "migrate", dir))
	}
	for _, p := range processes {
		p.in.Close()
	}
	for _, p := range processes {
		if err := p.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	d, _ := open(t, func(c *Config) { c.DataDir = dir })
	if err := d.Batch(t.Context(), putting("a")); err != nil {
		t.Error(err)
	}
}

// The file is sound, and one that another process could open.
func TestIntegrity(t *testing.T) {
	d, _ := open(t)
	if err := d.Batch(t.Context(), putting("a")); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", d.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var verdict string
	if err := other.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("%q, %v", verdict, err)
	}
}
