package msa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"mittente/internal/account"
	"mittente/internal/mail"
	"mittente/internal/smtp"
	"mittente/internal/submission"
)

// transaction is what MAIL begins and the end of data, RSET or EHLO ends (RFC 5321 §3.3).
type transaction struct{ envelope mail.Envelope }

// mail answers MAIL. Without AUTH nobody gets further: this is no open relay.
func (s *session) mail(ctx context.Context, args string) smtp.Reply {
	switch {
	case s.tx != nil:
		return badOrder("Nested MAIL: one message at a time")
	case !s.helo:
		return badOrder("Say EHLO first")
	}
	reply := s.begin(ctx, args)
	s.refused = s.tx == nil
	return reply
}

// begin opens a transaction, or says why not.
func (s *session) begin(ctx context.Context, args string) smtp.Reply {
	if !s.authed {
		return s.unknown(ctx)
	}
	m, err := smtp.ParseMail(args)
	switch {
	case err != nil:
		return s.refuse(ctx, argumentsRefused(err, senderRole()), m.From)
	case m.From.Address.NeedsUTF8() && !m.UTF8:
		return s.refuse(ctx, needsUTF8(m.From.Address), m.From)
	case m.Size > s.door.cfg.MaxMessageBytes:
		return s.refuse(ctx, tooBig(s.door.cfg.MaxMessageBytes), m.From)
	}
	principal, err := s.door.deps.Gate.Mail(ctx, s.who, m.From)
	if err != nil {
		return s.gateRefused(ctx, err, m.From)
	}
	s.who.Principal = principal
	s.tx = &transaction{envelope: mail.Envelope{From: m.From, SMTPUTF8: m.UTF8, EightBit: m.EightBit, Return: m.Return, ID: m.ID}}
	s.advance()
	return say(250, status(2, 1, 0), "Sender ok")
}

// unknown answers MAIL without AUTH. Once may happen to an honest client (some
// say MAIL after a 535), more often is an error.
func (s *session) unknown(ctx context.Context) smtp.Reply {
	if s.bare {
		s.errors++
	} else {
		s.log(ctx, slog.LevelInfo, "message refused without authentication")
	}
	s.bare = true
	s.door.metrics.messages.WithLabelValues("unauthenticated").Inc()
	return mustAuthenticate()
}

// rcpt answers RCPT.
func (s *session) rcpt(ctx context.Context, args string) smtp.Reply {
	if s.tx == nil {
		return s.noTransaction()
	}
	reply := s.recipient(ctx, args)
	if reply.Code != 250 {
		s.log(ctx, slog.LevelInfo, "recipient refused", slog.String("reply", reply.String()))
	}
	return reply
}

// recipient adds a recipient to the transaction, or says why not.
func (s *session) recipient(ctx context.Context, args string) smtp.Reply {
	envelope := &s.tx.envelope
	r, err := smtp.ParseRcpt(args)
	switch {
	case err != nil:
		return argumentsRefused(err, recipientRole())
	case r.To.Address.NeedsUTF8() && !envelope.SMTPUTF8:
		return needsUTF8(r.To.Address)
	case len(envelope.To) >= s.door.cfg.MaxRecipients:
		return say(452, status(4, 5, 3), fmt.Sprintf("Too many recipients: at most %d of one message", s.door.cfg.MaxRecipients)) // RFC 5321 §4.5.3.1.10
	}
	if err := s.door.deps.Gate.Rcpt(ctx, s.who, envelope, r); err != nil {
		return s.gateRefused(ctx, err, envelope.From)
	}
	envelope.To = append(envelope.To, r)
	s.advance()
	return say(250, status(2, 1, 5), "Recipient ok")
}

// noTransaction answers what needs a MAIL before it. Behind a MAIL that was
// refused in the same group it is no error of the client's (RFC 2920 §3.1).
func (s *session) noTransaction() smtp.Reply {
	if s.refused {
		return say(503, status(5, 0, 0), "MAIL was refused")
	}
	return badOrder("Say MAIL first")
}

// data answers DATA, and takes the content in.
func (s *session) data(ctx context.Context, args string) smtp.Reply {
	switch {
	case args != "":
		return noArguments("DATA")
	case s.tx == nil:
		return s.noTransaction()
	case len(s.tx.envelope.To) == 0:
		return say(554, status(5, 1, 0), "No valid recipients") // RFC 5321 §3.3
	}
	s.answer(smtp.Reply{Code: 354, Lines: []string{"Go ahead, end with CRLF.CRLF"}})
	t := s.door.cfg.Timeouts
	s.wire.patient(t.DataBlock, t.Data)
	defer s.wire.impatient()
	reply := s.take(ctx)
	s.reset()
	s.advance()
	return reply
}

// take hands content to the gate and finds the end of data. If it can't be
// found the connection is closed: what follows is content and no commands.
func (s *session) take(ctx context.Context) smtp.Reply {
	limit := s.door.cfg.MaxMessageBytes
	content := smtp.NewDataReader(s.wire.r, limit)
	message, err := s.door.deps.Gate.Submit(ctx, s.who, s.tx.envelope, content)
	s.door.metrics.octets.Add(float64(content.Size()))
	if err == nil && !content.Ended() {
		err = errors.New("message taken in before its end")
		s.reason = "fault"
	}
	broken := content.Drain(limit + smtp.MaxTextLine)
	switch fault := content.Fault(); {
	case broken != nil:
		return s.contentBroken(ctx, broken)
	case fault != nil:
		return s.refuse(ctx, contentRefused(fault, limit), s.tx.envelope.From)
	case err != nil:
		return s.gateRefused(ctx, err, s.tx.envelope.From)
	}
	s.errors = 0
	s.door.metrics.messages.WithLabelValues("accepted").Inc()
	s.log(ctx, slog.LevelInfo, "message accepted", slog.String("message", message.String()),
		slog.Int("recipients", len(s.tx.envelope.To)), slog.Int64("octets", content.Size()))
	return queued(message.String())
}

// contentBroken ends a session whose content has no end that could be found.
func (s *session) contentBroken(ctx context.Context, broken error) smtp.Reply {
	s.reason = "broken"
	s.door.metrics.messages.WithLabelValues("aborted").Inc()
	s.log(ctx, slog.LevelInfo, "message aborted", slog.String("error", broken.Error()))
	switch {
	case errors.Is(broken, smtp.ErrEndless):
		s.reason = "too big"
		return tooBig(s.door.cfg.MaxMessageBytes)
	case errors.Is(broken, os.ErrDeadlineExceeded):
		s.reason = "timeout"
		return say(421, status(4, 4, 2), "Timeout, closing")
	}
	return smtp.Reply{}
}

// gateRefused answers what the gate did not want.
func (s *session) gateRefused(ctx context.Context, err error, from mail.ReversePath) smtp.Reply {
	reply, ok := gateRefused(err, s.door.cfg.PublicURL)
	if !ok {
		s.door.metrics.messages.WithLabelValues("error").Inc()
		s.log(ctx, slog.LevelError, "message not taken in", slog.String("error", err.Error()))
		return reply
	}
	if _, ended := errors.AsType[*account.AuthError](err); ended {
		s.reason = "credentials ended"
	}
	if why, ok := errors.AsType[*submission.Rejection](err); ok && why.Temporary() { // ours to mend, not the client's
		s.log(ctx, slog.LevelWarn, "storage is in trouble", slog.String("error", why.Error()))
	}
	return s.refuse(ctx, reply, from)
}

// refuse logs and counts a refusal of a message.
func (s *session) refuse(ctx context.Context, reply smtp.Reply, from mail.ReversePath) smtp.Reply {
	s.door.metrics.messages.WithLabelValues("refused").Inc()
	s.log(ctx, slog.LevelInfo, "message refused", slog.String("from", from.String()), slog.String("reply", reply.String()))
	return reply
}
