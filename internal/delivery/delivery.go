// Package delivery makes one attempt at one destination, reporting what became of each recipient.
package delivery

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/mail"
	"mittente/internal/route"
	"mittente/internal/smtpclient"
)

// Config tunes a Courier. Only Hostname has no default.
type Config struct {
	// Hostname is what EHLO says, and the name by which a server that is
	// ourselves is known.
	Hostname string
	// TLSRoots are trusted when a certificate is verified; nil: the system's.
	TLSRoots *x509.CertPool

	Timeouts smtpclient.Timeouts
	// AttemptTimeout bounds one Deliver as a whole; default 2 h.
	AttemptTimeout time.Duration
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

// Plan is the way of a domain's mail, as dispatch hands it back to Deliver.
type Plan = route.Plan

// Job is one content for some recipients at one site.
type Job struct {
	From       mail.ReversePath
	To         []mail.Rcpt
	Return     mail.Return // RFC 3461 §4.3
	EnvelopeID string      // RFC 3461 §4.4
	SMTPUTF8   bool        // needed: the header is international (RFC 6531); addresses that need it are seen here
	EightBit   bool        // the body has octets above 127 (RFC 6152)
	Size       int64       // octets of the content, for SIZE (RFC 1870); 0: not known
	// TLS is what this mail demands beyond the plan: "encrypt" or "verify"; all
	// else demands nothing.
	TLS route.TLSPolicy
	// PerConnection bounds the transactions on one connection, below
	// Config.MaxPerConnection: what the destination's provider takes; 0: no more.
	PerConnection int
	// Content opens the content, signature and header and body, lines ended by
	// CRLF. It is called once per transaction and closed after it.
	Content func() (io.ReadCloser, error)
}

// Courier carries mail to other servers. It is safe for concurrent use, and
// keeps connections open between attempts until Close.
type Courier struct {
	cfg     Config
	router  *route.Router
	client  *smtpclient.Client
	log     *slog.Logger
	metrics *metrics
	pool    *pool
	singly  *singly
	scratch scratchPool
}

// New returns a Courier; reg may be nil. It fails when the hostname is missing.
func New(cfg Config, router *route.Router, log *slog.Logger, reg prometheus.Registerer) (*Courier, error) {
	cfg = cfg.withDefaults()
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	c := &Courier{cfg: cfg, router: router, log: log, metrics: m, pool: newPool(cfg.IdleTimeout, cfg.MaxIdle, m), singly: newSingly()}
	c.client, err = smtpclient.New(smtpclient.Config{
		Hostname: cfg.Hostname, Roots: cfg.TLSRoots, Timeouts: cfg.Timeouts, Dial: cfg.Dial,
		OnReply: func(class int) { c.metrics.replies.WithLabelValues(classLabel(class)).Inc() },
	})
	if err != nil {
		return nil, fmt.Errorf("delivery: %w", err)
	}
	return c, nil
}

func (c Config) withDefaults() Config {
	orInt := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	orInt(&c.MaxIdle, 256)
	orInt(&c.MaxPerConnection, 100)
	orInt(&c.MaxRecipients, 100)
	orInt(&c.MaxAddresses, 8)
	c.MaxRecipients = min(c.MaxRecipients, 100)
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 5 * time.Second
	}
	if c.AttemptTimeout <= 0 {
		c.AttemptTimeout = 2 * time.Hour
	}
	return c
}

// Plan returns the way to domain, or what becomes of its recipients when there
// is none: a failure, or a deferral when the DNS did not answer.
func (c *Courier) Plan(ctx context.Context, domain mail.Domain) (Plan, *mail.Outcome) {
	return c.router.Plan(ctx, domain)
}

// Close takes leave of the servers that idle connections lead to, and waits
// for that. Connections in use are closed when their attempt ends.
func (c *Courier) Close() { c.pool.close() }
