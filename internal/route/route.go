// Package route finds the way of mail: which hosts take a domain's mail, and under which terms.
package route

import (
	"context"
	"errors"
	"fmt"

	"mittente/internal/dns"
	"mittente/internal/mail"
)

// Config tunes a Router. Only Hostname has no default.
type Config struct {
	// Hostname is the name by which a loop to ourselves is known in MX records
	// (RFC 5321 §5.1).
	Hostname string
	// Port is where mail exchangers listen; default 25.
	Port int
	// Static routes take precedence over MX records.
	Static []Static
}

// Router knows the way to every domain. It is safe for concurrent use.
type Router struct {
	cfg      Config
	static   map[string]static
	resolver *dns.Resolver
}

// New returns a Router. It fails when the hostname is missing, the port is none
// or a static route can't be understood.
func New(cfg Config, resolver *dns.Resolver) (*Router, error) {
	if cfg.Hostname == "" {
		return nil, errors.New("route: no hostname to know ourselves by")
	}
	if cfg.Port == 0 {
		cfg.Port = 25
	}
	if cfg.Port < 1 || cfg.Port > 65535 {
		return nil, fmt.Errorf("route: port %d: want 1 to 65535", cfg.Port)
	}
	parsed, err := parseStatic(cfg.Static)
	if err != nil {
		return nil, err
	}
	return &Router{cfg: cfg, static: parsed, resolver: resolver}, nil
}

// Plan returns the way to domain, or what becomes of its recipients when there
// is none: a failure, or a deferral when the DNS did not answer.
func (r *Router) Plan(ctx context.Context, domain mail.Domain) (Plan, *mail.Outcome) {
	if s, ok := r.staticFor(domain); ok {
		return Plan{
			Site: s.site, Hosts: []Host{s.host}, TLS: s.TLS,
			static: true, username: s.Username, password: s.Password,
		}, nil
	}
	answer, err := r.resolver.MX(ctx, domain)
	switch {
	case errors.Is(err, dns.ErrNotFound):
		return Plan{}, noWay(0, mail.Status{Class: 5, Subject: 1, Detail: 2}, "there is no domain "+string(domain))
	case err != nil:
		return Plan{}, &mail.Outcome{
			Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 3},
			Diagnostic: mail.Diagnostic(err.Error()),
		}
	case len(answer.Records) == 1 && answer.Records[0].Host == "":
		// Null MX: RFC 7505 §4.1 gives code and status.
		return Plan{}, noWay(556, mail.Status{Class: 5, Subject: 1, Detail: 10}, string(domain)+" accepts no mail (null MX)")
	case len(answer.Records) == 0:
		// Implicit MX, RFC 5321 §5.1.
		answer.Records = []dns.MX{{Host: string(domain)}}
	}
	hosts := r.exchangers(answer.Records)
	if len(hosts) == 0 {
		return Plan{}, noWay(0, mail.Status{Class: 5, Subject: 4, Detail: 6}, "mail for "+string(domain)+" loops back to this host by its MX records")
	}
	return Plan{Site: mxSite(hosts, r.cfg.Port), Hosts: hosts, TLS: TLSMay}, nil
}

// noWay is the outcome of recipients that no host takes.
func noWay(code int, status mail.Status, text string) *mail.Outcome {
	return &mail.Outcome{Action: mail.Failed, Scope: mail.ScopeRecipient, Code: code, Status: status, Diagnostic: mail.Diagnostic(text)}
}
