package msa

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"mittente/internal/smtp"
	"mittente/internal/submission"
)

const (
	maxCommand = 2048   // octets of a line: 512 and what the extensions add (RFC 5321 §4.5.3.1.4)
	maxAuth    = 12_288 // octets of a line of AUTH (RFC 4954 §4)
	maxErrors  = 10     // protocol errors in a row, no message between them
	maxHelo    = 255    // octets kept of a client's name

	lingerTime   = time.Second
	lingerOctets = 1 << 20
)

// session is one connection. Its fields belong to the goroutine in serve, but
// for those below mu.
type session struct {
	door   *Door
	wire   wire
	number uint64

	who      submission.Session // what the gate is told
	helo     bool               // EHLO or HELO was said
	authed   bool
	tx       *transaction // nil outside one
	refused  bool         // the last MAIL was: what was pipelined behind it is no error
	bare     bool         // MAIL was said without AUTH
	errors   int          // protocol errors since the last message
	failures int          // passwords refused
	failed   uint64       // hash of the last ones
	progress time.Time    // when something last got a message on
	reason   string       // why the session ends; "" while it goes on

	mu      sync.Mutex
	conn    net.Conn // the same as wire.conn
	waiting bool     // for a command, outside a transaction
	stop    bool     // the server is to end
}

func newSession(d *Door, conn net.Conn, client netip.AddrPort) *session {
	s := &session{door: d, number: d.serial.Add(1), conn: conn, progress: time.Now()}
	s.wire = wire{conn: conn, pool: &d.readers, write: d.cfg.Timeouts.Write}
	s.who.Client = client
	return s
}

// serve speaks with the client until one of both has enough. Whatever goes
// wrong in it ends this session and no other.
func (s *session) serve(ctx context.Context) {
	defer s.end(ctx)
	s.answer(smtp.Reply{Code: 220, Lines: []string{s.door.cfg.Hostname + " ESMTP mittente"}})
	for s.reason == "" {
		s.turn(ctx)
	}
}

// end closes the connection and forgets the session.
func (s *session) end(ctx context.Context) {
	if fault := recover(); fault != nil {
		s.reason = "fault"
		s.log(ctx, slog.LevelError, "session failed", slog.String("error", fmt.Sprint(fault)), slog.String("stack", string(debug.Stack())))
	}
	if s.wire.flush() {
		s.linger()
	}
	s.wire.release()
	_ = s.wire.conn.Close()
	s.door.leave(s)
	s.door.metrics.ended.WithLabelValues(s.reason).Inc()
}

// linger reads over what a client still sends that was told to go: closing a
// connection with input unread would reset it, and the last reply be lost.
func (s *session) linger() {
	switch s.reason {
	case "errors", "auth", "injection", "too big", "closed":
	default:
		return
	}
	conn, ok := s.wire.conn.(interface{ CloseWrite() error })
	if !ok || conn.CloseWrite() != nil {
		return
	}
	_ = s.wire.conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, s.wire.conn, lingerOctets)
}

// turn takes one command and answers it.
func (s *session) turn(ctx context.Context) {
	line, err := s.read(maxAuth)
	if err != nil {
		s.unreadable(err)
		return
	}
	command, err := smtp.ParseCommand(line)
	switch {
	case len(line) > maxCommand && command.Verb != "AUTH":
		s.unreadable(smtp.ErrLineTooLong)
	case err != nil:
		s.answer(say(500, status(5, 5, 2), "No command: "+clip(err.Error())))
	default:
		s.answer(s.handler(command.Verb)(ctx, command.Args))
	}
}

// handler returns what answers a verb: the grammar of RFC 5321 §4.1.1.
func (s *session) handler(verb string) func(context.Context, string) smtp.Reply {
	switch verb {
	case "EHLO":
		return s.ehlo
	case "HELO":
		return s.hello
	case "STARTTLS":
		return s.startTLS
	case "AUTH":
		return s.auth
	case "MAIL":
		return s.mail
	case "RCPT":
		return s.rcpt
	case "DATA":
		return s.data
	case "RSET":
		return s.rset
	case "QUIT":
		return s.quit
	}
	return s.courtesy(verb)
}

// courtesy returns what answers a verb that does nothing, or is none.
func (s *session) courtesy(verb string) func(context.Context, string) smtp.Reply {
	reply := say(500, status(5, 5, 1), "Command not recognised")
	switch verb {
	case "NOOP":
		reply = say(250, status(2, 0, 0), "Ok")
	case "VRFY":
		reply = say(252, status(2, 0, 0), "Can't verify, send and see") // RFC 5321 §3.5.3
	case "EXPN":
		reply = say(502, status(5, 5, 1), "There is nothing to expand")
	case "HELP":
		reply = say(214, status(2, 0, 0), "EHLO STARTTLS AUTH MAIL RCPT DATA RSET NOOP QUIT: see "+s.door.cfg.PublicURL)
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT":
		// A browser that is made to post to one of our ports must not get to
		// say commands in what it posts.
		reply = say(421, status(4, 7, 0), "This server speaks SMTP")
	}
	return func(context.Context, string) smtp.Reply { return reply }
}

// read waits for a line. Outside a transaction the server may end meanwhile.
func (s *session) read(limit int) ([]byte, error) {
	t := s.door.cfg.Timeouts
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

func (s *session) park(until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := s.tx == nil
	if idle && s.stop {
		return errStopping
	}
	s.waiting = idle
	return s.conn.SetReadDeadline(until)
}

func (s *session) unpark() {
	s.mu.Lock()
	s.waiting = false
	s.mu.Unlock()
}

// interrupt tells the session that the server is to end.
func (s *session) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = true
	if s.waiting {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// cut ends the session at once, whatever it is doing.
func (s *session) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tcp, ok := s.conn.(interface{ NetConn() net.Conn }); ok { // TLS would wait to say goodbye
		_ = tcp.NetConn().Close()
		return
	}
	_ = s.conn.Close()
}

func (s *session) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop
}

// unreadable answers a command that could not be read.
func (s *session) unreadable(err error) {
	switch {
	case errors.Is(err, smtp.ErrLineTooLong):
		s.answer(say(500, status(5, 5, 2), "Line too long"))
	case errors.Is(err, errStopping), errors.Is(err, os.ErrDeadlineExceeded) && s.tx == nil && s.stopping():
		s.answer(say(421, status(4, 3, 2), s.door.cfg.Hostname+" is shutting down"))
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
func (s *session) answer(r smtp.Reply) {
	if r.Code == 0 {
		return
	}
	if r.Status.Class == 5 && r.Status.Subject == 5 {
		s.errors++
	}
	if s.errors >= maxErrors {
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

func (s *session) send(r smtp.Reply) {
	if s.tx == nil || !s.tx.envelope.SMTPUTF8 {
		r = ascii(r)
	}
	s.door.metrics.reply(r)
	s.wire.out = r.Append(s.wire.out)
}

// ehlo answers EHLO (RFC 5321 §4.1.1.1) with the extensions offered now.
func (s *session) ehlo(_ context.Context, args string) smtp.Reply {
	if !s.greet(args) {
		return say(501, status(5, 5, 4), "EHLO needs your name")
	}
	cfg := s.door.cfg
	lines := []string{
		cfg.Hostname,
		"PIPELINING", // RFC 2920
		fmt.Sprintf("SIZE %d", cfg.MaxMessageBytes), // RFC 1870
		"8BITMIME",            // RFC 6152
		"SMTPUTF8",            // RFC 6531
		"ENHANCEDSTATUSCODES", // RFC 2034
		"DSN",                 // RFC 3461
	}
	if cfg.TLS != nil && s.who.TLS == "" {
		lines = append(lines, "STARTTLS") // RFC 3207 §4.2: not under TLS
	}
	if s.mayShowPassword() {
		lines = append(lines, "AUTH PLAIN LOGIN") // RFC 4954
	}
	return smtp.Reply{Code: 250, Lines: lines}
}

// hello answers HELO, after which AUTH works as well: old PHP programs do that (M2).
func (s *session) hello(_ context.Context, args string) smtp.Reply {
	if !s.greet(args) {
		return say(501, status(5, 5, 4), "HELO needs your name")
	}
	return smtp.Reply{Code: 250, Lines: []string{s.door.cfg.Hostname}}
}

// greet notes the client's name; like RSET it ends a transaction (RFC 5321 §4.1.4).
func (s *session) greet(name string) bool {
	if name == "" {
		return false
	}
	s.reset()
	s.helo = true
	s.who.Helo = strings.ToValidUTF8(name[:min(len(name), maxHelo)], "?")
	return true
}

func (s *session) rset(_ context.Context, args string) smtp.Reply {
	if args != "" {
		return noArguments("RSET")
	}
	s.reset()
	return say(250, status(2, 0, 0), "Ok")
}

func (s *session) quit(_ context.Context, args string) smtp.Reply {
	if args != "" {
		return noArguments("QUIT")
	}
	return say(221, status(2, 0, 0), "Bye")
}

// reset drops the transaction.
func (s *session) reset() { s.tx, s.refused = nil, false }

// advance notes that the client got something done.
func (s *session) advance() { s.progress = time.Now() }

func (s *session) log(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	log := s.door.deps.Log
	if !log.Enabled(ctx, level) {
		return
	}
	own := []slog.Attr{
		slog.String("session", fmt.Sprintf("%x-%x", s.door.started, s.number)),
		slog.String("client", s.who.Client.String()),
	}
	if s.authed {
		own = append(own, slog.String("user", s.who.Principal.User.Name))
	}
	log.LogAttrs(ctx, level, message, append(own, attrs...)...) //nolint:sloglint // the messages are the callers' constants
}
