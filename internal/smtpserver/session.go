package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"mittente/internal/smtp"
)

const (
	maxCommand = 2048   // octets of a line: 512 and what the extensions add (RFC 5321 §4.5.3.1.4)
	maxAuth    = 12_288 // octets of a line of AUTH (RFC 4954 §4)
	maxHelo    = 255    // octets kept of a client's name

	lingerTime   = time.Second
	lingerOctets = 1 << 20
)

// Session is one connection. Its fields belong to the goroutine in serve, and
// its methods to the Handler's, which are called by it, but for those below mu.
type Session struct {
	server  *Server
	handler Handler
	wire    wire
	record  record
	number  uint64
	client  netip.AddrPort

	helo        string               // EHLO or HELO was said
	tls         *tls.ConnectionState // nil in clear
	certificate *tls.Certificate     // what was shown
	authed      bool
	user        string       // who that is, for the log
	tx          *transaction // nil outside one
	refused     string       // why there is none, when commands that need one are no error of the client's
	bare        bool         // MAIL was said without AUTH
	mails       int          // transactions begun
	errors      int          // protocol errors since the last message
	progress    time.Time    // when something last got a message on
	reason      string       // why the session ends; "" while it goes on

	mu      sync.Mutex
	conn    net.Conn // the same as wire.conn
	waiting bool     // for a command, outside a transaction
	stop    bool     // the server is to end
}

func newSession(v *Server, conn net.Conn, client netip.AddrPort) *Session {
	s := &Session{server: v, number: v.serial.Add(1), conn: conn, client: client, progress: time.Now()}
	s.wire = wire{conn: conn, pool: &v.readers, write: v.cfg.Timeouts.Write}
	return s
}

// ID names the session in the log.
func (s *Session) ID() string { return fmt.Sprintf("%x-%x", s.server.started, s.number) }

// Client returns the client's address; the zero value for what is no TCP connection.
func (s *Session) Client() netip.AddrPort { return s.client }

// Helo returns what the client called itself; it is not to be trusted.
func (s *Session) Helo() string { return s.helo }

// TLS returns what the handshake has agreed on; nil in clear.
func (s *Session) TLS() *tls.ConnectionState { return s.tls }

// Transcript returns what was said so far, at most 4 KiB of it: without
// passwords and content, and without its middle where it is long.
func (s *Session) Transcript() string { return s.record.String() }

// Known names the user in the log.
func (s *Session) Known(user string) { s.user = user }

// Mistake counts a protocol error that the reply's status does not tell.
func (s *Session) Mistake() { s.errors++ }

// Leave ends the session after the reply that is being given. The reason is a
// word for the metrics.
func (s *Session) Leave(reason string) { s.reason = reason }

// Pause holds the next reply back, unless the server is to end.
func (s *Session) Pause(ctx context.Context, d time.Duration) {
	s.wire.flush()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-s.server.closing:
	}
}

// Log says something about this session.
func (s *Session) Log(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	log := s.server.deps.Log
	if !log.Enabled(ctx, level) {
		return
	}
	own := []slog.Attr{slog.String("session", s.ID()), slog.String("client", s.client.String())}
	if s.user != "" {
		own = append(own, slog.String("user", s.user))
	}
	log.LogAttrs(ctx, level, message, append(own, attrs...)...) //nolint:sloglint // the messages are the callers' constants
}

// serve speaks with the client until one of both has enough. Whatever goes
// wrong in it ends this session and no other.
func (s *Session) serve(ctx context.Context) {
	defer s.end(ctx)
	s.handler = s.server.deps.Open(s)
	s.answer(smtp.Reply{Code: 220, Lines: []string{s.server.cfg.Hostname + " ESMTP mittente"}})
	for s.reason == "" {
		s.turn(ctx)
	}
}

// end closes the connection and forgets the session.
func (s *Session) end(ctx context.Context) {
	if fault := recover(); fault != nil {
		s.reason = "fault"
		s.Log(ctx, slog.LevelError, "session failed", slog.String("error", fmt.Sprint(fault)), slog.String("stack", string(debug.Stack())))
	}
	if s.wire.flush() {
		s.linger()
	}
	s.wire.release()
	_ = s.wire.conn.Close()
	s.server.leave(s)
	s.server.metrics.ended.WithLabelValues(s.reason).Inc()
}

// linger reads over what a client still sends that was told to go: closing a
// connection with input unread would reset it, and the last reply be lost.
func (s *Session) linger() {
	switch s.reason {
	case "quit", "gone", "broken", "fault", "handshake", "timeout", "shutdown":
		return
	}
	conn, ok := s.wire.conn.(interface{ CloseWrite() error })
	if !ok || conn.CloseWrite() != nil {
		return
	}
	_ = s.wire.conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, s.wire.conn, lingerOctets)
}

// read waits for a line. Outside a transaction the server may end meanwhile.
func (s *Session) read(limit int) ([]byte, error) {
	t := s.server.cfg.Timeouts
	until := time.Now().Add(t.Command)
	if idle := s.progress.Add(t.Idle); idle.Before(until) {
		until = idle
	}
	if err := s.park(until); err != nil {
		return nil, err
	}
	defer s.unpark()
	return s.wire.line(limit)
}

// errStopping says that the server is to end.
var errStopping = errors.New("server is shutting down")

func (s *Session) park(until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := s.tx == nil
	if idle && s.stop {
		return errStopping
	}
	s.waiting = idle
	return s.conn.SetReadDeadline(until)
}

func (s *Session) unpark() {
	s.mu.Lock()
	s.waiting = false
	s.mu.Unlock()
}

// interrupt tells the session that the server is to end.
func (s *Session) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = true
	if s.waiting {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// cut ends the session at once, whatever it is doing.
func (s *Session) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tcp, ok := s.conn.(interface{ NetConn() net.Conn }); ok { // TLS would wait to say goodbye
		_ = tcp.NetConn().Close()
		return
	}
	_ = s.conn.Close()
}

func (s *Session) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop
}

// unreadable answers a command that could not be read.
func (s *Session) unreadable(err error) {
	switch {
	case errors.Is(err, smtp.ErrLineTooLong):
		s.answer(say(500, status(5, 5, 2), "Line too long"))
	case errors.Is(err, errStopping), errors.Is(err, os.ErrDeadlineExceeded) && s.tx == nil && s.stopping():
		s.answer(say(421, status(4, 3, 2), s.server.cfg.Hostname+" is shutting down"))
		s.reason = "shutdown"
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.answer(say(421, status(4, 4, 2), "Timeout, closing")) // RFC 5321 §4.5.3.2
		s.reason = "timeout"
	case errors.Is(err, smtp.ErrEndless):
		s.answer(say(421, status(4, 7, 0), "Line without end, closing"))
	case errors.Is(err, io.EOF):
		s.reason = "gone"
	default:
		s.reason = "broken"
	}
}

// answer gathers a reply to be sent; a zero one says nothing. It counts
// protocol errors, which are those of subject 5 (RFC 3463 §3.6), and ends the
// session after a reply that says so.
func (s *Session) answer(r smtp.Reply) {
	if r.Code == 0 {
		return
	}
	if r.Status.Class == 5 && r.Status.Subject == 5 {
		s.errors++
	}
	if s.errors >= s.server.cfg.MaxErrors {
		s.errors = 0
		s.send(r)
		r = say(421, status(4, 7, 0), "Too many errors, closing")
		s.reason = "errors"
	}
	s.send(r)
	switch {
	case s.reason != "":
	case r.Code == 221:
		s.reason = "quit"
	case r.Code == 421:
		s.reason = "closed"
	}
}

func (s *Session) send(r smtp.Reply) {
	if s.tx == nil || !s.tx.utf8 {
		r = ascii(r)
	}
	s.server.metrics.reply(r)
	sent := len(s.wire.out)
	s.wire.out = r.Append(s.wire.out)
	s.record.server(s.wire.out[sent:])
	if len(s.wire.out) >= maxOutput {
		s.wire.flush()
	}
}

// advance notes that the client got something done.
func (s *Session) advance() { s.progress = time.Now() }
