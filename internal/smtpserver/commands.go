package smtpserver

import (
	"context"
	"fmt"
	"strings"

	"mittente/internal/smtp"
)

// turn takes one command and answers it.
func (s *Session) turn(ctx context.Context) {
	line, err := s.read(maxAuth)
	if err != nil {
		s.unreadable(err)
		return
	}
	command, err := smtp.ParseCommand(line)
	s.record.client(command, line)
	switch {
	case len(line) > maxCommand && command.Verb != "AUTH":
		s.unreadable(smtp.ErrLineTooLong)
	case err != nil:
		s.answer(say(500, status(5, 5, 2), "No command: "+Clip(err.Error())))
	default:
		s.answer(s.command(command.Verb)(ctx, command.Args))
	}
}

// command returns what answers a verb: the grammar of RFC 5321 §4.1.1.
func (s *Session) command(verb string) func(context.Context, string) smtp.Reply {
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
	case "BDAT":
		return s.bdat
	case "RSET":
		return s.rset
	case "QUIT":
		return s.quit
	}
	return s.courtesy(verb)
}

// courtesy returns what answers a verb that does nothing, or is none.
func (s *Session) courtesy(verb string) func(context.Context, string) smtp.Reply {
	reply := say(500, status(5, 5, 1), "Command not recognised")
	switch verb {
	case "NOOP":
		reply = say(250, status(2, 0, 0), "Ok")
	case "VRFY":
		reply = say(252, status(2, 0, 0), "Can't verify, send and see") // RFC 5321 §3.5.3
	case "EXPN":
		reply = say(502, status(5, 5, 1), "There is nothing to expand")
	case "HELP":
		reply = say(214, status(2, 0, 0), "EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP QUIT: see "+s.server.cfg.Help)
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT":
		// A browser that is made to post to one of our ports must not get to
		// say commands in what it posts.
		reply = say(421, status(4, 7, 0), "This server speaks SMTP")
	}
	return func(context.Context, string) smtp.Reply { return reply }
}

// ehlo answers EHLO (RFC 5321 §4.1.1.1) with the extensions offered now.
func (s *Session) ehlo(_ context.Context, args string) smtp.Reply {
	if !s.greet(args) {
		return say(501, status(5, 5, 4), "EHLO needs your name")
	}
	cfg := s.server.cfg
	lines := []string{
		cfg.Hostname,
		"PIPELINING", // RFC 2920
		fmt.Sprintf("SIZE %d", cfg.MaxMessageBytes), // RFC 1870
		"8BITMIME",            // RFC 6152
		"SMTPUTF8",            // RFC 6531
		"ENHANCEDSTATUSCODES", // RFC 2034
		"CHUNKING",            // RFC 3030
		"DSN",                 // RFC 3461
		fmt.Sprintf("LIMITS MAILMAX=%d RCPTMAX=%d", cfg.MaxPerConnection, cfg.MaxRecipients), // RFC 9422
	}
	if cfg.TLS != nil && s.tls == nil {
		lines = append(lines, "STARTTLS") // RFC 3207 §4.2: not under TLS
	}
	if mechanisms := s.handler.Mechanisms(); len(mechanisms) > 0 {
		lines = append(lines, "AUTH "+strings.Join(mechanisms, " ")) // RFC 4954
	}
	return smtp.Reply{Code: 250, Lines: lines}
}

// hello answers HELO, after which AUTH works as well: old PHP programs do that (M2).
func (s *Session) hello(_ context.Context, args string) smtp.Reply {
	if !s.greet(args) {
		return say(501, status(5, 5, 4), "HELO needs your name")
	}
	return smtp.Reply{Code: 250, Lines: []string{s.server.cfg.Hostname}}
}

// greet notes the client's name; like RSET it ends a transaction (RFC 5321 §4.1.4).
func (s *Session) greet(name string) bool {
	if name == "" {
		return false
	}
	s.reset()
	s.helo = strings.ToValidUTF8(name[:min(len(name), maxHelo)], "?")
	return true
}

func (s *Session) rset(_ context.Context, args string) smtp.Reply {
	if args != "" {
		return noArguments("RSET")
	}
	s.reset()
	return say(250, status(2, 0, 0), "Ok")
}

func (s *Session) quit(_ context.Context, args string) smtp.Reply {
	if args != "" {
		return noArguments("QUIT")
	}
	return say(221, status(2, 0, 0), "Bye")
}
