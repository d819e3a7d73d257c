// Package smtpserver is the server's end of an SMTP connection: ports, sessions and the order of commands (RFC 5321).
package smtpserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// The values of Config.BareNewlines.
const (
	NewlinesRepair = "repair" // a lone LF in content becomes CRLF
	NewlinesRefuse = "refuse" // 550 5.6.0
)

// The values of Config.LongLines.
const (
	LinesKeep   = "keep"   // lines of content go on as they are, up to smtp.MaxTextLine octets
	LinesRefuse = "refuse" // the limit is that of RFC 5321 §4.5.3.1.6
)

// rfcTextLine is the longest line of RFC 5321 §4.5.3.1.6, without its end, in octets.
const rfcTextLine = 998

// Config is what an operator can set. Zero values mean the defaults named here.
type Config struct {
	Hostname         string           // what the server calls itself; required
	Help             string           // what HELP points to, such as a URL
	Bind             []string         // IP addresses to listen on; default "0.0.0.0" and "::"
	Ports            []string         // "25", "1025-5000": the default; "0" is any free port
	Exclude          []netip.AddrPort // never bound: the house's own other doors
	BareNewlines     string           // NewlinesRepair (default) or NewlinesRefuse
	LongLines        string           // LinesKeep (default) or LinesRefuse
	MaxMessageBytes  int64            // after repair, without stuffed dots; default 50 MiB
	MaxRecipients    int              // of one message; default 1,000
	MaxConnections   int              // at once, in all; default 10,000
	MaxPerClient     int              // connections at once from one IPv4 address or IPv6 /64; default 1,000
	MaxPerConnection int              // messages begun over one connection; default 100,000
	MaxErrors        int              // protocol errors with no message between them; default 10
	TLS              *tls.Config      // its GetCertificate may change its mind at any time; nil: STARTTLS is not offered
	Timeouts         Timeouts
}

// Timeouts bound how long a client may take. Zero values mean the defaults named here.
type Timeouts struct {
	Command   time.Duration // for a command, the next BDAT or an answer to AUTH: 5 min (RFC 5321 §4.5.3.2.7)
	DataBlock time.Duration // between two pieces of content: 3 min (RFC 5321 §4.5.3.2.5)
	Data      time.Duration // for all of the content: 1 h
	Write     time.Duration // for the client to take a reply: 1 min
	Handshake time.Duration // of TLS: 30 s
	Idle      time.Duration // without anything that gets a message on, whatever is sent meanwhile: 15 min
	Drain     time.Duration // for running transactions when Run is to end: 30 s
}

// Handler decides what a session gets. The session calls one method at a time.
// A reply of 235, or of 250 to MAIL and RCPT, is what carries the session on;
// one of 421 ends it.
type Handler interface {
	// Mechanisms are those of AUTH that are offered now; none: AUTH is not.
	Mechanisms() []string
	// Auth carries one exchange out. After a Response that was not ok its own
	// reply does not matter.
	Auth(ctx context.Context, x *Exchange) smtp.Reply
	Mail(ctx context.Context, m smtp.Mail) smtp.Reply
	Rcpt(ctx context.Context, r mail.Rcpt) smtp.Reply
	// Content takes a message in: it reads content up to io.EOF and answers
	// the end of data. Where content.Err is not nil its own reply does not matter.
	Content(ctx context.Context, content *Content) smtp.Reply
}

// Deps are what the server needs.
type Deps struct {
	// Open returns who decides for a session: at its start, and again after
	// STARTTLS, where it begins anew (RFC 3207 §4.2).
	Open       func(*Session) Handler
	Log        *slog.Logger          // nil: says nothing
	Registerer prometheus.Registerer // nil: counts for nobody
}

// Server is the room. Listen and Run may be called once each, in this order.
type Server struct {
	cfg     Config
	deps    Deps
	rules   smtp.ContentRules
	ports   []uint16
	bind    []netip.Addr
	metrics *metrics
	readers sync.Pool // *bufio.Reader of readBuffer octets
	started int64     // makes session ids of one process differ from those of the next
	serial  atomic.Uint64
	shown   atomic.Pointer[tls.Certificate] // last

	listeners []net.Listener
	closing   chan struct{} // closed when Run is to end
	quiet     time.Duration // without a connection, before a listener's goroutine ends

	mu       sync.Mutex
	sessions map[*Session]struct{}
	clients  map[netip.Prefix]int
}

// New returns a server that is not listening yet. It returns an error for a bad Config.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ports, err := ParsePorts(cfg.Ports)
	if err != nil {
		return nil, err
	}
	bind, err := parseBind(cfg.Bind)
	if err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	v := &Server{
		cfg:      cfg,
		deps:     deps,
		rules:    cfg.rules(),
		ports:    ports,
		bind:     bind,
		metrics:  m,
		readers:  sync.Pool{New: newReader},
		started:  time.Now().Unix(),
		closing:  make(chan struct{}),
		quiet:    10 * time.Second,
		sessions: map[*Session]struct{}{},
		clients:  map[netip.Prefix]int{},
	}
	v.cfg.TLS = v.showing(cfg.TLS)
	return v, nil
}

func (c Config) validate() error {
	switch {
	case c.Hostname == "" || strings.ContainsAny(c.Hostname, " \t\r\n"):
		return fmt.Errorf("smtpserver: hostname %q: want a host name", c.Hostname)
	case c.BareNewlines != NewlinesRepair && c.BareNewlines != NewlinesRefuse:
		return fmt.Errorf("smtpserver: bare_newlines %q: want %q or %q", c.BareNewlines, NewlinesRepair, NewlinesRefuse)
	case c.LongLines != LinesKeep && c.LongLines != LinesRefuse:
		return fmt.Errorf("smtpserver: long_lines %q: want %q or %q", c.LongLines, LinesKeep, LinesRefuse)
	case c.MaxMessageBytes < 0 || min(c.MaxRecipients, c.MaxConnections, c.MaxPerClient, c.MaxPerConnection, c.MaxErrors) < 0:
		return errors.New("smtpserver: a limit is negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if len(c.Bind) == 0 {
		c.Bind = []string{"0.0.0.0", "::"}
	}
	if len(c.Ports) == 0 {
		c.Ports = []string{"25", "1025-5000"}
	}
	c.BareNewlines = cmp.Or(c.BareNewlines, NewlinesRepair)
	c.LongLines = cmp.Or(c.LongLines, LinesKeep)
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, 50<<20)
	c.MaxRecipients = cmp.Or(c.MaxRecipients, 1000)
	c.MaxConnections = cmp.Or(c.MaxConnections, 10_000)
	c.MaxPerClient = cmp.Or(c.MaxPerClient, 1000)
	c.MaxPerConnection = cmp.Or(c.MaxPerConnection, 100_000)
	c.MaxErrors = cmp.Or(c.MaxErrors, 10)
	t := &c.Timeouts
	t.Command = cmp.Or(t.Command, 5*time.Minute)
	t.DataBlock = cmp.Or(t.DataBlock, 3*time.Minute)
	t.Data = cmp.Or(t.Data, time.Hour)
	t.Write = cmp.Or(t.Write, time.Minute)
	t.Handshake = cmp.Or(t.Handshake, 30*time.Second)
	t.Idle = cmp.Or(t.Idle, 15*time.Minute)
	t.Drain = cmp.Or(t.Drain, 30*time.Second)
	return c
}

func (c Config) rules() smtp.ContentRules {
	rules := smtp.ContentRules{Size: c.MaxMessageBytes, Line: smtp.MaxTextLine, CRLFOnly: c.BareNewlines == NewlinesRefuse}
	if c.LongLines == LinesRefuse {
		rules.Line = rfcTextLine
	}
	return rules
}
