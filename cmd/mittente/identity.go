package main

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// owner returns who a file belongs to; ok is false when it can't be told.
func owner(path string) (uid, gid int, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

func ownedBy(path string, uid int) bool {
	u, _, ok := owner(path)
	return ok && u == uid
}

// becomeOwner takes the identity of a folder's owner when root runs the command:
// else the database's files would become root's, and the server could not write them.
func becomeOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, ok := owner(dir)
	if !ok || uid == 0 {
		return nil
	}
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return fmt.Errorf("take the group of %s: %w", dir, err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("take the group of %s: %w", dir, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("take the identity of the owner of %s: %w", dir, err)
	}
	return nil
}

// becomeServer is becomeOwner for a server: it keeps the right to bind ports below
// 1024 where the system can grant it; else those ports are skipped and shown, and
// lost says why.
func becomeServer(dir string) (lost string, err error) {
	uid, _, ok := owner(dir)
	if os.Geteuid() != 0 || !ok || uid == 0 {
		return "", nil
	}
	return keepLowPorts(func() error { return becomeOwner(dir) })
}

// makeDataDir makes the data folder, for its owner alone.
func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data_dir: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("data_dir %s: %w: it is not a folder", dir, fs.ErrInvalid)
	}
	return nil
}
