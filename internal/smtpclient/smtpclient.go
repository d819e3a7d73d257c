// Package smtpclient is the client's end of an SMTP connection.
package smtpclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Config tunes a Client. Only Hostname has no default.
type Config struct {
	Hostname string // what EHLO says
	// Roots are trusted when a certificate is verified; nil: the system's.
	Roots    *x509.CertPool
	Timeouts Timeouts
	// Dial opens a connection; default net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// OnReply is told the class of every reply, 2 to 5, or 0 where one was due
	// and none came; nil: nobody is.
	OnReply func(class int)
}

// Timeouts bound each phase of a dialogue; zero values become the times of RFC 5321 §4.5.3.2.
type Timeouts struct {
	Connect   time.Duration // to one address; default 15 s
	Greeting  time.Duration // default 5 min
	Hello     time.Duration // EHLO, HELO, RSET, STARTTLS with its handshake, AUTH; default 5 min
	Mail      time.Duration // default 5 min
	Rcpt      time.Duration // default 5 min
	DataStart time.Duration // default 2 min
	DataBlock time.Duration // one write of content, 64 KiB; default 3 min
	DataEnd   time.Duration // default 10 min
	Quit      time.Duration // default 5 s
	// Grace is how long the reply to the final dot is still waited for when the
	// context has ended; default 30 s.
	Grace time.Duration
}

func (t *Timeouts) setDefaults() {
	orDuration := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	orDuration(&t.Connect, 15*time.Second)
	orDuration(&t.Greeting, 5*time.Minute)  // RFC 5321 §4.5.3.2.1
	orDuration(&t.Hello, 5*time.Minute)     // not given there; as MAIL
	orDuration(&t.Mail, 5*time.Minute)      // §4.5.3.2.2
	orDuration(&t.Rcpt, 5*time.Minute)      // §4.5.3.2.3
	orDuration(&t.DataStart, 2*time.Minute) // §4.5.3.2.4
	orDuration(&t.DataBlock, 3*time.Minute) // §4.5.3.2.5
	orDuration(&t.DataEnd, 10*time.Minute)  // §4.5.3.2.6
	orDuration(&t.Quit, 5*time.Second)
	orDuration(&t.Grace, 30*time.Second)
}

// Stage is where in the dialogue a reply belongs.
type Stage string

// The stages, in their order.
const (
	AtConnect  Stage = "connection"
	AtGreeting Stage = "greeting"
	AtHello    Stage = "EHLO"
	AtTLS      Stage = "STARTTLS"
	AtAuth     Stage = "AUTH"
	AtReset    Stage = "RSET"
	AtMail     Stage = "MAIL"
	AtRcpt     Stage = "RCPT"
	AtData     Stage = "DATA"
	AtEnd      Stage = "end of data"
	AtQuit     Stage = "QUIT"
)

// of returns the time for the reply at s.
func (t *Timeouts) of(s Stage) time.Duration {
	switch s {
	case AtGreeting:
		return t.Greeting
	case AtMail:
		return t.Mail
	case AtRcpt:
		return t.Rcpt
	case AtData:
		return t.DataStart
	case AtEnd:
		return t.DataEnd
	case AtQuit:
		return t.Quit
	case AtConnect:
		return t.Connect
	case AtHello, AtTLS, AtAuth, AtReset:
	}
	return t.Hello
}

// CodeClosing is the reply of a server that leaves (RFC 5321 §3.8).
const CodeClosing = 421

// ErrInterrupted says that the context ended. It comes with the context's cause.
var ErrInterrupted = errors.New("interrupted")

// Interruption says why ctx has ended; nil while it has not.
func Interruption(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInterrupted, context.Cause(ctx))
}

// Client opens connections. It is safe for concurrent use; its connections
// share what they know of TLS sessions.
type Client struct {
	cfg      Config
	sessions tls.ClientSessionCache
}

// maxSessions bounds the TLS sessions remembered (RFC 8446 §2.2).
const maxSessions = 1024

// New returns a Client. It fails when there is no hostname to say.
func New(cfg Config) (*Client, error) {
	if cfg.Hostname == "" {
		return nil, errors.New("smtpclient: no hostname to say in EHLO")
	}
	cfg.Timeouts.setDefaults()
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.OnReply == nil {
		cfg.OnReply = func(int) {}
	}
	return &Client{cfg: cfg, sessions: tls.NewLRUClientSessionCache(maxSessions)}, nil
}

// Connect opens a connection to the server that is known by name; nothing has
// been said on it. The error is one of the network, or ErrInterrupted.
func (c *Client) Connect(ctx context.Context, name string, at netip.AddrPort) (*Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, c.cfg.Timeouts.Connect)
	defer cancel()
	nc, err := c.cfg.Dial(dialing, "tcp", at.String())
	if err != nil {
		if why := Interruption(ctx); why != nil {
			return nil, why
		}
		return nil, err
	}
	return &Conn{client: c, name: name, timeouts: &c.cfg.Timeouts, socket: nc, nc: nc, r: bufio.NewReader(nc)}, nil
}
