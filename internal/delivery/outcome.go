package delivery

import (
	"context"
	"errors"
	"io"
	"net"

	"mittente/internal/mail"
	"mittente/internal/smtp"
	"mittente/internal/smtpclient"
)

// What a reply means, for whom, and whether another host is asked (RFC 5321
// §4.2.1, §5.1). "site" is the destination's trouble or our own; only what is
// said of a recipient or a message fails it. x.7.z to MAIL speaks of the sender:
// one that is throttled holds up no other.
//
//	reply to        4yz                          5yz
//	greeting, EHLO  deferred, site, next host    deferred, site, next host, ours (a blocked source is our fault)
//	STARTTLS        may: goes on in clear; else deferred, site (message, where only the mail demands TLS), next host
//	AUTH            deferred, site, next host    deferred, site, next host, ours (our configuration)
//	MAIL            deferred, message            failed, message
//	                x.3.z: site, next host       530, 534, 535, 538 from a static route: as AUTH
//	RCPT            deferred, recipient          failed, recipient
//	                452, x.5.3, 552 without status, after another was accepted: next transaction
//	DATA            deferred, message            failed, message
//	                x.3.z: site, next host
//	end of data     deferred, message            failed, message
//	                x.3.z: site, no other host
//
//	anything        of our address (source.go): deferred, site, ours; next host unless after the final dot
//	                421: deferred, site, the connection is not used again; next host unless after the final dot
//	                503 in a pipelined group: the same host again, one command at a time
//	no reply        deferred, site, 4.4.2; next host unless after the final dot, when nobody knows
//	not a reply, or one of a class that makes no sense there: deferred, site, 4.5.0, as no reply
//
// Class and meaning are the code's; a status of another class is not believed,
// and where there is none it is X.0.0 (RFC 3463 §2). What is deferred is tried
// again when the schedule says, but not before the reply does (wait.go).

// errTooLong is why an attempt ends before its time, when no caller ended it.
var errTooLong = errors.New("the attempt took too long")

// judge says what a reply that is not the hoped for one means.
func judge(s smtpclient.Stage, r smtp.Reply) mail.Outcome {
	o := mail.Outcome{Code: r.Code, Status: statusOf(r), Diagnostic: mail.Diagnostic(r.Text())}
	o.Action, o.Scope = mail.Deferred, mail.ScopeSite
	class := r.Class()
	if class != 4 && class != 5 {
		o.Status = mail.Status{Class: 4, Subject: 5, Detail: 0}
		o.Diagnostic = mail.Diagnostic("unexpected reply to " + string(s) + ": " + r.Text())
		return o
	}
	switch {
	case aboutSource(r):
		o.Ours = true
	case aboutSession(s):
		o.Ours = class == 5 && s != smtpclient.AtTLS && s != smtpclient.AtReset
	case r.Code == smtpclient.CodeClosing:
	case s == smtpclient.AtRcpt:
		o.Scope = mail.ScopeRecipient
	case class == 5, o.Status.Subject != 3:
		o.Scope = mail.ScopeMessage
	}
	if class == 5 && o.Scope != mail.ScopeSite {
		o.Action = mail.Failed
	} else {
		o.RetryAfter = retryAfter(r)
	}
	return o
}

// aboutSession reports whether a reply at s can't be about the message, which
// the server has not seen anything of.
func aboutSession(s smtpclient.Stage) bool {
	switch s {
	case smtpclient.AtMail, smtpclient.AtRcpt, smtpclient.AtData, smtpclient.AtEnd:
		return false
	case smtpclient.AtConnect, smtpclient.AtGreeting, smtpclient.AtHello, smtpclient.AtTLS,
		smtpclient.AtAuth, smtpclient.AtReset, smtpclient.AtQuit:
	}
	return true
}

// wantsAuth: RFC 4954 §6.
func wantsAuth(code int) bool { return code == 530 || code == 534 || code == 535 || code == 538 }

// tooMany reports whether a reply to RCPT says that the transaction has enough
// recipients. Without a status 552 counts too (RFC 5321 §4.5.3.1.10).
func tooMany(r smtp.Reply) bool {
	if r.Class() != 4 && r.Class() != 5 || r.Code == smtpclient.CodeClosing {
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
	return mail.Outcome{Action: mail.Delivered, Code: r.Code, Status: statusOf(r), Diagnostic: mail.Diagnostic(r.Text())}
}

// lost is the outcome when instead of a reply there came an error.
func lost(s smtpclient.Stage, err error) mail.Outcome {
	status, text := mail.Status{Class: 4, Subject: 4, Detail: 2}, ""
	var netErr net.Error
	switch {
	case errors.Is(err, errTooLong):
		text = "gave up at " + string(s) + ": " + errTooLong.Error()
	case errors.Is(err, smtpclient.ErrInterrupted):
		// 4.3.2: it is us who do not go on.
		status, text = mail.Status{Class: 4, Subject: 3, Detail: 2}, "attempt interrupted at "+string(s)
	case s == smtpclient.AtConnect:
		status.Detail, text = 1, err.Error()
	case errors.Is(err, smtp.ErrReply), errors.Is(err, smtp.ErrLineTooLong), errors.Is(err, smtp.ErrEndless), errors.Is(err, smtpclient.ErrOutOfStep):
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
	return &mail.Outcome{Action: mail.Deferred, Scope: mail.ScopeSite, Status: status, Diagnostic: mail.Diagnostic(text)}
}

func failed(code int, status mail.Status, text string) *mail.Outcome {
	return &mail.Outcome{Action: mail.Failed, Scope: mail.ScopeRecipient, Code: code, Status: status, Diagnostic: mail.Diagnostic(text)}
}

// unsendable is the outcome of a message that the server can't take as it is;
// content is never changed to fit.
func unsendable(subject, detail int, text string) *mail.Outcome {
	o := failed(0, mail.Status{Class: 5, Subject: subject, Detail: detail}, text)
	o.Scope = mail.ScopeMessage
	return o
}
