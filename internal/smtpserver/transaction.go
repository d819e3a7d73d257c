package smtpserver

import (
	"context"
	"fmt"
	"log/slog"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// transaction is what MAIL begins and the end of data, RSET or EHLO ends (RFC 5321 §3.3).
type transaction struct {
	from       mail.ReversePath
	utf8       bool
	recipients int
	chunks     *chunks // once BDAT has begun
}

// reset drops the transaction.
func (s *Session) reset() { s.tx, s.refused = nil, "" }

// mail answers MAIL. Without AUTH nobody gets further: this is no open relay.
func (s *Session) mail(ctx context.Context, args string) smtp.Reply {
	switch {
	case s.tx != nil:
		return badOrder("Nested MAIL: one message at a time")
	case s.helo == "":
		return badOrder("Say EHLO first")
	}
	s.refused = "MAIL was refused"
	if !s.authed {
		return s.unknown(ctx)
	}
	m, err := smtp.ParseMail(args)
	reply := s.begin(ctx, m, err)
	if reply.Code != 250 {
		s.refuse(ctx, reply, m.From)
		return reply
	}
	s.tx, s.refused = &transaction{from: m.From, utf8: m.UTF8}, ""
	s.advance()
	return reply
}

// begin says whether a transaction may begin.
func (s *Session) begin(ctx context.Context, m smtp.Mail, err error) smtp.Reply {
	s.mails++
	switch {
	case s.mails > s.server.cfg.MaxPerConnection: // RFC 9422 §4.1
		s.Leave("messages")
		return say(421, status(4, 7, 0), fmt.Sprintf("At most %d messages over one connection: open another one", s.server.cfg.MaxPerConnection))
	case err != nil:
		return argumentsRefused(err, senderRole())
	case m.From.Address.NeedsUTF8() && !m.UTF8:
		return needsUTF8(m.From.Address)
	case m.Size > s.server.cfg.MaxMessageBytes:
		return tooBig(s.server.cfg.MaxMessageBytes)
	}
	return s.handler.Mail(ctx, m)
}

// unknown answers MAIL without AUTH. Once may happen to an honest client (some
// say MAIL after a 535), more often is an error.
func (s *Session) unknown(ctx context.Context) smtp.Reply {
	if s.bare {
		s.errors++
	} else {
		s.Log(ctx, slog.LevelInfo, "message refused without authentication")
	}
	s.bare = true
	s.server.metrics.transactions.WithLabelValues("unauthenticated").Inc()
	return say(530, status(5, 7, 0), "Authentication required")
}

// rcpt answers RCPT.
func (s *Session) rcpt(ctx context.Context, args string) smtp.Reply {
	switch {
	case s.tx == nil:
		return s.noTransaction()
	case s.tx.chunks != nil:
		return badOrder("BDAT has begun")
	}
	reply := s.recipient(ctx, args)
	if reply.Code != 250 {
		s.Log(ctx, slog.LevelInfo, "recipient refused", slog.String("reply", reply.String()))
		return reply
	}
	s.tx.recipients++
	s.advance()
	return reply
}

// recipient says whether a recipient is taken.
func (s *Session) recipient(ctx context.Context, args string) smtp.Reply {
	r, err := smtp.ParseRcpt(args)
	limit := s.server.cfg.MaxRecipients
	switch {
	case err != nil:
		return argumentsRefused(err, recipientRole())
	case r.To.Address.NeedsUTF8() && !s.tx.utf8:
		return needsUTF8(r.To.Address)
	case s.tx.recipients >= limit:
		return say(452, status(4, 5, 3), fmt.Sprintf("Too many recipients: at most %d of one message", limit)) // RFC 5321 §4.5.3.1.10
	}
	return s.handler.Rcpt(ctx, r)
}

// noTransaction answers what needs a MAIL before it. Behind a MAIL that was
// refused in the same group it is no error of the client's (RFC 2920 §3.1).
func (s *Session) noTransaction() smtp.Reply {
	if s.refused != "" {
		return say(503, status(5, 0, 0), s.refused)
	}
	return badOrder("Say MAIL first")
}

// refuse logs and counts a refusal of a message.
func (s *Session) refuse(ctx context.Context, reply smtp.Reply, from mail.ReversePath) {
	outcome := "refused"
	if reply.Class() == 4 {
		outcome = "deferred"
	}
	s.server.metrics.transactions.WithLabelValues(outcome).Inc()
	s.Log(ctx, slog.LevelInfo, "message refused", slog.String("from", from.String()), slog.String("reply", reply.String()))
}
