package msa

import (
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"time"

	"mittente/internal/smtp"
	"mittente/internal/submission"
)

// startTLS answers STARTTLS (RFC 3207). A failed handshake ends the session: it
// never goes on in clear.
func (s *session) startTLS(ctx context.Context, args string) smtp.Reply {
	switch {
	case s.who.TLS != "":
		return badOrder("TLS is active already")
	case s.door.cfg.TLS == nil:
		return say(502, status(5, 5, 1), "STARTTLS is not offered")
	case args != "":
		return noArguments("STARTTLS")
	case s.tx != nil:
		return badOrder("Not within a transaction")
	case s.wire.pending():
		// Commands behind STARTTLS in clear would be taken for commands under
		// TLS: someone in between could put them there (CVE-2011-0411).
		s.reason = "injection"
		return say(554, status(5, 7, 0), "Nothing may follow STARTTLS before the handshake")
	}
	s.answer(say(220, status(2, 0, 0), "Ready for TLS"))
	if !s.wire.flush() {
		s.reason = "broken"
		return smtp.Reply{}
	}
	if err := s.handshake(ctx); err != nil {
		s.door.metrics.tls.WithLabelValues("failed").Inc()
		s.log(ctx, slog.LevelInfo, "tls handshake failed", slog.String("error", err.Error()))
		s.reason = "handshake"
		return smtp.Reply{}
	}
	s.door.metrics.tls.WithLabelValues("ok").Inc()
	s.forget()
	return smtp.Reply{}
}

func (s *session) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.door.cfg.Timeouts.Handshake)
	defer cancel()
	s.wire.release()
	if err := s.wire.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	conn := tls.Server(s.wire.conn, s.door.cfg.TLS)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	s.wire.conn = conn
	s.mu.Lock()
	s.conn = conn
	s.mu.Unlock()
	state := conn.ConnectionState()
	s.who.TLS = strings.ReplaceAll(tls.VersionName(state.Version), " ", "") + " " + tls.CipherSuiteName(state.CipherSuite)
	return nil
}

// forget drops what the client said in clear (RFC 3207 §4.2).
func (s *session) forget() {
	s.reset()
	s.helo, s.authed = false, false
	s.who = submission.Session{Client: s.who.Client, TLS: s.who.TLS}
	s.advance()
}
