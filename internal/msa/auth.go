package msa

import (
	"context"
	"encoding/base64"
	"errors"
	"hash/maphash"
	"log/slog"
	"strings"
	"time"

	"mittente/internal/account"
	"mittente/internal/smtp"
)

const (
	maxFailures = 3 // refused passwords of one session
	maxDelay    = 8 // of the first delay
)

// mayShowPassword reports whether AUTH is offered now.
func (s *session) mayShowPassword() bool {
	return s.who.TLS != "" || s.door.cfg.PlaintextAuth == PlaintextAllow
}

// auth answers AUTH (RFC 4954) with PLAIN (RFC 4616) or LOGIN. Nothing of its
// arguments goes into a log or a reply.
func (s *session) auth(ctx context.Context, args string) smtp.Reply {
	switch {
	case !s.helo:
		return badOrder("Say EHLO first")
	case s.authed: // so there is none within a transaction either
		return badOrder("Authenticated already")
	case !s.mayShowPassword():
		return mustEncrypt()
	}
	mechanism, initial, _ := strings.Cut(args, " ")
	attempt := account.AuthAttempt{TLS: s.who.TLS != "", Client: s.who.Client.Addr()}
	var refusal smtp.Reply
	var ok bool
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		refusal, ok = s.plain(&attempt, strings.TrimSpace(initial))
	case "LOGIN":
		refusal, ok = s.login(&attempt, strings.TrimSpace(initial))
	default:
		return say(504, status(5, 5, 4), "Mechanism not offered: use PLAIN or LOGIN")
	}
	if !ok {
		return refusal
	}
	return s.authenticate(ctx, attempt)
}

// plain reads authzid NUL authcid NUL passwd (RFC 4616 §2).
func (s *session) plain(a *account.AuthAttempt, initial string) (refusal smtp.Reply, ok bool) {
	response, refusal, ok := s.response("", initial)
	if !ok {
		return refusal, false
	}
	parts := strings.Split(response, "\x00")
	if len(parts) != 3 {
		return say(501, status(5, 5, 2), "PLAIN wants NUL, name, NUL and password"), false
	}
	if parts[0] != "" && parts[0] != parts[1] {
		return say(535, status(5, 7, 8), "Nobody may act as another user"), false
	}
	a.Name, a.Password = parts[1], parts[2]
	return smtp.Reply{}, true
}

// login reads name and password, each after its question.
func (s *session) login(a *account.AuthAttempt, initial string) (refusal smtp.Reply, ok bool) {
	if a.Name, refusal, ok = s.response("Username:", initial); !ok {
		return refusal, false
	}
	a.Password, refusal, ok = s.response("Password:", "")
	return refusal, ok
}

// response returns the initial response, or asks for one. When ok is false the
// exchange is over, with the reply to be given.
func (s *session) response(question, initial string) (response string, refusal smtp.Reply, ok bool) {
	if initial == "" {
		s.answer(smtp.Reply{Code: 334, Lines: []string{base64.StdEncoding.EncodeToString([]byte(question))}})
		line, err := s.read(maxAuth)
		if err != nil {
			s.unreadable(err)
			return "", smtp.Reply{}, false
		}
		initial = string(line)
	}
	switch initial {
	case "*": // RFC 4954 §4
		return "", say(501, status(5, 7, 0), "Authentication cancelled"), false
	case "=": // an empty initial response
		return "", smtp.Reply{}, true
	}
	b, err := base64.StdEncoding.DecodeString(initial)
	if err != nil {
		return "", say(501, status(5, 5, 2), "Not base64"), false
	}
	return string(b), smtp.Reply{}, true
}

// authenticate asks whether the password is right.
func (s *session) authenticate(ctx context.Context, attempt account.AuthAttempt) smtp.Reply {
	principal, err := s.door.deps.Authenticator.Authenticate(ctx, attempt)
	if err == nil {
		s.authed, s.who.Principal = true, principal
		s.advance()
		s.door.metrics.auth.WithLabelValues("ok").Inc()
		return say(235, status(2, 7, 0), "Authentication successful")
	}
	reply := authRefused(err, attempt.Client)
	var why *account.AuthError
	if !errors.As(err, &why) {
		s.door.metrics.auth.WithLabelValues("error").Inc()
		s.log(ctx, slog.LevelError, "authentication not possible", slog.String("error", err.Error()))
		return reply
	}
	s.door.metrics.auth.WithLabelValues(string(why.Reason)).Inc()
	s.log(ctx, slog.LevelInfo, "authentication refused", slog.String("name", loggable(attempt.Name)),
		slog.String("reason", string(why.Reason)), slog.Bool("tls", attempt.TLS))
	if why.Reason == account.BadCredentials {
		return s.passwordRefused(ctx, attempt, reply)
	}
	s.errors++ // the password was right: no guess, but not without end either
	return reply
}

// passwordRefused slows the session down, and ends it at the third failure.
// Some clients try the same password by another mechanism: that is one failure.
func (s *session) passwordRefused(ctx context.Context, attempt account.AuthAttempt, reply smtp.Reply) smtp.Reply {
	failed := maphash.String(s.door.seed, attempt.Name+"\x00"+attempt.Password)
	if s.failures > 0 && failed == s.failed {
		s.errors++
		return reply
	}
	s.failed = failed
	delay := s.door.cfg.Timeouts.AuthDelay * time.Duration(min(1<<s.failures, maxDelay))
	s.failures++
	s.pause(ctx, delay)
	if s.failures >= maxFailures {
		s.reason = "auth"
		return say(421, status(4, 7, 0), "Too many wrong passwords, closing")
	}
	return reply
}

// pause waits, unless the server is to end.
func (s *session) pause(ctx context.Context, d time.Duration) {
	s.wire.flush()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-s.door.closing:
	}
}

// loggable returns a name only if it has the form of ours: people put their
// password into the wrong field.
func loggable(name string) string {
	rest, ok := strings.CutPrefix(name, "s")
	if !ok || len(name) > 32 || strings.Trim(rest, "0123456789_") != "" {
		return "(not the form of a user name)"
	}
	return name
}
