package smtpclient

import (
	"bufio"
	"errors"
	"io"
	"strconv"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// Envelope is what MAIL and RCPT say. The server must have offered what it needs.
type Envelope struct {
	From       mail.ReversePath
	To         []mail.Rcpt
	UTF8       bool        // SMTPUTF8 (RFC 6531 §3.4)
	EightBit   bool        // BODY=8BITMIME (RFC 6152)
	Size       int64       // octets, said where SIZE is understood (RFC 1870); 0: not known
	Return     mail.Return // RFC 3461 §4.3, said where DSN is understood, as are ID and what To wants to be told
	EnvelopeID string      // RFC 3461 §4.4
}

// Transaction is MAIL, RCPT and DATA (RFC 5321 §3.3). Its methods are called in
// the order in which they stand here: Reset if Unfinished, Mail, Rcpt for each
// recipient, Data, then Send or Void. Where the group was sent at once (RFC
// 2920) they only read the reply, and Rcpt and Data must be called whatever came.
type Transaction struct {
	conn      *Conn
	w         *bufio.Writer
	envelope  Envelope
	pipelined bool
	answered  bool
}

// Begin starts a transaction whose commands go through w. Where pace is Grouped,
// all commands leave in one write if the server has PIPELINING.
func (c *Conn) Begin(w *bufio.Writer, e Envelope, pace Pace) (*Transaction, error) {
	w.Reset(c)
	t := &Transaction{conn: c, w: w, envelope: e, pipelined: c.ext.Pipelining && pace == Grouped}
	if !t.pipelined {
		return t, nil
	}
	// RFC 2920 §3.1: DATA comes last.
	c.awaited = len(e.To) + 2
	if c.open {
		c.awaited++
		t.line("RSET")
	}
	t.writeMail()
	for n := range e.To {
		t.writeRcpt(n)
	}
	t.line("DATA")
	return t, w.Flush()
}

// Pace is how the commands of a transaction are sent.
type Pace int

// The paces.
const (
	Grouped Pace = iota // in one write, where PIPELINING is offered
	Singly              // each after the reply to the one before
)

// Pipelined reports whether all commands have been sent already.
func (t *Transaction) Pipelined() bool { return t.pipelined }

// Answered reports whether the server has replied with anything but 421: the
// connection was alive.
func (t *Transaction) Answered() bool { return t.answered }

// line buffers; what fails is told by Flush.
func (t *Transaction) line(parts ...string) {
	for _, s := range parts {
		_, _ = t.w.WriteString(s)
	}
	_, _ = t.w.WriteString("\r\n")
}

func (t *Transaction) writeMail() {
	e, ext := &t.envelope, &t.conn.ext
	var params [5]string
	if ext.Sizes && e.Size > 0 {
		params[0] = " SIZE=" + strconv.FormatInt(e.Size, 10)
	}
	if e.EightBit {
		params[1] = " BODY=8BITMIME"
	}
	if e.UTF8 {
		params[2] = " SMTPUTF8"
	}
	// RFC 3461 §5.2.1: what the client said goes on as it is, and nothing else.
	if ext.DSN && e.Return != "" {
		params[3] = " RET=" + string(e.Return)
	}
	if ext.DSN && e.EnvelopeID != "" {
		params[4] = " ENVID=" + smtp.EncodeXtext(e.EnvelopeID)
	}
	t.line("MAIL FROM:<", e.From.String(), ">", params[0], params[1], params[2], params[3], params[4])
}

func (t *Transaction) writeRcpt(n int) {
	r := &t.envelope.To[n]
	notify, original := "", ""
	if t.conn.ext.DSN && r.Notify != 0 {
		notify = " NOTIFY=" + r.Notify.String()
	}
	if t.conn.ext.DSN && r.Original != "" {
		original = " ORCPT=" + smtp.EncodeOriginal(r.Original)
		if t.envelope.UTF8 {
			original = " ORCPT=" + smtp.EncodeOriginalUTF8(r.Original)
		}
	}
	t.line("RCPT TO:<", r.To.String(), ">", notify, original)
}

// ask reads the reply at s; without pipelining the command is sent first.
func (t *Transaction) ask(s Stage, write func()) (smtp.Reply, error) {
	if !t.pipelined {
		write()
		if err := t.w.Flush(); err != nil {
			return smtp.Reply{}, err
		}
	}
	r, err := t.conn.reply(s)
	if err != nil {
		return smtp.Reply{}, err
	}
	if t.pipelined {
		t.conn.awaited--
	}
	t.answered = t.answered || r.Code != CodeClosing
	return r, nil
}

// Unfinished reports whether Reset is due, for what an earlier transaction left open.
func (t *Transaction) Unfinished() bool { return t.conn.open }

// Reset ends what an earlier transaction left open (RFC 5321 §4.1.1.5).
func (t *Transaction) Reset() (smtp.Reply, error) {
	r, err := t.ask(AtReset, func() { t.line("RSET") })
	if err == nil && r.Class() == 2 {
		t.conn.open = false
	}
	return r, err
}

// Mail names the reverse-path.
func (t *Transaction) Mail() (smtp.Reply, error) {
	r, err := t.ask(AtMail, t.writeMail)
	if err == nil && r.Class() == 2 {
		t.conn.open = true
	}
	return r, err
}

// Rcpt names the recipient of that index.
func (t *Transaction) Rcpt(n int) (smtp.Reply, error) {
	return t.ask(AtRcpt, func() { t.writeRcpt(n) })
}

// Data asks whether the content may come; 354 is yes.
func (t *Transaction) Data() (smtp.Reply, error) {
	return t.ask(AtData, func() { t.line("DATA") })
}

// Void ends data that a server asked for though it refused all recipients (RFC
// 2920 §3.1); nobody waits for what it says to that.
func (t *Transaction) Void() {
	t.line(".")
	if t.w.Flush() != nil {
		return
	}
	if _, err := t.conn.reply(AtEnd); err == nil {
		t.conn.open = false
	}
}

// UnsentError says that the content was not sent to its end: the server has no
// message (RFC 5321 §4.1.1.4). The connection is closed.
type UnsentError struct {
	Err error
	// Content: the content can't be read, or not be sent as it is; else the
	// connection failed.
	Content bool
	// Last is what the server said before it closed or instead of listening;
	// zero when it said nothing.
	Last smtp.Reply
}

// Error implements error.
func (e *UnsentError) Error() string { return e.Err.Error() }

// Unwrap implements errors.Is.
func (e *UnsentError) Unwrap() error { return e.Err }

// ErrOutOfStep says that a reply came before what it would be a reply to.
var ErrOutOfStep = errors.New("the server replied before the message had ended")

// Send sends the content, read by means of buf, and returns the reply to the
// final dot. An *UnsentError says that the server has no message; after any other
// error nobody knows.
func (t *Transaction) Send(content io.Reader, buf []byte) (smtp.Reply, error) {
	c := t.conn
	dot := smtp.NewDotWriter(t.w)
	read, write := transfer(dot, content, buf)
	switch {
	case read != nil:
		c.Close()
		return smtp.Reply{}, &UnsentError{Err: read, Content: true}
	case errors.Is(write, smtp.ErrLoneCR):
		c.Close()
		return smtp.Reply{}, &UnsentError{Err: write, Content: true}
	case write != nil:
		return smtp.Reply{}, t.early(write)
	case c.r.Buffered() > 0:
		// Whatever it is, it would be taken for the reply to the dot.
		return smtp.Reply{}, t.early(ErrOutOfStep)
	}
	if err := c.commit(); err != nil {
		c.Close()
		return smtp.Reply{}, &UnsentError{Err: err}
	}
	defer c.release()
	err := dot.Close()
	if err == nil {
		err = t.w.Flush()
	}
	if err != nil {
		// The dot has not left: what a write did not take was not sent.
		return smtp.Reply{}, t.early(err)
	}
	r, err := c.reply(AtEnd)
	c.open = false
	c.broken = c.broken || err == nil && r.Class() == 3
	return r, err
}

// early is for a connection that failed while the content was on its way: the
// server may have said why before it closed.
func (t *Transaction) early(cause error) *UnsentError {
	e := &UnsentError{Err: cause}
	if !errors.Is(cause, ErrInterrupted) {
		t.conn.allow(t.conn.timeouts.Quit)
		if r, err := smtp.ReadReply(t.conn.r, smtp.MaxReply); err == nil {
			e.Last = r
		}
	}
	t.conn.Close()
	return e
}

// transfer returns the error of reading and that of writing.
func transfer(w io.Writer, content io.Reader, buf []byte) (read, write error) {
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
