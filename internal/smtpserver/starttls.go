package smtpserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"time"

	"mittente/internal/smtp"
)

// startTLS answers STARTTLS (RFC 3207). A failed handshake ends the session: it
// never goes on in clear.
func (s *Session) startTLS(ctx context.Context, args string) smtp.Reply {
	switch {
	case s.tls != nil:
		return badOrder("TLS is active already")
	case s.server.cfg.TLS == nil:
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
		s.server.metrics.tls.WithLabelValues("failed").Inc()
		s.Log(ctx, slog.LevelInfo, "tls handshake failed", slog.String("error", err.Error()))
		s.reason = "handshake"
		return smtp.Reply{}
	}
	s.server.metrics.tls.WithLabelValues("ok").Inc()
	s.forget()
	return smtp.Reply{}
}

func (s *Session) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.server.cfg.Timeouts.Handshake)
	defer cancel()
	s.wire.release()
	if err := s.wire.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	shown := &shownConn{Conn: s.wire.conn}
	conn := tls.Server(shown, s.server.cfg.TLS)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if shown.certificate == nil { // a resumed session shows none (RFC 8446 §4.6.1)
		shown.certificate = s.server.shown.Load()
	}
	s.certificate = shown.certificate
	s.wire.conn = conn
	s.mu.Lock()
	s.conn = conn
	s.mu.Unlock()
	state := conn.ConnectionState()
	s.tls = &state
	return nil
}

// shownConn remembers which certificate was shown over a connection:
// crypto/tls does not tell, and tls-server-end-point is made of it (RFC 5929 §4).
type shownConn struct {
	net.Conn

	certificate *tls.Certificate
}

// showing returns cfg with its choice of certificate noted.
func (v *Server) showing(cfg *tls.Config) *tls.Config {
	if cfg == nil || cfg.GetCertificate == nil {
		return cfg
	}
	choose := cfg.GetCertificate
	cfg = cfg.Clone()
	cfg.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := choose(hello)
		if conn, ok := hello.Conn.(*shownConn); ok && err == nil {
			conn.certificate = c
			v.shown.Store(c)
		}
		return c, err
	}
	return cfg
}

// Certificate returns what the server has shown in the handshake; nil in clear,
// and where that is not known.
func (s *Session) Certificate() *x509.Certificate {
	switch c := s.certificate; {
	case c == nil || len(c.Certificate) == 0:
		return nil
	case c.Leaf != nil:
		return c.Leaf
	default:
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			return nil
		}
		return leaf
	}
}

// forget drops what the client said in clear (RFC 3207 §4.2).
func (s *Session) forget() {
	s.reset()
	s.helo, s.authed, s.user = "", false, ""
	s.handler = s.server.deps.Open(s)
	s.advance()
}
