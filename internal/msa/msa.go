// Package msa is the SMTP door: it takes mail in from authenticated clients (RFC 6409).
package msa

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/account"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/smtpserver"
	"mittente/internal/submission"
)

// The values of Config.PlaintextAuth.
const (
	PlaintextAllow  = "allow"  // AUTH is offered in clear; a user may still require TLS
	PlaintextRefuse = "refuse" // AUTH is offered after STARTTLS only
)

// Config is what an operator can set. Zero values mean the defaults named here.
type Config struct {
	Wire          smtpserver.Config // ports, limits, timeouts, certificate
	PublicURL     string            // where the console is, for the links in refusals, such as "https://mx.example.org"
	PlaintextAuth string            // PlaintextAllow (default) or PlaintextRefuse
	AuthDelay     time.Duration     // before the first refusal of a password; doubles with each, up to 8 times: 500 ms
}

// Gate takes messages in: submission.Gate.
type Gate interface {
	Mail(ctx context.Context, s submission.Session, from mail.ReversePath) (account.Principal, error)
	Rcpt(ctx context.Context, s submission.Session, env *mail.Envelope, r mail.Rcpt) error
	Submit(ctx context.Context, s submission.Session, env mail.Envelope, content io.Reader) (id.Message, error)
	AuthRefused(ctx context.Context, why *account.AuthError, s submission.Session)
}

// Authenticator knows passwords: account.Accounts.
type Authenticator interface {
	Authenticate(ctx context.Context, attempt account.AuthAttempt) (account.Principal, error)
}

// Exchange is one authentication by SCRAM-SHA-256: account.Exchange.
type Exchange interface {
	Step(ctx context.Context, client string) (server string, done bool, err error)
	Principal() account.Principal
}

// Deps are what the door needs.
type Deps struct {
	Gate          Gate
	Authenticator Authenticator
	Exchange      func(account.ScramAttempt) Exchange // nil: SCRAM is not offered
	Log           *slog.Logger                        // nil: says nothing
	Registerer    prometheus.Registerer               // nil: counts for nobody
}

// Door is the room. Listen and Run may be called once each, in this order.
type Door struct {
	cfg     Config
	deps    Deps
	server  *smtpserver.Server
	metrics *metrics
}

// New returns a door that is still shut. It returns an error for a bad Config.
func New(cfg Config, deps Deps) (*Door, error) {
	cfg.PublicURL = strings.TrimSuffix(cfg.PublicURL, "/")
	if cfg.PlaintextAuth == "" {
		cfg.PlaintextAuth = PlaintextAllow
	}
	if cfg.AuthDelay == 0 {
		cfg.AuthDelay = 500 * time.Millisecond
	}
	cfg.Wire.Help = cfg.PublicURL
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	d := &Door{cfg: cfg, deps: deps, metrics: m}
	d.server, err = smtpserver.New(cfg.Wire, smtpserver.Deps{
		Open:       func(s *smtpserver.Session) smtpserver.Handler { return newSession(d, s) },
		Log:        deps.Log,
		Registerer: deps.Registerer,
	})
	return d, err
}

func (c Config) validate() error {
	switch {
	case c.PlaintextAuth != PlaintextAllow && c.PlaintextAuth != PlaintextRefuse:
		return fmt.Errorf("msa: plaintext_auth %q: want %q or %q", c.PlaintextAuth, PlaintextAllow, PlaintextRefuse)
	case c.PlaintextAuth == PlaintextRefuse && c.Wire.TLS == nil:
		return errors.New("msa: plaintext_auth is \"refuse\", but there is no certificate: nobody could authenticate")
	}
	return nil
}

// Listen binds every address and port: see smtpserver.Server.Listen.
func (d *Door) Listen(ctx context.Context) (bound []netip.AddrPort, skipped []smtpserver.Skipped, err error) {
	return d.server.Listen(ctx)
}

// ServeConn speaks with one client: see smtpserver.Server.ServeConn.
func (d *Door) ServeConn(ctx context.Context, conn net.Conn) { d.server.ServeConn(ctx, conn) }

// Run serves what Listen has bound until ctx ends: see smtpserver.Server.Run.
func (d *Door) Run(ctx context.Context) error { return d.server.Run(ctx) }
