package db

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// act is what the test binary does when a test runs it as another process.
func act(ctx context.Context, role string) int {
	d, err := Open(ctx, Config{DataDir: os.Getenv("MITTENTE_DB_TEST_DIR")}, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer d.Close()
	switch role {
	case "hold": // the write lock, until standard input ends
		err = d.Batch(ctx, func(tx *Tx) error {
			fmt.Println("held")
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		})
	case "migrate":
		fmt.Println("ready")
		if _, err = io.Copy(io.Discard, os.Stdin); err == nil {
			err = d.Migrate(ctx, testSchema())
		}
	case "write": // notes until killed, and say which are durable
		for i := 0; err == nil; i++ {
			name := fmt.Sprintf("note %06d", i)
			if err = d.Batch(ctx, func(tx *Tx) error { return put(tx, name) }); err == nil {
				fmt.Println(name)
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is the test binary in a role.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	test testing.TB
}

// start runs another process on the database and waits for its first line.
func start(t testing.TB, role, dir string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.CommandContext(t.Context(), exe), test: t}
	p.cmd.Env = append(os.Environ(), "MITTENTE_DB_TEST_ROLE="+role, "MITTENTE_DB_TEST_DIR="+dir)
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !p.out.Scan() {
		t.Fatalf("%s: said nothing", role)
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
