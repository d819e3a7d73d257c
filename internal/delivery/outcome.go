package delivery

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"unicode/utf8"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// What a reply means, for whom, and whether another host is asked (RFC 5321
// §4.2.1, §5.1). "site" is the destination's trouble or our own; only what is
// said of a recipient or a message fails it. x.7.z to MAIL speaks of the sender:
// one that is throttled holds up no other.
//
//	reply to        4yz                          5yz
//	greeting, EHLO  deferred, site, next host    deferred, site, next host (a blocked source is our fault)
//	STARTTLS        may: goes on in clear; else deferred, site, next host
//	AUTH            deferred, site, next host    deferred, site, next host (our configuration)
//	MAIL            deferred, message            failed, message
//	                x.3.z: site, next host       530, 534, 535, 538 from a route: as AUTH
//	RCPT            deferred, recipient          failed, recipient
//	                452, x.5.3, 552 without status, after another was accepted: next transaction
//	DATA            deferred, message            failed, message
//	                x.3.z: site, next host
//	end of data     deferred, message            failed, message
//	                x.3.z: site, no other host
//
//	anything        421: deferred, site, the connection is not used again; next host unless after the final dot
//	no reply        deferred, site, 4.4.2; next host unless after the final dot, when nobody knows
//	not a reply, or one of a class that makes no sense there: deferred, site, 4.5.0, as no reply
//
// Class and meaning are the code's; a status of another class is not believed,
// and where there is none it is X.0.0 (RFC 3463 §2).

// stage is where in the dialogue a reply belongs.
type stage string

const (
	atConnect  stage = "connection"
	atGreeting stage = "greeting"
	atHello    stage = "EHLO"
	atTLS      stage = "STARTTLS"
	atAuth     stage = "AUTH"
	atReset    stage = "RSET"
	atMail     stage = "MAIL"
	atRcpt     stage = "RCPT"
	atData     stage = "DATA"
	atEnd      stage = "end of data"
	atQuit     stage = "QUIT"
)

// codeClosing is the reply of a server that leaves (RFC 5321 §3.8).
const codeClosing = 421

// Why an attempt ends before its time.
var (
	errInterrupted = errors.New("attempt interrupted") // by the caller
	errTooLong     = errors.New("the attempt took too long")
)

// judge says what a reply that is not the hoped for one means.
func judge(s stage, r smtp.Reply) mail.Outcome {
	o := mail.Outcome{Code: r.Code, Status: statusOf(r), Diagnostic: oneLine(r.Text())}
	o.Action, o.Scope = mail.Deferred, mail.ScopeSite
	class := r.Class()
	if class != 4 && class != 5 {
		o.Status = mail.Status{Class: 4, Subject: 5, Detail: 0}
		o.Diagnostic = oneLine("unexpected reply to " + string(s) + ": " + r.Text())
		return o
	}
	if r.Code == codeClosing || aboutSession(s) {
		return o
	}
	if class == 5 {
		o.Action = mail.Failed
	}
	switch {
	case s == atRcpt:
		o.Scope = mail.ScopeRecipient
	case class == 5:
		o.Scope = mail.ScopeMessage
	case o.Status.Subject == 3:
		o.Scope = mail.ScopeSite
	default:
		o.Scope = mail.ScopeMessage
	}
	return o
}

// judge is as above, for a host that may be of our own choice.
func (p Plan) judge(s stage, r smtp.Reply) mail.Outcome {
	if p.routed && s == atMail && wantsAuth(r.Code) {
		s = atAuth
	}
	return judge(s, r)
}

// aboutSession reports whether a reply at s can't be about the message, which
// the server has not seen anything of.
func aboutSession(s stage) bool {
	switch s {
	case atMail, atRcpt, atData, atEnd:
		return false
	case atConnect, atGreeting, atHello, atTLS, atAuth, atReset, atQuit:
	}
	return true
}

// wantsAuth: RFC 4954 §6.
func wantsAuth(code int) bool { return code == 530 || code == 534 || code == 535 || code == 538 }

// tooMany reports whether a reply to RCPT says that the transaction has enough
// recipients. Without a status 552 counts too (RFC 5321 §4.5.3.1.10).
func tooMany(r smtp.Reply) bool {
	if r.Class() != 4 && r.Class() != 5 || r.Code == codeClosing {
		return false
	}
	return r.Code == 452 || r.Code == 552 && r.Status.IsZero() || r.Status.Subject == 5 && r.Status.Detail == 3
}

// statusOf returns the reply's status, or the one that its code implies.
func statusOf(r smtp.Reply) mail.Status {
	if r.Status.Class == r.Class() {
		return r.Status
	}
	return mail.Status{Class: r.Class()}
}

// accepted is the outcome of a recipient whose message the server took.
func accepted(r smtp.Reply) mail.Outcome {
	return mail.Outcome{Action: mail.Delivered, Code: r.Code, Status: statusOf(r), Diagnostic: oneLine(r.Text())}
}

// lost is the outcome when instead of a reply there came an error.
func lost(s stage, err error) mail.Outcome {
	status, text := mail.Status{Class: 4, Subject: 4, Detail: 2}, ""
	var netErr net.Error
	switch {
	case errors.Is(err, errInterrupted):
		// 4.3.2: it is us who do not go on.
		status, text = mail.Status{Class: 4, Subject: 3, Detail: 2}, "attempt interrupted at "+string(s)
	case s == atConnect:
		status.Detail, text = 1, err.Error()
	case errors.Is(err, smtp.ErrReply), errors.Is(err, smtp.ErrLineTooLong), errors.Is(err, smtp.ErrEndless):
		status, text = mail.Status{Class: 4, Subject: 5, Detail: 0}, string(s)+": "+err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		text = "timed out at " + string(s)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		text = "connection closed at " + string(s)
	default:
		text = "connection lost at " + string(s) + ": " + err.Error()
	}
	return *deferred(status, text)
}

func deferred(status mail.Status, text string) *mail.Outcome {
	return &mail.Outcome{Action: mail.Deferred, Scope: mail.ScopeSite, Status: status, Diagnostic: oneLine(text)}
}

func failed(code int, status mail.Status, text string) *mail.Outcome {
	return &mail.Outcome{Action: mail.Failed, Scope: mail.ScopeRecipient, Code: code, Status: status, Diagnostic: oneLine(text)}
}

// unsendable is the outcome of a message that the server can't take as it is;
// content is never changed to fit.
func unsendable(subject, detail int, text string) *mail.Outcome {
	o := failed(0, mail.Status{Class: 5, Subject: subject, Detail: detail}, text)
	o.Scope = mail.ScopeMessage
	return o
}

// maxDiagnostic bounds a diagnostic, in octets.
const maxDiagnostic = 1000

// oneLine makes text fit for a diagnostic: valid UTF-8 without control
// characters, at most maxDiagnostic octets.
func oneLine(text string) string {
	if len(text) > 4*maxDiagnostic {
		text = text[:4*maxDiagnostic]
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= maxDiagnostic {
		return text
	}
	end := maxDiagnostic
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
