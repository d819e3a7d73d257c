package delivery

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// terms are what a connection was made under; only mail that asks for exactly
// these may travel over it.
type terms struct {
	host               string
	port               int
	tls                TLSPolicy
	username, password string
	hello              string
}

// extensions are what EHLO offered (RFC 5321 §4.1.1.1).
type extensions struct {
	pipelining, startTLS, eightBit, utf8 bool
	sizes                                bool  // SIZE is understood
	size                                 int64 // limit in octets; 0: none said
	auth                                 []string
}

// conn is a connection to a server, used by one attempt at a time.
type conn struct {
	terms    terms
	remote   string // address
	timeouts *Timeouts
	metrics  *metrics
	socket   net.Conn // under TLS, where there is TLS
	r        *bufio.Reader
	ext      extensions
	tls      string // as in mail.Outcome

	used   int  // transactions begun
	reused bool // taken from the pool
	open   bool // the server may hold an unfinished transaction: RSET comes first
	broken bool // not to be used again, not even for QUIT
	timer  *time.Timer

	mu          sync.Mutex // guards what interrupt touches
	nc          net.Conn
	deadline    time.Time
	use         int   // counts the attempts, so that one which is over interrupts no other
	interrupted error // why the attempt has to end
	committed   bool  // the final dot may be out: its reply is worth waiting for
}

// attach makes ctx interrupt what the connection is waiting for, until the returned function is called.
func (c *conn) attach(ctx context.Context) (detach func()) {
	c.mu.Lock()
	c.use++
	use := c.use
	c.interrupted, c.committed = nil, false
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.use != use {
			return
		}
		c.interrupted = interruption(ctx)
		if c.committed {
			c.deadline = earlier(c.deadline, time.Now().Add(c.timeouts.Grace))
		}
		c.apply()
	})
	return func() {
		stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.use == use {
			c.use++
			c.interrupted = nil
		}
	}
}

// interruption says why ctx has ended; nil while it has not.
func interruption(ctx context.Context) error {
	switch {
	case ctx.Err() == nil:
		return nil
	case errors.Is(context.Cause(ctx), errTooLong):
		return errTooLong
	}
	return errInterrupted
}

// allow gives what follows at most d.
func (c *conn) allow(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted != nil {
		d = min(d, c.timeouts.Grace)
	}
	c.deadline = time.Now().Add(d)
	c.apply()
}

// apply sets the deadline in force. c.mu is held.
func (c *conn) apply() {
	deadline := c.deadline
	if c.interrupted != nil && !c.committed {
		deadline = time.Unix(1, 0)
	}
	// An error here means a closed connection, which the next read will tell.
	_ = c.nc.SetDeadline(deadline)
}

// commit says that from now on the server may have the whole message.
func (c *conn) commit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted != nil {
		return c.interrupted
	}
	c.committed = true
	return nil
}

// release says that what follows may be interrupted again.
func (c *conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committed = false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Write writes to the server within the time for one block of content.
func (c *conn) Write(p []byte) (int, error) {
	c.allow(c.timeouts.DataBlock)
	n, err := c.nc.Write(p)
	return n, c.fault(err)
}

// reply reads the reply awaited at s.
func (c *conn) reply(s stage) (smtp.Reply, error) {
	c.allow(c.timeouts.of(s))
	r, err := smtp.ReadReply(c.r, smtp.MaxReply)
	if err != nil {
		c.metrics.replies.WithLabelValues("none").Inc()
		return smtp.Reply{}, c.fault(err)
	}
	c.metrics.replies.WithLabelValues(classLabel(r.Class())).Inc()
	c.broken = c.broken || r.Code == codeClosing
	return r, nil
}

// fault marks the connection broken by err.
func (c *conn) fault(err error) error {
	if err == nil {
		return nil
	}
	c.broken = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted != nil {
		return c.interrupted
	}
	return err
}

// quiet reports whether the server has said no more than it was asked for, as
// far as that has been read: the next message would take it for its own reply.
func (c *conn) quiet() bool {
	if c.r.Buffered() > 0 {
		return false
	}
	// TLS may hold whole records that were not asked for yet; nothing is waited for.
	if err := c.nc.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return false
	}
	_, err := c.r.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// command sends one line, given without its end, and reads the reply.
func (c *conn) command(s stage, line string) (smtp.Reply, error) {
	if _, err := c.Write([]byte(line + "\r\n")); err != nil {
		return smtp.Reply{}, err
	}
	return c.reply(s)
}

// quit takes leave (RFC 5321 §4.1.1.10), unless there is nobody to hear it, and closes.
func (c *conn) quit() {
	if !c.broken {
		c.allow(c.timeouts.Quit)
		if _, err := c.nc.Write([]byte("QUIT\r\n")); err == nil {
			_, _ = c.reply(atQuit)
			_ = c.nc.Close() // says goodbye on the TLS layer too
		}
	}
	c.close()
}

// close closes at once. TLS would try for 5 s to tell a server that is perhaps
// no longer there.
func (c *conn) close() {
	c.broken = true
	_ = c.socket.Close()
}

// sign adds to o where it comes from.
func (c *conn) sign(o mail.Outcome) mail.Outcome {
	o.RemoteMTA, o.RemoteAddr, o.TLS = c.terms.host, c.remote, c.tls
	return o
}

// of returns the time for the reply at s.
func (t *Timeouts) of(s stage) time.Duration {
	switch s {
	case atGreeting:
		return t.Greeting
	case atMail:
		return t.Mail
	case atRcpt:
		return t.Rcpt
	case atData:
		return t.DataStart
	case atEnd:
		return t.DataEnd
	case atQuit:
		return t.Quit
	case atConnect:
		return t.Connect
	case atHello, atTLS, atAuth, atReset:
	}
	return t.Hello
}

// parseExtensions reads the lines after the first of a reply to EHLO.
func parseExtensions(r smtp.Reply) extensions {
	var ext extensions
	for _, line := range r.Lines[min(1, len(r.Lines)):] {
		words := strings.Fields(strings.ToUpper(line))
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "PIPELINING":
			ext.pipelining = true
		case "STARTTLS":
			ext.startTLS = true
		case "8BITMIME":
			ext.eightBit = true
		case "SMTPUTF8":
			ext.utf8 = true
		case "AUTH":
			ext.auth = append(ext.auth, words[1:]...)
		case "SIZE":
			ext.sizes = true
			if len(words) > 1 {
				// What is no number says no limit.
				if n, err := strconv.ParseInt(words[1], 10, 64); err == nil && n > 0 {
					ext.size = n
				}
			}
		default:
			// Older servers: "AUTH=LOGIN PLAIN".
			if mech, ok := strings.CutPrefix(words[0], "AUTH="); ok {
				ext.auth = append(append(ext.auth, mech), words[1:]...)
			}
		}
	}
	return ext
}
