package test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// tie has the kernel end a process when the thread that starts it ends.
func tie(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// fill makes the file beside the database so large, or so small, that the given
// number of octets is free; with 0, every octet is taken.
func fill(t *testing.T, dir string, leave int64) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	grow := int64(disk.Bavail)*disk.Bsize - leave
	if grow < 0 {
		if err := file.Truncate(max(info.Size()+grow, 0)); err != nil {
			t.Fatal(err)
		}
		return
	}
	// The relay writes meanwhile: what does not fit is tried by halves.
	for at := info.Size(); grow >= disk.Bsize; {
		switch err := syscall.Fallocate(int(file.Fd()), 0, at, grow); {
		case err == nil && leave > 0:
			return
		case err == nil:
			at += grow
		case errors.Is(err, syscall.ENOSPC):
			grow /= 2
		case !errors.Is(err, syscall.EINTR):
			t.Fatalf("filling the disk: %v", err)
		}
	}
}
