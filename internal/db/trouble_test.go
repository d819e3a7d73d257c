package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Another process holds the database for longer than the timeout: all that wait
// are told within twice that time, nothing is half done, and it goes on by itself.
func TestLockedByAnotherProcess(t *testing.T) {
	const busy = 300 * time.Millisecond
	d, _ := open(t, func(c *Config) { c.BusyTimeout = busy })
	other := start(t, "hold", d.cfg.DataDir)
	begun := time.Now()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			told := false
			err := d.Batch(t.Context(), func(tx *Tx) error {
				tx.OnCommit(func() { told = true })
				return put(tx, fmt.Sprint(i))
			})
			if !errors.Is(err, ErrBusy) || !errors.Is(err, ErrUnavailable) || told {
				t.Errorf("caller %d: %v, told: %v", i, err, told)
			}
		})
	}
	all.Wait()
	if took := time.Since(begun); took < busy || took > 10*busy {
		t.Errorf("they were told after %v, the timeout is %v", took, busy)
	}
	if err := d.Room(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Room: %v", err)
	}
	wantNames(t, d) // who reads is not held up
	other.finish()
	if err := d.Batch(t.Context(), putting("after")); err != nil {
		t.Errorf("no recovery: %v", err)
	}
	if err := d.Room(); err != nil {
		t.Errorf("Room, after a commit: %v", err)
	}
	wantNames(t, d, "after")
}

// A process that is killed while it writes leaves everything it was told of, and nothing half.
func TestKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, func(c *Config) { c.DataDir = dir })
	var told []string
	for range 3 {
		err := d.Batch(t.Context(), func(tx *Tx) error { _, err := tx.Exec(deleteNotes); return err })
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, "write", dir)
		told = []string{p.out.Text()}
		for len(told) < 50 && p.out.Scan() {
			told = append(told, p.out.Text())
		}
		if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for p.out.Scan() {
			told = append(told, p.out.Text())
		}
		_ = p.cmd.Wait() // killed
		got := names(t, d)
		if len(got) < len(told) || len(got) > len(told)+1 {
			t.Fatalf("%d are there, %d were told", len(got), len(told))
		}
		for i, name := range told {
			if got[i] != name {
				t.Fatalf("%q is there, %q was told", got[i], name)
			}
		}
	}
}

// The disk is full: clear errors, nothing told is lost, and it goes on by itself
// when there is space again.
func TestFullDisk(t *testing.T) {
	d, makeRoom := onSmallDisk(t)
	var told []string
	var full error
	for i := 0; full == nil && i < 2000; i++ {
		name := fmt.Sprintf("%05d", i)
		full = d.Batch(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec(insertNote, name, make([]byte, 10_000))
			return err
		})
		if full == nil {
			told = append(told, name)
		}
	}
	if !errors.Is(full, ErrFull) || len(told) < 20 {
		t.Fatalf("after %d notes: %v", len(told), full)
	}
	if err := d.Room(); !errors.Is(err, ErrFull) {
		t.Errorf("Room: %v", err)
	}
	wantNames(t, d, told...)
	makeRoom()
	for _, name := range []string{"after 1", "after 2"} {
		if err := d.Batch(t.Context(), putting(name)); err != nil {
			t.Errorf("no recovery: %v", err)
		}
		told = append(told, name)
	}
	wantNames(t, d, told...)
	if err := d.Room(); err != nil {
		t.Errorf("Room, after a commit: %v", err)
	}
}

// onSmallDisk opens a database with two MiB of space, and returns what makes
// more: on a disk of its own, in memory, or by a bound of the engine where the
// test may not mount one.
func onSmallDisk(t *testing.T) (d *DB, makeRoom func()) {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		d, _ = open(t)
		limit(t, d, 512)
		return d, func() { limit(t, d, 1<<20) }
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.Background(), "umount", "--lazy", dir).CombinedOutput(); err != nil {
			t.Errorf("%s%v", out, err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d, _ = open(t, func(c *Config) { c.DataDir = filepath.Join(dir, "data") })
	return d, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRoom(t *testing.T) {
	t.Run("reserve", func(t *testing.T) {
		d, _ := open(t, func(c *Config) { c.ReserveBytes = 1 << 60 })
		if err := d.Room(); !errors.Is(err, ErrFull) || errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if err := d.Batch(t.Context(), putting("settled")); err != nil {
			t.Errorf("the reserve is for this: %v", err)
		}
	})
	t.Run("enough", func(t *testing.T) {
		d, _ := open(t)
		if err := d.Room(); err != nil {
			t.Error(err)
		}
	})
	t.Run("no folder", func(t *testing.T) {
		d, _ := open(t)
		d.cfg.DataDir += "/gone"
		if err := d.Room(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("looked at again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := open(t)
			if err := d.Room(); err != nil {
				t.Fatal(err)
			}
			d.cfg.DataDir += "/gone"
			if err := d.Room(); err != nil {
				t.Errorf("at once: %v", err)
			}
			time.Sleep(roomFresh)
			if err := d.Room(); err == nil {
				t.Error("a quarter of a second later it still says yes")
			}
		})
	})
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error
	}{
		{coded(5), ErrBusy},
		{coded(261), ErrBusy}, // SQLITE_BUSY_RECOVERY
		{coded(6), ErrBusy},
		{coded(13), ErrFull},
		{coded(778), ErrFull},  // SQLITE_IOERR_WRITE
		{coded(4874), ErrFull}, // SQLITE_IOERR_SHMSIZE
		{coded(1034), ErrUnavailable},
		{coded(266), ErrUnavailable}, // SQLITE_IOERR_READ
		{coded(8), ErrUnavailable},
		{coded(11), ErrUnavailable},
		{coded(14), ErrUnavailable},
		{coded(2067), ErrConstraint}, // SQLITE_CONSTRAINT_UNIQUE
		{fmt.Errorf("write: %w", syscall.ENOSPC), ErrFull},
		{syscall.EDQUOT, ErrFull},
		{syscall.EIO, ErrUnavailable},
	} {
		got := classify(fmt.Errorf("exec: %w", c.err))
		if !errors.Is(got, c.want) || !errors.Is(got, c.err) {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
		if again := classify(got); again.Error() != got.Error() {
			t.Errorf("classified twice: %v", again)
		}
		if isEngine(got) == errors.Is(c.want, ErrConstraint) {
			t.Errorf("%v: of the engine: %v", got, isEngine(got))
		}
	}
	if got := classify(coded(1)); isEngine(got) {
		t.Errorf("a mistake in a statement is not the engine's: %v", got)
	}
	if classify(nil) != nil || classifyControl(nil) != nil {
		t.Error("nil is an error")
	}
}
