// Package delivery makes one attempt at one destination, reporting what became of each recipient.
package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/dns"
	"mittente/internal/mail"
)

// Config tunes a Courier. Only Hostname has no default.
type Config struct {
	// Hostname is what EHLO says, and the name by which a loop to ourselves is
	// known in MX records (RFC 5321 §5.1).
	Hostname string
	// Port is where mail exchangers listen; default 25.
	Port int
	// Routes take precedence over MX records.
	Routes []Route
	// TLSRoots are trusted when a certificate is verified; nil: the system's.
	TLSRoots *x509.CertPool

	Timeouts Timeouts
	// IdleTimeout is how long a connection waits for another message; default 5 s.
	IdleTimeout time.Duration
	// MaxIdle bounds the connections that wait, over all destinations; default 256.
	MaxIdle int
	// MaxPerConnection bounds the transactions on one connection; default 100.
	MaxPerConnection int
	// MaxRecipients bounds the recipients of one transaction, 1 to 100; default
	// 100, which every server must take (RFC 5321 §4.5.3.1.8).
	MaxRecipients int
	// MaxAddresses bounds the connections begun in one attempt; default 8.
	MaxAddresses int

	// Dial opens a connection; default net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
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
	// attempt's context has ended; default 30 s.
	Grace time.Duration
	// Attempt bounds one Deliver as a whole; default 2 h.
	Attempt time.Duration
}

// Job is one content for some recipients at one site.
type Job struct {
	From       mail.ReversePath
	To         []mail.Rcpt
	Return     mail.Return // RFC 3461 §4.3
	EnvelopeID string      // RFC 3461 §4.4
	SMTPUTF8   bool        // needed: the header is international (RFC 6531); addresses that need it are seen here
	EightBit   bool        // the body has octets above 127 (RFC 6152)
	Size       int64       // octets of the content, for SIZE (RFC 1870); 0: not known
	// Content opens the content, signature and header and body, lines ended by
	// CRLF. It is called once per transaction and closed after it.
	Content func() (io.ReadCloser, error)
}

// Courier carries mail to other servers. It is safe for concurrent use, and
// keeps connections open between attempts until Close.
type Courier struct {
	cfg      Config
	routes   map[string]route
	resolver *dns.Resolver
	log      *slog.Logger
	metrics  *metrics
	sessions tls.ClientSessionCache
	pool     *pool
	scratch  scratchPool
}

// New returns a Courier; reg may be nil. It fails when the hostname is missing
// or a route can't be understood.
func New(cfg Config, resolver *dns.Resolver, log *slog.Logger, reg prometheus.Registerer) (*Courier, error) {
	if cfg.Hostname == "" {
		return nil, errors.New("delivery: no hostname to say in EHLO")
	}
	cfg = cfg.withDefaults()
	if cfg.Port < 1 || cfg.Port > 65535 {
		return nil, fmt.Errorf("delivery: port %d: want 1 to 65535", cfg.Port)
	}
	routes, err := parseRoutes(cfg.Routes)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	return &Courier{
		cfg: cfg, routes: routes, resolver: resolver, log: log, metrics: m,
		sessions: tls.NewLRUClientSessionCache(1024),
		pool:     newPool(cfg.IdleTimeout, cfg.MaxIdle, m),
	}, nil
}

func (c Config) withDefaults() Config {
	orInt := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	if c.Port == 0 {
		c.Port = 25
	}
	orInt(&c.MaxIdle, 256)
	orInt(&c.MaxPerConnection, 100)
	orInt(&c.MaxRecipients, 100)
	orInt(&c.MaxAddresses, 8)
	c.MaxRecipients = min(c.MaxRecipients, 100)
	orDuration(&c.IdleTimeout, 5*time.Second)
	c.Timeouts.setDefaults()
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	return c
}

func (t *Timeouts) setDefaults() {
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
	orDuration(&t.Attempt, 2*time.Hour)
}

func orDuration(d *time.Duration, otherwise time.Duration) {
	if *d <= 0 {
		*d = otherwise
	}
}

// Close takes leave of the servers that idle connections lead to, and waits
// for that. Connections in use are closed when their attempt ends.
func (c *Courier) Close() { c.pool.close() }
