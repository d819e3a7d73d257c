package smtpserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"mittente/internal/mail"
)

// Run serves what Listen has bound until ctx ends. Then it closes the
// listeners, says 421 4.3.2 to sessions without a transaction, lets the others
// finish theirs for at most Timeouts.Drain, cuts what is left and returns nil.
func (v *Server) Run(ctx context.Context) error {
	if len(v.listeners) == 0 {
		return ErrNoPort
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var accepting, serving sync.WaitGroup
	w, err := watch(v)
	if err == nil {
		accepting.Go(func() { w.run(running, &accepting, &serving) })
	} else {
		v.acceptEach(running, &accepting, &serving)
	}
	<-ctx.Done()
	close(v.closing)
	if w != nil {
		w.stop()
	}
	for _, l := range v.listeners {
		_ = l.Close()
	}
	accepting.Wait()
	v.drain(cancel, &serving)
	return nil
}

// ServeConn speaks with one client whose connection was taken in elsewhere, and
// returns when the session has ended. It counts against the limits.
func (v *Server) ServeConn(ctx context.Context, conn net.Conn) {
	if s := v.admit(conn); s != nil {
		s.serve(ctx)
	}
}

// drain waits for the sessions to end, first kindly.
func (v *Server) drain(cancel context.CancelFunc, serving *sync.WaitGroup) {
	v.each((*Session).interrupt)
	done := make(chan struct{})
	go func() {
		serving.Wait()
		close(done)
	}()
	late := time.NewTimer(v.cfg.Timeouts.Drain)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		cancel()
		v.each((*Session).cut)
		<-done
	}
}

func (v *Server) each(do func(*Session)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for s := range v.sessions {
		do(s)
	}
}

// acceptEach gives every listener a goroutine for good.
func (v *Server) acceptEach(ctx context.Context, accepting, serving *sync.WaitGroup) {
	for _, l := range v.listeners {
		accepting.Go(func() {
			for v.acceptBurst(ctx, l, serving) {
			}
		})
	}
}

// acceptBurst takes connections from one listener until none has come for a
// while; it returns false when the listener is closed.
func (v *Server) acceptBurst(ctx context.Context, l net.Listener, serving *sync.WaitGroup) bool {
	timed, _ := l.(interface{ SetDeadline(time.Time) error })
	var pause time.Duration
	for {
		if timed != nil {
			_ = timed.SetDeadline(time.Now().Add(v.quiet)) // fails when closed, as Accept will
		}
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return false
		case errors.Is(err, os.ErrDeadlineExceeded):
			return true
		case err != nil:
			pause = v.acceptFailed(ctx, pause, err)
			continue
		}
		pause = 0
		s := v.admit(conn)
		if s != nil {
			serving.Go(func() { s.serve(ctx) })
		}
	}
}

// acceptFailed waits a while before the next Accept, which fails as long as
// there are no more file descriptors. It returns how long.
func (v *Server) acceptFailed(ctx context.Context, pause time.Duration, err error) time.Duration {
	if pause == 0 {
		v.deps.Log.LogAttrs(ctx, slog.LevelError, "connections can't be accepted", slog.String("error", err.Error()))
	}
	pause = min(max(2*pause, 10*time.Millisecond), time.Second)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-v.closing:
	}
	return pause
}

// admit makes a session of a connection, or refuses it and returns nil.
func (v *Server) admit(conn net.Conn) *Session {
	client := addrPort(conn.RemoteAddr())
	network := clientNetwork(client.Addr())
	v.mu.Lock()
	all, own := len(v.sessions), v.clients[network]
	if all >= v.cfg.MaxConnections || own >= v.cfg.MaxPerClient {
		v.mu.Unlock()
		if all >= v.cfg.MaxConnections {
			v.metrics.connections.crowded.Inc()
			v.turnAway(conn, "Too many connections, try again later")
		} else {
			v.metrics.connections.perClient.Inc()
			v.turnAway(conn, "Too many connections from your address, try again later")
		}
		return nil
	}
	defer v.mu.Unlock()
	s := newSession(v, conn, client)
	v.sessions[s] = struct{}{}
	v.clients[network]++
	v.metrics.open.Set(float64(len(v.sessions)))
	v.metrics.connections.admitted.Inc()
	return s
}

// turnAway says 421 without waiting: the reply fits into the empty send buffer.
func (v *Server) turnAway(conn net.Conn, text string) {
	reply := say(421, mail.Status{Class: 4, Subject: 7}, text)
	v.metrics.reply(reply)
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = reply.WriteTo(conn)
	_ = conn.Close()
}

// leave forgets a session that has ended.
func (v *Server) leave(s *Session) {
	network := clientNetwork(s.client.Addr())
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.sessions, s)
	if v.clients[network]--; v.clients[network] <= 0 {
		delete(v.clients, network)
	}
	v.metrics.open.Set(float64(len(v.sessions)))
}

// clientNetwork is what connections are counted by: an IPv4 address, or the
// /64 that one IPv6 host can have all addresses of.
func clientNetwork(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // not a TCP connection
	}
	return p
}
