package smtpserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// maxShown bounds a text of the client within a reply, in octets, so that the
// line keeps within 512 (RFC 5321 §4.5.3.1.5).
const maxShown = 254

// say makes a reply of one line.
func say(code int, status mail.Status, text string) smtp.Reply {
	return smtp.Reply{Code: code, Status: status, Lines: []string{text}}
}

// status makes an enhanced status code (RFC 3463).
func status(class, subject, detail int) mail.Status {
	return mail.Status{Class: class, Subject: subject, Detail: detail}
}

// badOrder answers a command out of order (RFC 5321 §4.1.4).
func badOrder(text string) smtp.Reply { return say(503, status(5, 5, 1), text) }

// noArguments answers a command that takes no arguments and got some.
func noArguments(verb string) smtp.Reply {
	return say(501, status(5, 5, 4), verb+" takes no argument")
}

func tooBig(limit int64) smtp.Reply {
	return say(552, status(5, 3, 4), fmt.Sprintf("Message too big: at most %d octets are taken", limit))
}

// contentRefused answers content that was refused while it was read.
func contentRefused(fault error, rules smtp.ContentRules) smtp.Reply {
	switch {
	case errors.Is(fault, smtp.ErrTooBig):
		return tooBig(rules.Size)
	case errors.Is(fault, smtp.ErrLineTooLong):
		return say(550, status(5, 6, 0), fmt.Sprintf("A line is longer than %d octets", rules.Line))
	case errors.Is(fault, smtp.ErrNUL):
		return say(550, status(5, 6, 0), "The message holds a NUL octet: send it encoded")
	case errors.Is(fault, smtp.ErrLoneLF):
		return say(550, status(5, 6, 0), "The message holds a LF without CR: lines end in CRLF")
	}
	return say(550, status(5, 6, 0), "The message holds a CR without LF: lines end in CRLF")
}

// role is what an address stands for in the details of RFC 3463 §3.2.
type role struct{ mailbox, system int }

func senderRole() role    { return role{mailbox: 7, system: 8} }
func recipientRole() role { return role{mailbox: 3, system: 2} }

// argumentsRefused answers MAIL and RCPT that could not be parsed.
func argumentsRefused(err error, of role) smtp.Reply {
	switch {
	case errors.Is(err, smtp.ErrParameter):
		return say(555, status(5, 5, 4), "Not offered: "+Clip(err.Error()))
	case errors.Is(err, smtp.ErrValue):
		return say(501, status(5, 5, 4), Clip(err.Error()))
	case errors.Is(err, smtp.ErrSyntax):
		return say(501, status(5, 5, 2), Clip(err.Error()))
	case errors.Is(err, smtp.ErrNoDomain):
		return say(553, status(5, 1, of.mailbox), Clip(err.Error()))
	case errors.Is(err, mail.ErrLiteral):
		return say(550, status(5, 1, of.system), "Address literals are not accepted")
	}
	return say(501, status(5, 1, of.mailbox), Clip(err.Error()))
}

func needsUTF8(a mail.Address) smtp.Reply {
	return say(553, status(5, 6, 7), "Address <"+Clip(a.String())+"> needs SMTPUTF8 at MAIL") // RFC 6531 §3.5
}

// Clip bounds a text of the client's that is shown in a reply.
func Clip(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "..."
}

// ascii replaces what only a client that asked for SMTPUTF8 may get (RFC 6531 §3.6).
func ascii(r smtp.Reply) smtp.Reply {
	if !slices.ContainsFunc(r.Lines, hasHigh) {
		return r
	}
	plain := make([]string, len(r.Lines))
	for i, line := range r.Lines {
		plain[i] = strings.Map(func(c rune) rune {
			if c >= 0x80 {
				return '?'
			}
			return c
		}, line)
	}
	r.Lines = plain
	return r
}

func hasHigh(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c >= 0x80 }) >= 0
}
