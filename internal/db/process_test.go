package db

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestActAsAnotherProcess is what the test binary does when a test runs it as
// another process; otherwise there is nothing to it.
func TestActAsAnotherProcess(t *testing.T) {
	role := os.Getenv("MITTENTE_DB_TEST_ROLE")
	if role == "" {
		return
	}
	d, err := Open(t.Context(), Config{DataDir: os.Getenv("MITTENTE_DB_TEST_DIR")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(act(t.Context(), d, role), d.Close()); err != nil {
		t.Fatal(err)
	}
}

func act(ctx context.Context, d *DB, role string) error {
	say := func(line string) { fmt.Fprintln(os.Stdout, line) }
	switch role {
	case "hold": // the write lock, until standard input ends
		return d.Batch(ctx, func(*Tx) error {
			say("held")
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		})
	case "commit and hold": // the write lock for 3 s, and at once again until standard input ends
		err := d.Batch(ctx, func(tx *Tx) error {
			say("held")
			time.Sleep(3 * time.Second)
			return put(tx, "foreign")
		})
		if err != nil {
			return err
		}
		say("committed")
		return d.Batch(ctx, func(*Tx) error {
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		})
	case "migrate":
		say("ready")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		return d.Migrate(ctx, testSchema())
	case "write": // notes until killed, and say which are durable
		for i := 0; ; i++ {
			name := fmt.Sprintf("note %06d", i)
			if err := d.Batch(ctx, putting(name)); err != nil {
				return err
			}
			say(name)
		}
	}
	return errors.New("no such role")
}

// process is the test binary in a role.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	test testing.TB
}

// start runs another process on the database and waits for its first line.
func start(tb testing.TB, role, dir string) *process {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p := &process{cmd: exec.CommandContext(tb.Context(), exe, "-test.run=^TestActAsAnotherProcess$"), test: tb}
	p.cmd.Env = append(os.Environ(), "MITTENTE_DB_TEST_ROLE="+role, "MITTENTE_DB_TEST_DIR="+dir)
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	if !p.out.Scan() {
		tb.Fatalf("%s: said nothing", role)
	}
	return p
}

// finish ends the process's input and waits for it.
func (p *process) finish() {
	p.test.Helper()
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		p.test.Error(err)
	}
}
