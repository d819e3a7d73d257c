package smtpserver

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// watcher waits for all listeners at once. A goroutine that waits in Accept has
// a stack of 2 KiB, and of 4 once it has accepted anything: with 8,000 ports
// these were 17 to 34 MiB (measured), for ports that hardly anybody calls.
type watcher struct {
	v     *Server
	ports []syscall.Conn // by the index in an event
	file  *os.File       // of the epoll instance: the runtime's poller waits for it, not a thread
	raw   syscall.RawConn
}

const (
	oneShot     = syscall.EPOLLIN | syscall.EPOLLONESHOT // level-triggered, then silent until armed again
	eventsAtOne = 64
)

// watch returns a watcher of the door's listeners, or an error when they are of
// another kind.
func watch(v *Server) (*watcher, error) {
	w := &watcher{v: v}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.SetNonblock(epoll, true); err != nil { // so that os.NewFile hands it to the poller
		_ = syscall.Close(epoll)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	w.file = os.NewFile(uintptr(epoll), "epoll")
	w.raw, err = w.file.SyscallConn()
	for i := 0; i < len(v.listeners) && err == nil; i++ {
		port, ok := v.listeners[i].(syscall.Conn)
		if !ok {
			err = fmt.Errorf("%T has no file descriptor", v.listeners[i])
			break
		}
		w.ports = append(w.ports, port)
		err = w.arm(i, syscall.EPOLL_CTL_ADD)
	}
	if err != nil {
		_ = w.file.Close()
		return nil, err
	}
	return w, nil
}

// arm has the next connection to listener i reported.
func (w *watcher) arm(i, operation int) error {
	raw, err := w.ports[i].SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	set := func(epoll uintptr) {
		err = raw.Control(func(fd uintptr) {
			event := syscall.EpollEvent{Events: oneShot, Fd: int32(i)} //nolint:gosec // at most some thousands
			failed = syscall.EpollCtl(int(epoll), operation, int(fd), &event)
		})
	}
	if cerr := w.raw.Control(set); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	return failed
}

// run gives each listener that is called a goroutine, which stays as long as
// there are calls. It returns when stop has been called.
func (w *watcher) run(ctx context.Context, accepting, serving *sync.WaitGroup) {
	var events [eventsAtOne]syscall.EpollEvent
	for {
		n := 0
		err := w.raw.Read(func(epoll uintptr) bool {
			n, _ = syscall.EpollWait(int(epoll), events[:], 0) // its errors are EINTR, or of our own making
			return n > 0
		})
		if err != nil {
			return // closed
		}
		for _, event := range events[:n] {
			i := int(event.Fd)
			accepting.Go(func() {
				if w.v.acceptBurst(ctx, w.v.listeners[i], serving) {
					_ = w.arm(i, syscall.EPOLL_CTL_MOD) // fails when the listener has been closed
				}
			})
		}
	}
}

// stop ends run.
func (w *watcher) stop() { _ = w.file.Close() }
