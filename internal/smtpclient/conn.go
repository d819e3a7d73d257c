package smtpclient

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"mittente/internal/smtp"
)

// Conn is a connection to a server. One goroutine at a time may use it.
type Conn struct {
	client   *Client
	name     string // the server's, as we know it
	timeouts *Timeouts
	socket   net.Conn // under TLS, where there is TLS
	r        *bufio.Reader
	ext      Extensions
	calls    string // what the server calls itself
	tls      string
	security Security

	awaited int  // replies still to come for a pipelined group
	open    bool // the server may hold an unfinished transaction: RSET comes first
	broken  bool // not to be used again, not even for QUIT

	mu          sync.Mutex // guards what interrupt touches
	nc          net.Conn
	deadline    time.Time
	use         int   // counts the attachments, so that one which is over interrupts no other
	interrupted error // why the user has to end
	committed   bool  // the final dot may be out: its reply is worth waiting for
}

// Attach makes ctx interrupt what the connection is waiting for, until the
// returned function is called: at once, but after the final dot only after
// Timeouts.Grace.
func (c *Conn) Attach(ctx context.Context) (detach func()) {
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
		c.interrupted = Interruption(ctx)
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

// allow gives what follows at most d.
func (c *Conn) allow(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted != nil {
		d = min(d, c.timeouts.Grace)
	}
	c.deadline = time.Now().Add(d)
	c.apply()
}

// apply sets the deadline in force. c.mu is held.
func (c *Conn) apply() {
	deadline := c.deadline
	if c.interrupted != nil && !c.committed {
		deadline = time.Unix(1, 0)
	}
	// An error here means a closed connection, which the next read will tell.
	_ = c.nc.SetDeadline(deadline)
}

// commit says that from now on the server may have the whole message.
func (c *Conn) commit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted != nil {
		return c.interrupted
	}
	c.committed = true
	return nil
}

// release says that what follows may be interrupted again.
func (c *Conn) release() {
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

// Write writes to the server within the time for one block of content. It is
// for the writer given to Begin.
func (c *Conn) Write(p []byte) (int, error) {
	c.allow(c.timeouts.DataBlock)
	n, err := c.nc.Write(p)
	return n, c.fault(err)
}

// reply reads the reply awaited at s.
func (c *Conn) reply(s Stage) (smtp.Reply, error) {
	c.allow(c.timeouts.of(s))
	r, err := smtp.ReadReply(c.r, smtp.MaxReply)
	if err != nil {
		c.client.cfg.OnReply(0)
		return smtp.Reply{}, c.fault(err)
	}
	c.client.cfg.OnReply(r.Class())
	c.broken = c.broken || r.Code == CodeClosing
	return r, nil
}

// fault marks the connection broken by err.
func (c *Conn) fault(err error) error {
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

// command sends one line, given without its end, and reads the reply.
func (c *Conn) command(s Stage, line string) (smtp.Reply, error) {
	if _, err := c.Write([]byte(line + "\r\n")); err != nil {
		return smtp.Reply{}, err
	}
	return c.reply(s)
}

// Greeting reads what the server says first (RFC 5321 §3.1).
func (c *Conn) Greeting() (smtp.Reply, error) {
	r, err := c.reply(AtGreeting)
	if err == nil && r.Class() == 2 {
		c.calls = firstWord(r)
	}
	return r, err
}

// Hello says EHLO, and HELO to a server that does not know it (RFC 5321 §3.2).
// It returns the reply to what was said last.
func (c *Conn) Hello() (smtp.Reply, error) {
	c.ext = Extensions{}
	r, err := c.command(AtHello, "EHLO "+c.client.cfg.Hostname)
	if err == nil && r.Class() == 5 {
		r, err = c.command(AtHello, "HELO "+c.client.cfg.Hostname)
	} else if err == nil {
		c.ext = parseExtensions(r)
	}
	if err == nil && r.Class() == 2 {
		c.calls = firstWord(r)
	}
	return r, err
}

func firstWord(r smtp.Reply) string {
	word, _, _ := strings.Cut(strings.TrimSpace(r.Lines[0]), " ")
	return word
}

// Extensions returns what EHLO offered last.
func (c *Conn) Extensions() *Extensions { return &c.ext }

// Calls returns what the server calls itself, in its greeting and then in its
// reply to EHLO (RFC 5321 §4.1.1.1); it may be anything.
func (c *Conn) Calls() string { return c.calls }

// Broken reports whether the connection is of no more use: it failed, the
// server has said 421, or replies to a pipelined group are still under way.
func (c *Conn) Broken() bool { return c.broken || c.awaited > 0 }

// Quiet reports whether the server has said no more than it was asked for, as
// far as that has been read: the next message would take it for its own reply.
func (c *Conn) Quiet() bool {
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

// Quit takes leave (RFC 5321 §4.1.1.10), unless there is nobody to hear it, and closes.
func (c *Conn) Quit() {
	if !c.Broken() {
		c.allow(c.timeouts.Quit)
		if _, err := c.nc.Write([]byte("QUIT\r\n")); err == nil {
			_, _ = c.reply(AtQuit)
			_ = c.nc.Close() // says goodbye on the TLS layer too
		}
	}
	c.Close()
}

// Close closes at once. TLS would try for 5 s to tell a server that is perhaps
// no longer there.
func (c *Conn) Close() {
	c.broken = true
	_ = c.socket.Close()
}
