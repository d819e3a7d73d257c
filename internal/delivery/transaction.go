package delivery

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strconv"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// transaction is MAIL, RCPT and DATA for some recipients of an attempt (RFC 5321 §3.3).
type transaction struct {
	attempt  *attempt
	conn     *conn
	to       []int // indices of recipients
	w        *bufio.Writer
	accepted []int // those the server said yes to
	awaited  int   // replies still to come for a pipelined group
	answered bool  // a reply came: the connection was alive
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
	t.w = t.attempt.scratch.w
	t.w.Reset(t.conn)
	if t.conn.ext.pipelining {
		if o := t.writeGroup(); o != nil {
			return o
		}
	}
	if o := t.reset(); o != nil {
		return o
	}
	o, refused := t.mail()
	if o != nil {
		return o
	}
	if refused && !t.conn.ext.pipelining {
		return nil
	}
	if o := t.rcpt(); o != nil {
		return o
	}
	if len(t.accepted) == 0 && !t.conn.ext.pipelining {
		return nil
	}
	return t.data(content)
}

// unfit returns an outcome when the server has said that it can't take the
// message: content never changes, so it fails.
func (t *transaction) unfit() *mail.Outcome {
	job, ext := &t.attempt.job, &t.conn.ext
	switch {
	case ext.size > 0 && job.Size > ext.size: // RFC 1870 §6.1
		return unsendable(3, 4, "message of "+strconv.FormatInt(job.Size, 10)+" octets, and the server takes "+strconv.FormatInt(ext.size, 10))
	case t.needsUTF8() && !ext.utf8: // RFC 6531 §3.5
		return unsendable(6, 7, "the message needs SMTPUTF8, which the server does not offer")
	case job.EightBit && !ext.eightBit: // RFC 6152 §3
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
	o = t.conn.sign(o)
	for _, i := range to {
		if t.attempt.pending(i) {
			t.attempt.outcomes[i] = o
		}
	}
}

// writeGroup sends all commands in one write (RFC 2920 §3.1: DATA comes last).
func (t *transaction) writeGroup() *mail.Outcome {
	t.awaited = len(t.to) + 2
	if t.conn.open {
		t.awaited++
		t.line("RSET")
	}
	t.writeMail()
	for _, i := range t.to {
		t.writeRcpt(i)
	}
	t.line("DATA")
	return t.flush(atMail)
}

// line buffers; what fails is told by flush.
func (t *transaction) line(parts ...string) {
	for _, s := range parts {
		_, _ = t.w.WriteString(s)
	}
	_, _ = t.w.WriteString("\r\n")
}

func (t *transaction) flush(s stage) *mail.Outcome {
	if err := t.w.Flush(); err != nil {
		o := lost(s, err)
		return &o
	}
	return nil
}

func (t *transaction) writeMail() {
	job, ext := &t.attempt.job, &t.conn.ext
	size, body, utf8 := "", "", ""
	if ext.sizes && job.Size > 0 {
		size = " SIZE=" + strconv.FormatInt(job.Size, 10)
	}
	if job.EightBit {
		body = " BODY=8BITMIME"
	}
	if t.needsUTF8() {
		utf8 = " SMTPUTF8"
	}
	t.line("MAIL FROM:<", job.From.String(), ">", size, body, utf8)
}

func (t *transaction) writeRcpt(i int) { t.line("RCPT TO:<", t.attempt.job.To[i].To.String(), ">") }

// ask reads the reply at s; without pipelining the command is sent first.
func (t *transaction) ask(s stage, write func()) (smtp.Reply, *mail.Outcome) {
	if !t.conn.ext.pipelining {
		write()
		if o := t.flush(s); o != nil {
			return smtp.Reply{}, o
		}
	}
	return t.reply(s)
}

func (t *transaction) reply(s stage) (smtp.Reply, *mail.Outcome) {
	r, err := t.conn.reply(s)
	if err != nil {
		o := lost(s, err)
		return smtp.Reply{}, &o
	}
	t.awaited--
	t.answered = t.answered || r.Code != codeClosing
	return r, nil
}

// reset ends what an earlier transaction left open.
func (t *transaction) reset() *mail.Outcome {
	if !t.conn.open {
		return nil
	}
	r, o := t.ask(atReset, func() { t.line("RSET") })
	if o != nil {
		return o
	}
	if r.Class() != 2 {
		return t.judge(atReset, r)
	}
	t.conn.open = false
	return nil
}

func (t *transaction) judge(s stage, r smtp.Reply) *mail.Outcome {
	o := t.attempt.plan.judge(s, r)
	return &o
}

// mail names the reverse-path. refused: all recipients are settled, but in a
// pipelined group their replies are still to come.
func (t *transaction) mail() (o *mail.Outcome, refused bool) {
	r, o := t.ask(atMail, t.writeMail)
	if o != nil {
		return o, false
	}
	if r.Class() == 2 {
		t.conn.open = true
		return nil, false
	}
	if o = t.judge(atMail, r); o.Scope == mail.ScopeSite {
		return o, true
	}
	t.settle(t.to, *o)
	return nil, true
}

// rcpt names the recipients.
func (t *transaction) rcpt() *mail.Outcome {
	for n, i := range t.to {
		r, o := t.ask(atRcpt, func() { t.writeRcpt(i) })
		if o != nil {
			return o
		}
		switch {
		case !t.attempt.pending(i): // MAIL was refused
			if r.Code == codeClosing {
				return t.judge(atRcpt, r)
			}
		case r.Class() == 2:
			t.accept(n)
		case tooMany(r) && len(t.accepted) > 0: // stays pending
		default:
			if o = t.judge(atRcpt, r); o.Scope == mail.ScopeSite {
				return o
			}
			t.settle(t.to[n:n+1], *o)
		}
	}
	return nil
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
	r, o := t.ask(atData, func() { t.line("DATA") })
	switch {
	case o != nil:
		return o
	case r.Code == 354 && len(t.accepted) == 0:
		return t.loneDot()
	case r.Code == 354:
		return t.content(content)
	case len(t.accepted) == 0:
		return nil
	}
	if o = t.judge(atData, r); o.Scope == mail.ScopeSite {
		return o
	}
	t.settle(t.accepted, *o)
	return nil
}

// loneDot ends data that a server asked for though it refused all recipients
// (RFC 2920 §3.1); nobody waits for what it says to that.
func (t *transaction) loneDot() *mail.Outcome {
	t.line(".")
	if t.flush(atEnd) != nil {
		return nil
	}
	if _, err := t.conn.reply(atEnd); err == nil {
		t.conn.open = false
	}
	return nil
}

// content sends the message and hears what becomes of it.
func (t *transaction) content(content io.Reader) *mail.Outcome {
	dot := smtp.NewDotWriter(t.w)
	read, write := t.copy(dot, content)
	switch {
	case read != nil:
		// Without its end the server has no message (RFC 5321 §4.1.1.4).
		t.conn.close()
		t.settle(t.accepted, unreadable(read))
		return nil
	case errors.Is(write, smtp.ErrLoneCR):
		t.conn.close()
		t.settle(t.accepted, *unsendable(6, 0, write.Error()))
		return nil
	case write != nil:
		return t.early(write)
	}
	if err := t.conn.commit(); err != nil {
		t.conn.close()
		o := lost(atData, err)
		return &o
	}
	defer t.conn.release()
	err := dot.Close()
	if err == nil {
		err = t.w.Flush()
	}
	if err != nil {
		// The dot has not left: what a write did not take was not sent.
		return t.early(err)
	}
	t.end()
	return nil
}

// end settles the accepted recipients by the reply to the final dot. None of
// them may go to another host now: the message may have been taken.
func (t *transaction) end() {
	r, err := t.conn.reply(atEnd)
	switch {
	case err != nil:
		t.settle(t.accepted, lost(atEnd, err))
	case r.Class() == 2:
		t.settle(t.accepted, accepted(r))
	default:
		t.settle(t.accepted, *t.judge(atEnd, r))
	}
	t.conn.open = false
	t.conn.broken = t.conn.broken || err == nil && r.Class() == 3
}

// early is for a connection that failed while the content was on its way: the
// server may have said why before it closed.
func (t *transaction) early(cause error) *mail.Outcome {
	if errors.Is(cause, errInterrupted) || errors.Is(cause, errTooLong) {
		o := lost(atData, cause)
		return &o
	}
	t.conn.allow(t.conn.timeouts.Quit)
	r, err := smtp.ReadReply(t.conn.r, smtp.MaxReply)
	if err != nil || r.Class() < 4 {
		o := lost(atData, cause)
		return &o
	}
	o := t.judge(atEnd, r)
	if o.Scope == mail.ScopeSite {
		return o
	}
	t.settle(t.accepted, *o)
	return nil
}

// copy returns the error of reading and that of writing.
func (t *transaction) copy(w io.Writer, content io.Reader) (read, write error) {
	buf := t.attempt.scratch.read
	for {
		n, err := content.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return nil, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}
