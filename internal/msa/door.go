package msa

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
func (d *Door) Run(ctx context.Context) error {
	if len(d.listeners) == 0 {
		return ErrNoPort
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var accepting, serving sync.WaitGroup
	w, err := watch(d)
	if err == nil {
		accepting.Go(func() { w.run(running, &accepting, &serving) })
	} else {
		d.acceptEach(running, &accepting, &serving)
	}
	<-ctx.Done()
	close(d.closing)
	if w != nil {
		w.stop()
	}
	for _, l := range d.listeners {
		_ = l.Close()
	}
	accepting.Wait()
	d.drain(cancel, &serving)
	return nil
}

// drain waits for the sessions to end, first kindly.
func (d *Door) drain(cancel context.CancelFunc, serving *sync.WaitGroup) {
	d.each((*session).interrupt)
	done := make(chan struct{})
	go func() {
		serving.Wait()
		close(done)
	}()
	late := time.NewTimer(d.cfg.Timeouts.Drain)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		cancel()
		d.each((*session).cut)
		<-done
	}
}

func (d *Door) each(do func(*session)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.sessions {
		do(s)
	}
}

// acceptEach gives every listener a goroutine for good.
func (d *Door) acceptEach(ctx context.Context, accepting, serving *sync.WaitGroup) {
	for _, l := range d.listeners {
		accepting.Go(func() {
			for d.acceptBurst(ctx, l, serving) {
			}
		})
	}
}

// acceptBurst takes connections from one listener until none has come for a
// while; it returns false when the listener is closed.
func (d *Door) acceptBurst(ctx context.Context, l net.Listener, serving *sync.WaitGroup) bool {
	timed, _ := l.(interface{ SetDeadline(time.Time) error })
	var pause time.Duration
	for {
		if timed != nil {
			_ = timed.SetDeadline(time.Now().Add(d.quiet)) // fails when closed, as Accept will
		}
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return false
		case errors.Is(err, os.ErrDeadlineExceeded):
			return true
		case err != nil:
			pause = d.acceptFailed(ctx, pause, err)
			continue
		}
		pause = 0
		s := d.admit(conn)
		if s != nil {
			serving.Go(func() { s.serve(ctx) })
		}
	}
}

// acceptFailed waits a while before the next Accept, which fails as long as
// there are no more file descriptors. It returns how long.
func (d *Door) acceptFailed(ctx context.Context, pause time.Duration, err error) time.Duration {
	if pause == 0 {
		d.deps.Log.LogAttrs(ctx, slog.LevelError, "connections can't be accepted", slog.String("error", err.Error()))
	}
	pause = min(max(2*pause, 10*time.Millisecond), time.Second)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.closing:
	}
	return pause
}

// admit makes a session of a connection, or refuses it and returns nil.
func (d *Door) admit(conn net.Conn) *session {
	client := addrPort(conn.RemoteAddr())
	network := clientNetwork(client.Addr())
	d.mu.Lock()
	all, own := len(d.sessions), d.clients[network]
	if all >= d.cfg.MaxConnections || own >= d.cfg.MaxPerClient {
		d.mu.Unlock()
		if all >= d.cfg.MaxConnections {
			d.metrics.connections.crowded.Inc()
			d.turnAway(conn, "Too many connections, try again later")
		} else {
			d.metrics.connections.perClient.Inc()
			d.turnAway(conn, "Too many connections from your address, try again later")
		}
		return nil
	}
	defer d.mu.Unlock()
	s := newSession(d, conn, client)
	d.sessions[s] = struct{}{}
	d.clients[network]++
	d.metrics.open.Set(float64(len(d.sessions)))
	d.metrics.connections.admitted.Inc()
	return s
}

// turnAway says 421 without waiting: the reply fits into the empty send buffer.
func (d *Door) turnAway(conn net.Conn, text string) {
	reply := say(421, mail.Status{Class: 4, Subject: 7}, text)
	d.metrics.reply(reply)
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = reply.WriteTo(conn)
	_ = conn.Close()
}

// leave forgets a session that has ended.
func (d *Door) leave(s *session) {
	network := clientNetwork(s.who.Client.Addr())
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, s)
	if d.clients[network]--; d.clients[network] <= 0 {
		delete(d.clients, network)
	}
	d.metrics.open.Set(float64(len(d.sessions)))
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
