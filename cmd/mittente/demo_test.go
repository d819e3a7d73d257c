package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemoLeavesNothing: the folder is gone when the terminal goes, and when the
// reader of the output does.
func TestDemoLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		until string // a line that begins so is waited for
		end   func(*exec.Cmd, *os.File) error
		code  int
	}{
		{"SIGHUP", "Every message", func(cmd *exec.Cmd, _ *os.File) error { return cmd.Process.Signal(syscall.SIGHUP) }, exitOK},
		{"SIGINT", "Every message", func(cmd *exec.Cmd, _ *os.File) error { return cmd.Process.Signal(os.Interrupt) }, exitOK},
		{"broken pipe", "mittente demo", func(_ *exec.Cmd, out *os.File) error { return out.Close() }, exitFailure},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command("mittente", "demo")
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd.Stdout = w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			lines := bufio.NewScanner(r)
			for lines.Scan() && !strings.HasPrefix(lines.Text(), c.until) {
			}
			if err := c.end(cmd, r); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
