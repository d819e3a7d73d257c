// Package msa is the SMTP door: it takes mail in from authenticated clients (RFC 6409).
package msa

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/account"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/submission"
)

// The values of Config.PlaintextAuth.
const (
	PlaintextAllow  = "allow"  // AUTH is offered in clear; a user may still require TLS
	PlaintextRefuse = "refuse" // AUTH is offered after STARTTLS only
)

// Config is what an operator can set. Zero values mean the defaults named here.
type Config struct {
	Hostname        string           // what the server calls itself; required
	PublicURL       string           // where the console is, for the links in refusals, such as "https://mx.example.org"
	Bind            []string         // IP addresses to listen on; default "0.0.0.0" and "::"
	Ports           []string         // "25", "1025-5000": the default; "0" is any free port
	Exclude         []netip.AddrPort // never bound: the house's own other doors
	PlaintextAuth   string           // PlaintextAllow (default) or PlaintextRefuse
	MaxMessageBytes int64            // after repair, without stuffed dots; default 50 MiB
	MaxRecipients   int              // of one message; default 1,000
	MaxConnections  int              // at once, in all; default 10,000
	MaxPerClient    int              // at once, from one IPv4 address or IPv6 /64; default 1,000
	TLS             *tls.Config      // its GetCertificate may change its mind at any time; nil: STARTTLS is not offered
	Timeouts        Timeouts
}

// Timeouts bound how long a client may take. Zero values mean the defaults named here.
type Timeouts struct {
	Command   time.Duration // for a command or an answer to AUTH: 5 min (RFC 5321 §4.5.3.2.7)
	DataBlock time.Duration // between two pieces of content: 3 min (RFC 5321 §4.5.3.2.5)
	Data      time.Duration // for all of the content: 1 h
	Write     time.Duration // for the client to take a reply: 1 min
	Handshake time.Duration // of TLS: 30 s
	Idle      time.Duration // without anything that gets a message on, whatever is sent meanwhile: 15 min
	Drain     time.Duration // for running transactions when Run is to end: 30 s
	AuthDelay time.Duration // before the first refusal of a password; doubles with each, up to 8 times: 500 ms
}

// Gate takes messages in: submission.Gate.
type Gate interface {
	Mail(ctx context.Context, s submission.Session, from mail.ReversePath) (account.Principal, error)
	Rcpt(ctx context.Context, s submission.Session, env *mail.Envelope, r mail.Rcpt) error
	Submit(ctx context.Context, s submission.Session, env mail.Envelope, content io.Reader) (id.Message, error)
}

// Authenticator knows passwords: account.Accounts.
type Authenticator interface {
	Authenticate(ctx context.Context, attempt account.AuthAttempt) (account.Principal, error)
}

// Deps are what the door needs.
type Deps struct {
	Gate          Gate
	Authenticator Authenticator
	Log           *slog.Logger          // nil: says nothing
	Registerer    prometheus.Registerer // nil: counts for nobody
}

// Door is the room. Listen and Run may be called once each, in this order.
type Door struct {
	cfg     Config
	deps    Deps
	ports   []uint16
	bind    []netip.Addr
	metrics *metrics
	readers sync.Pool // *bufio.Reader of readBuffer octets
	seed    maphash.Seed
	started int64 // makes session ids of one process differ from those of the next
	serial  atomic.Uint64

	listeners []net.Listener
	closing   chan struct{} // closed when Run is to end
	quiet     time.Duration // without a connection, before a listener's goroutine ends

	mu       sync.Mutex
	sessions map[*session]struct{}
	clients  map[netip.Prefix]int
}

// New returns a door that is still shut. It returns an error for a bad Config.
func New(cfg Config, deps Deps) (*Door, error) {
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
	return &Door{
		cfg:      cfg,
		deps:     deps,
		ports:    ports,
		bind:     bind,
		metrics:  m,
		readers:  sync.Pool{New: newReader},
		seed:     maphash.MakeSeed(),
		started:  time.Now().Unix(),
		closing:  make(chan struct{}),
		quiet:    10 * time.Second,
		sessions: map[*session]struct{}{},
		clients:  map[netip.Prefix]int{},
	}, nil
}

func (c Config) validate() error {
	switch {
	case c.Hostname == "" || strings.ContainsAny(c.Hostname, " \t\r\n"):
		return fmt.Errorf("msa: hostname %q: want a host name", c.Hostname)
	case c.PlaintextAuth != PlaintextAllow && c.PlaintextAuth != PlaintextRefuse:
		return fmt.Errorf("msa: plaintext_auth %q: want %q or %q", c.PlaintextAuth, PlaintextAllow, PlaintextRefuse)
	case c.PlaintextAuth == PlaintextRefuse && c.TLS == nil:
		return errors.New("msa: plaintext_auth is \"refuse\", but there is no certificate: nobody could authenticate")
	case c.MaxMessageBytes < 0 || c.MaxRecipients < 0 || c.MaxConnections < 0 || c.MaxPerClient < 0:
		return errors.New("msa: a limit is negative")
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
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	c.PlaintextAuth = orDefault(c.PlaintextAuth, PlaintextAllow)
	c.MaxMessageBytes = orDefault(c.MaxMessageBytes, 50<<20)
	c.MaxRecipients = orDefault(c.MaxRecipients, 1000)
	c.MaxConnections = orDefault(c.MaxConnections, 10_000)
	c.MaxPerClient = orDefault(c.MaxPerClient, 1000)
	t := &c.Timeouts
	t.Command = orDefault(t.Command, 5*time.Minute)
	t.DataBlock = orDefault(t.DataBlock, 3*time.Minute)
	t.Data = orDefault(t.Data, time.Hour)
	t.Write = orDefault(t.Write, time.Minute)
	t.Handshake = orDefault(t.Handshake, 30*time.Second)
	t.Idle = orDefault(t.Idle, 15*time.Minute)
	t.Drain = orDefault(t.Drain, 30*time.Second)
	t.AuthDelay = orDefault(t.AuthDelay, 500*time.Millisecond)
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
