package delivery

import (
	"errors"
	"io"
	"slices"
	"strconv"

	"mittente/internal/mail"
	"mittente/internal/smtp"
	"mittente/internal/smtpclient"
)

// transaction is MAIL, RCPT and DATA for some recipients of an attempt (RFC 5321 §3.3).
type transaction struct {
	attempt   *attempt
	link      *link
	to        []int // indices of recipients
	wire      *smtpclient.Transaction
	accepted  []int // those the server said yes to
	outOfStep bool  // the server does not pipeline, whatever it says: the same again, one by one
}

// run settles recipients that get a final answer; some may stay pending for
// another transaction, at least one being settled then. It returns an outcome
// when the site can't take the rest, which then is for another host.
func (t *transaction) run() *mail.Outcome {
	if o := t.unfit(); o != nil {
		t.settle(t.to, *o)
		return nil
	}
	content, err := t.attempt.job.Content()
	if err != nil {
		t.settle(t.to, unreadable(err))
		return nil
	}
	defer content.Close()
	if t.wire, err = t.link.Begin(t.attempt.scratch.w, t.envelope(), t.pace()); err != nil {
		return gone(smtpclient.AtMail, err)
	}
	o := t.commands(content)
	if o != nil && o.Code == 0 && t.wire.Pipelined() && t.wire.Answered() && t.link.Broken() {
		// It may have choked on the group.
		t.attempt.courier.singly.add(t.link.to.host)
	}
	return o
}

// commands goes through the transaction; it returns as run does.
func (t *transaction) commands(content io.Reader) *mail.Outcome {
	if o := t.reset(); o != nil {
		return o
	}
	o, refused := t.mail()
	if o != nil {
		return o
	}
	if refused && !t.wire.Pipelined() {
		return nil
	}
	if o := t.rcpt(); o != nil {
		return o
	}
	if len(t.accepted) == 0 && !t.wire.Pipelined() {
		return nil
	}
	return t.data(content)
}

func (t *transaction) answered() bool { return t.wire != nil && t.wire.Answered() }

func (t *transaction) pace() smtpclient.Pace {
	if t.attempt.courier.singly.has(t.link.to.host) {
		return smtpclient.Singly
	}
	return smtpclient.Grouped
}

func (t *transaction) envelope() smtpclient.Envelope {
	job, s := &t.attempt.job, t.attempt.scratch
	s.rcpt = s.rcpt[:0]
	for _, i := range t.to {
		s.rcpt = append(s.rcpt, job.To[i])
	}
	return smtpclient.Envelope{
		From: job.From, To: s.rcpt, UTF8: t.needsUTF8(), EightBit: job.EightBit, Size: job.Size,
		Return: job.Return, EnvelopeID: job.EnvelopeID,
	}
}

// unfit returns an outcome when the server has said that it can't take the
// message: content never changes, so it fails.
func (t *transaction) unfit() *mail.Outcome {
	job, ext := &t.attempt.job, t.link.Extensions()
	switch {
	case ext.Size > 0 && job.Size > ext.Size: // RFC 1870 §6.1
		return unsendable(3, 4, "message of "+strconv.FormatInt(job.Size, 10)+" octets, and the server takes "+strconv.FormatInt(ext.Size, 10))
	case t.needsUTF8() && !ext.UTF8: // RFC 6531 §3.5
		return unsendable(6, 7, "the message needs SMTPUTF8, which the server does not offer")
	case job.EightBit && !ext.EightBit: // RFC 6152 §3
		return unsendable(6, 3, "the message is 8-bit, and the server does not offer 8BITMIME")
	}
	return nil
}

func (t *transaction) needsUTF8() bool {
	job := &t.attempt.job
	return job.SMTPUTF8 || job.From.Address.NeedsUTF8() ||
		slices.ContainsFunc(t.to, func(i int) bool { return job.To[i].To.Address.NeedsUTF8() })
}

func unreadable(err error) mail.Outcome {
	o := deferred(mail.Status{Class: 4, Subject: 3, Detail: 0}, "content can't be read: "+err.Error())
	o.Scope = mail.ScopeMessage
	return *o
}

// settle gives recipients their outcome.
func (t *transaction) settle(to []int, o mail.Outcome) {
	o = t.link.sign(o)
	for _, i := range to {
		if t.attempt.pending(i) {
			t.attempt.outcomes[i] = o
		}
	}
}

func gone(s smtpclient.Stage, err error) *mail.Outcome {
	o := lost(s, err)
	return &o
}

func (t *transaction) judge(s smtpclient.Stage, r smtp.Reply) *mail.Outcome {
	if t.attempt.plan.Static() && s == smtpclient.AtMail && wantsAuth(r.Code) {
		s = smtpclient.AtAuth
	}
	o := judge(s, r)
	return &o
}

// reset ends what an earlier transaction left open.
func (t *transaction) reset() *mail.Outcome {
	if !t.wire.Unfinished() {
		return nil
	}
	r, err := t.wire.Reset()
	if err != nil {
		return gone(smtpclient.AtReset, err)
	}
	if r.Class() != 2 {
		return t.judge(smtpclient.AtReset, r)
	}
	return nil
}

// mail names the reverse-path. refused: all recipients are settled, but in a
// pipelined group their replies are still to come.
func (t *transaction) mail() (o *mail.Outcome, refused bool) {
	r, err := t.wire.Mail()
	if err != nil {
		return gone(smtpclient.AtMail, err), false
	}
	if r.Class() == 2 {
		return nil, false
	}
	if o = t.judge(smtpclient.AtMail, r); o.Scope == mail.ScopeSite {
		return o, true
	}
	t.settle(t.to, *o)
	return nil, true
}

// rcpt names the recipients.
func (t *transaction) rcpt() *mail.Outcome {
	for n, i := range t.to {
		r, err := t.wire.Rcpt(n)
		if err != nil {
			return gone(smtpclient.AtRcpt, err)
		}
		switch {
		case !t.attempt.pending(i): // MAIL was refused
			if r.Code == smtpclient.CodeClosing {
				return t.judge(smtpclient.AtRcpt, r)
			}
		case r.Class() == 2:
			t.accept(n)
		case t.confused(r):
			return t.again(smtpclient.AtRcpt, r)
		case tooMany(r) && len(t.accepted) > 0: // stays pending
		default:
			o := t.judge(smtpclient.AtRcpt, r)
			if o.Scope == mail.ScopeSite {
				return o
			}
			t.settle(t.to[n:n+1], *o)
		}
	}
	return nil
}

// confused reports whether a reply says that commands came out of their order,
// though they did not: the server has lost some of the group.
func (t *transaction) confused(r smtp.Reply) bool { return r.Code == 503 && t.wire.Pipelined() }

// again has everything said once more, one by one: only then a refusal counts.
func (t *transaction) again(s smtpclient.Stage, r smtp.Reply) *mail.Outcome {
	t.attempt.courier.singly.add(t.link.to.host)
	t.outOfStep = true
	return t.judge(s, r)
}

// accept moves the recipient at t.to[n] to the accepted ones, which are kept
// at the front of the same memory.
func (t *transaction) accept(n int) {
	k := len(t.accepted)
	i := t.to[n]
	copy(t.to[k+1:n+1], t.to[k:n])
	t.to[k] = i
	t.accepted = t.to[:k+1]
}

// data sends the content, if anybody is to have it.
func (t *transaction) data(content io.Reader) *mail.Outcome {
	r, err := t.wire.Data()
	switch {
	case err != nil:
		return gone(smtpclient.AtData, err)
	case r.Code == 354 && len(t.accepted) == 0:
		t.wire.Void()
		return nil
	case r.Code == 354:
		return t.content(content)
	case len(t.accepted) == 0:
		return nil
	case t.confused(r):
		return t.again(smtpclient.AtData, r)
	}
	o := t.judge(smtpclient.AtData, r)
	if o.Scope == mail.ScopeSite {
		return o
	}
	t.settle(t.accepted, *o)
	return nil
}

// content sends the message and settles the accepted recipients by the reply to
// the final dot. None of them may go to another host then: the message may have
// been taken.
func (t *transaction) content(content io.Reader) *mail.Outcome {
	r, err := t.wire.Send(content, t.attempt.scratch.read)
	var unsent *smtpclient.UnsentError
	switch {
	case errors.As(err, &unsent):
		return t.unsent(unsent)
	case err != nil:
		t.settle(t.accepted, lost(smtpclient.AtEnd, err))
	case r.Class() == 2:
		o := accepted(r)
		o.DSN = t.link.Extensions().DSN
		t.settle(t.accepted, o)
	default:
		t.settle(t.accepted, *t.judge(smtpclient.AtEnd, r))
	}
	return nil
}

// unsent is for a message that the server does not have.
func (t *transaction) unsent(e *smtpclient.UnsentError) *mail.Outcome {
	switch {
	case errors.Is(e.Err, smtp.ErrLoneCR):
		t.settle(t.accepted, *unsendable(6, 0, e.Error()))
		return nil
	case e.Content:
		t.settle(t.accepted, unreadable(e.Err))
		return nil
	case e.Last.Class() < 4:
		return gone(smtpclient.AtData, e.Err)
	}
	o := t.judge(smtpclient.AtEnd, e.Last)
	if o.Scope == mail.ScopeSite {
		return o
	}
	t.settle(t.accepted, *o)
	return nil
}
