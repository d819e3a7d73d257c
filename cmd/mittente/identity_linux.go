package main

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keepLowPorts changes the identity and keeps CAP_NET_BIND_SERVICE over it; lost
// says why it could not be kept.
func keepLowPorts(change func() error) (lost string, err error) {
	// Every thread has capabilities of its own; they would go with the identity. A
	// cgo build (the race detector) can't do it for all of them.
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0)
	if err := change(); err != nil {
		return "", err
	}
	switch {
	case errno == unix.ENOTSUP:
		return "built with cgo, which can't keep ports below 1024 when root becomes another user: use make build", nil
	case errno != 0:
		return "the right to ports below 1024 could not be kept: " + errno.Error(), nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	data[0].Effective, data[0].Permitted = 1<<unix.CAP_NET_BIND_SERVICE, 1<<unix.CAP_NET_BIND_SERVICE
	//nolint:gosec // x/sys can do it for one thread only
	_, _, errno = syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return "", fmt.Errorf("keep the right to bind low ports: %w", errno)
	}
	return "", nil
}
