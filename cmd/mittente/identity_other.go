//go:build !linux

package main

// keepLowPorts changes the identity; ports below 1024 are lost with it.
func keepLowPorts(change func() error) (lost string, err error) {
	return "this system can't keep ports below 1024 when root becomes another user", change()
}
