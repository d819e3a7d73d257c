package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file by which a running server holds its data folder. The lock
// ends with the process, however that ends.
const lockName = "serve.lock"

// takeLock makes sure that no other server runs over the folder.
func takeLock(dir string) (release func(), err error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the data folder
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(name) //nolint:gosec // in the data folder
		err = fmt.Errorf("%w: another mittente runs over %s (process %s): two servers can't share a data folder",
			errUnavailable, dir, orText(strings.TrimSpace(string(pid)), "not known"))
		return nil, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// served reports whether a server runs over the folder.
func served(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockName)) //nolint:gosec // in the data folder
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}
