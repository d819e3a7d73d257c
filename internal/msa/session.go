package msa

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"strings"

	"mittente/internal/account"
	"mittente/internal/mail"
	"mittente/internal/smtp"
	"mittente/internal/smtpserver"
	"mittente/internal/submission"
)

// session is what the door knows of a client beyond its connection. It begins
// anew with TLS.
type session struct {
	door     *Door
	wire     *smtpserver.Session
	who      submission.Session // what the gate is told
	envelope mail.Envelope      // of the running transaction
	failures int                // passwords refused
}

func newSession(d *Door, wire *smtpserver.Session) *session {
	s := &session{door: d, wire: wire}
	s.who.Client, s.who.Transcript, s.who.Words = wire.Client(), wire.Transcript, s.words
	if state := wire.TLS(); state != nil {
		s.who.TLS = strings.ReplaceAll(tls.VersionName(state.Version), " ", "") + " " + tls.CipherSuiteName(state.CipherSuite)
	}
	return s
}

// Mail opens a transaction, or says why not.
func (s *session) Mail(ctx context.Context, m smtp.Mail) smtp.Reply {
	s.who.Helo = s.wire.Helo()
	principal, err := s.door.deps.Gate.Mail(ctx, s.who, m.From)
	if err != nil {
		return s.refused(ctx, err)
	}
	s.who.Principal = principal
	s.envelope = mail.Envelope{From: m.From, SMTPUTF8: m.UTF8, EightBit: m.EightBit, Return: m.Return, ID: m.ID}
	return say(250, status(2, 1, 0), "Sender ok")
}

// Rcpt adds a recipient to the transaction, or says why not.
func (s *session) Rcpt(ctx context.Context, r mail.Rcpt) smtp.Reply {
	if err := s.door.deps.Gate.Rcpt(ctx, s.who, &s.envelope, r); err != nil {
		return s.refused(ctx, err)
	}
	s.envelope.To = append(s.envelope.To, r)
	return say(250, status(2, 1, 5), "Recipient ok")
}

// Content hands the message to the gate.
func (s *session) Content(ctx context.Context, content *smtpserver.Content) smtp.Reply {
	message, err := s.door.deps.Gate.Submit(ctx, s.who, s.envelope, content)
	switch {
	case content.Err() != nil:
		return smtp.Reply{} // that is what err is, and the wire has an answer to it
	case err != nil:
		return s.refused(ctx, err)
	}
	s.wire.Log(ctx, slog.LevelInfo, "message accepted", slog.String("message", message.String()),
		slog.Int("recipients", len(s.envelope.To)), slog.Int64("octets", content.Size()))
	return say(250, status(2, 0, 0), "Queued as "+message.String())
}

// words is the reply to a refusal, for its record.
func (s *session) words(refused error) string {
	if _, ok := errors.AsType[*account.AuthError](refused); ok && s.who.Principal.User.Name == "" {
		return authRefused(refused, s.who.Client.Addr()).String()
	}
	reply, _ := gateRefused(refused, s.door.cfg.PublicURL)
	return reply.String()
}

// refused answers what the gate did not want.
func (s *session) refused(ctx context.Context, err error) smtp.Reply {
	reply, ok := gateRefused(err, s.door.cfg.PublicURL)
	if !ok {
		s.door.metrics.faults.Inc()
		s.wire.Log(ctx, slog.LevelError, "message not taken in", slog.String("error", err.Error()))
		return reply
	}
	if _, ended := errors.AsType[*account.AuthError](err); ended {
		s.wire.Leave("credentials ended")
	}
	if why, ok := errors.AsType[*submission.Rejection](err); ok && why.Temporary() && why.Reason != submission.OverQuota { // ours to mend, not the client's
		s.wire.Log(ctx, slog.LevelWarn, "storage is in trouble", slog.String("error", why.Error()))
	}
	return reply
}
