package msa

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"mittente/internal/account"
	"mittente/internal/smtp"
	"mittente/internal/smtpserver"
)

const (
	maxFailures = 3 // refused passwords of one session
	maxDelay    = 8 // of the first delay
)

const (
	mechPlain     = "PLAIN"              // RFC 4616
	mechLogin     = "LOGIN"              // draft-murchison-sasl-login
	mechScram     = "SCRAM-SHA-256"      // RFC 7677
	mechScramPlus = "SCRAM-SHA-256-PLUS" // the same, bound to the TLS session
)

// Mechanisms are those of AUTH that are offered now.
func (s *session) Mechanisms() []string {
	switch secure := s.who.TLS != ""; {
	case !secure && s.door.cfg.PlaintextAuth == PlaintextRefuse:
		return nil
	case s.door.deps.Exchange == nil:
		return []string{mechPlain, mechLogin}
	case secure:
		return []string{mechPlain, mechLogin, mechScram, mechScramPlus}
	default:
		return []string{mechPlain, mechLogin, mechScram}
	}
}

// Auth answers AUTH. Nothing of what the client says goes into a log or a reply.
func (s *session) Auth(ctx context.Context, x *smtpserver.Exchange) smtp.Reply {
	s.who.Helo = s.wire.Helo()
	attempt := account.AuthAttempt{TLS: s.who.TLS != "", Client: s.who.Client.Addr()}
	var refusal smtp.Reply
	var ok bool
	switch x.Mechanism {
	case mechPlain:
		refusal, ok = readPlain(&attempt, x)
	case mechLogin:
		ok = readLogin(&attempt, x)
	default:
		return s.scram(ctx, x)
	}
	if !ok {
		return refusal
	}
	principal, err := s.door.deps.Authenticator.Authenticate(ctx, attempt)
	if err != nil {
		return s.authRefused(ctx, err)
	}
	return s.admit(principal)
}

// scram passes the messages of an exchange on (RFC 5802 §5). The last of the
// server goes out as a challenge, which the client answers with nothing: 235 has
// no room for it (RFC 4954 §4).
func (s *session) scram(ctx context.Context, x *smtpserver.Exchange) smtp.Reply {
	exchange := s.door.deps.Exchange(account.ScramAttempt{
		Plus: x.Mechanism == mechScramPlus, TLS: s.wire.TLS(), Certificate: s.wire.Certificate(), Client: s.who.Client.Addr(),
	})
	challenge := ""
	for {
		response, ok := x.Response(challenge)
		if !ok {
			return smtp.Reply{}
		}
		server, done, err := exchange.Step(ctx, response)
		switch {
		case err != nil:
			return s.authRefused(ctx, err)
		case done:
			return s.admit(exchange.Principal())
		}
		challenge = server
	}
}

// readPlain reads authzid NUL authcid NUL passwd (RFC 4616 §2).
func readPlain(a *account.AuthAttempt, x *smtpserver.Exchange) (refusal smtp.Reply, ok bool) {
	response, ok := x.Response("")
	if !ok {
		return smtp.Reply{}, false
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

// readLogin reads name and password, each after its question.
func readLogin(a *account.AuthAttempt, x *smtpserver.Exchange) (ok bool) {
	if a.Name, ok = x.Response("Username:"); ok {
		a.Password, ok = x.Response("Password:")
	}
	return ok
}

func (s *session) admit(principal account.Principal) smtp.Reply {
	s.who.Principal = principal
	s.wire.Known(principal.User.Name)
	s.door.metrics.auth.WithLabelValues("ok").Inc()
	return say(235, status(2, 7, 0), "Authentication successful")
}

// authRefused answers a client that was not let in.
func (s *session) authRefused(ctx context.Context, err error) smtp.Reply {
	reply := authRefused(err, s.who.Client.Addr())
	why, ok := errors.AsType[*account.AuthError](err)
	switch {
	case errors.Is(err, account.ErrExchange):
		s.door.metrics.auth.WithLabelValues("malformed").Inc()
		return reply
	case !ok:
		s.door.metrics.auth.WithLabelValues("error").Inc()
		s.wire.Log(ctx, slog.LevelError, "authentication not possible", slog.String("error", err.Error()))
		return reply
	}
	s.door.metrics.auth.WithLabelValues(string(why.Reason)).Inc()
	s.wire.Log(ctx, slog.LevelInfo, "authentication refused", slog.String("name", loggable(why.Name)),
		slog.String("reason", string(why.Reason)), slog.Bool("tls", s.who.TLS != ""))
	s.door.deps.Gate.AuthRefused(ctx, why, s.who)
	if why.Reason == account.BadCredentials {
		return s.passwordRefused(ctx, why, reply)
	}
	s.wire.Mistake() // no guess, but not without end either
	return reply
}

// passwordRefused slows the session down, and ends it at the third failure.
// Some clients try the same password by another mechanism: that is one failure.
func (s *session) passwordRefused(ctx context.Context, why *account.AuthError, reply smtp.Reply) smtp.Reply {
	if s.failures > 0 && why.Repeated {
		s.wire.Mistake()
		return reply
	}
	delay := s.door.cfg.AuthDelay * time.Duration(min(1<<s.failures, maxDelay))
	s.failures++
	s.wire.Pause(ctx, delay)
	if s.failures >= maxFailures {
		s.wire.Leave("auth")
		return say(421, status(4, 7, 0), "Too many wrong passwords, closing")
	}
	return reply
}

// loggable returns a name only if it has the form of ours: people put their
// password into the wrong field.
func loggable(name string) string {
	if !account.IsName(name) {
		return "(not the form of a user name)"
	}
	return name
}
