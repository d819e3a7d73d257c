package smtpserver

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"mittente/internal/smtp"
)

// Exchange is one AUTH command (RFC 4954): challenges go out, responses come in.
type Exchange struct {
	Mechanism string // one of those offered

	s       *Session
	initial string // response that came with AUTH, in base64
	over    bool
	refusal smtp.Reply
}

// auth answers AUTH. Nothing of its arguments goes into a log or a reply.
func (s *Session) auth(ctx context.Context, args string) smtp.Reply {
	switch {
	case s.helo == "":
		return badOrder("Say EHLO first")
	case s.authed: // so there is none within a transaction either
		return badOrder("Authenticated already")
	}
	offered := s.handler.Mechanisms()
	if len(offered) == 0 {
		return s.noAuth()
	}
	mechanism, initial, _ := strings.Cut(args, " ")
	x := &Exchange{Mechanism: strings.ToUpper(mechanism), s: s, initial: strings.TrimSpace(initial)}
	if !slices.Contains(offered, x.Mechanism) {
		return say(504, status(5, 5, 4), "Mechanism not offered: use "+strings.Join(offered, ", "))
	}
	reply := s.handler.Auth(ctx, x)
	if x.over {
		return x.refusal
	}
	if reply.Code == 235 {
		s.authed = true
		s.advance()
	}
	return reply
}

// noAuth answers AUTH where it is not offered, or not yet.
func (s *Session) noAuth() smtp.Reply {
	if s.tls == nil && s.server.cfg.TLS != nil {
		return say(538, status(5, 7, 11), "Encryption required: use STARTTLS before AUTH")
	}
	return say(502, status(5, 5, 1), "AUTH is not offered")
}

// Response sends a challenge and returns the client's response to it. What came
// with the command itself answers the first one, unsent. When ok is false the
// exchange is over: the client gave up, went away or sent no base64.
func (x *Exchange) Response(challenge string) (response string, ok bool) {
	text := x.initial
	x.initial = ""
	if text == "" {
		x.s.answer(smtp.Reply{Code: 334, Lines: []string{base64.StdEncoding.EncodeToString([]byte(challenge))}})
		line, err := x.s.read(maxAuth)
		if err != nil {
			x.s.unreadable(err)
			return x.end(smtp.Reply{})
		}
		text = string(line)
		x.s.record.secret()
	}
	switch text {
	case "*": // RFC 4954 §4
		return x.end(say(501, status(5, 7, 0), "Authentication cancelled"))
	case "=": // an empty initial response
		return "", true
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return x.end(say(501, status(5, 5, 2), "Not base64"))
	}
	return string(b), true
}

func (x *Exchange) end(refusal smtp.Reply) (string, bool) {
	x.over, x.refusal = true, refusal
	return "", false
}
