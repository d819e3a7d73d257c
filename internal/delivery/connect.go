package delivery

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"mittente/internal/mail"
	"mittente/internal/route"
	"mittente/internal/smtpclient"
)

// trouble is why a host could not be used: what it means for all recipients,
// and what is worth trying next.
type trouble struct {
	outcome   mail.Outcome
	dead      bool // no server there: another address of the host may do
	handshake bool // TLS failed: the same server may do in clear
	ourselves bool // the server is this one
}

// connect returns a connection ready for MAIL under the attempt's terms.
func (a *attempt) connect(ctx context.Context, h route.Host, addr netip.Addr) (*link, *trouble) {
	c, t := a.courier, termsOf(h, a.plan, a.policy)
	l, tr := c.dial(ctx, addr, t)
	if tr == nil {
		tr = a.prepare(ctx, l, a.policy)
	}
	if tr != nil && tr.handshake && a.policy == route.TLSMay && t.to.username == "" && ctx.Err() == nil {
		// Clear is better than nothing, but not on the connection that TLS has
		// left in an unknown state (RFC 7435 §3).
		if l, tr = c.dial(ctx, addr, t); tr == nil {
			tr = a.prepare(ctx, l, route.TLSNone)
		}
	}
	if tr != nil {
		c.metrics.connections.WithLabelValues("failed").Inc()
		return nil, tr
	}
	c.metrics.connections.WithLabelValues("new").Inc()
	return l, nil
}

func (c *Courier) dial(ctx context.Context, addr netip.Addr, t terms) (*link, *trouble) {
	l := &link{to: t.to, remote: addr.String()}
	conn, err := c.client.Connect(ctx, t.to.host, netip.AddrPortFrom(addr, uint16(t.to.port))) //nolint:gosec // checked to be a port
	if err != nil {
		o := lost(smtpclient.AtConnect, err)
		o.RemoteMTA, o.RemoteAddr = t.to.host, l.remote
		return nil, &trouble{outcome: o, dead: true}
	}
	l.Conn = conn
	return l, nil
}

// prepare goes from the greeting to where MAIL may follow. On trouble the connection is closed.
func (a *attempt) prepare(ctx context.Context, l *link, policy route.TLSPolicy) *trouble {
	detach := l.Attach(ctx)
	defer detach()
	tr := greet(l)
	if tr == nil {
		tr = hello(l)
	}
	if tr == nil && strings.EqualFold(l.Calls(), a.courier.cfg.Hostname) {
		tr = a.ourselves()
	}
	if tr == nil {
		tr = a.secure(ctx, l, policy)
	}
	if tr == nil && l.to.username != "" {
		tr = authenticate(l, policy)
	}
	if tr == nil {
		return nil
	}
	tr.outcome = l.sign(tr.outcome)
	if tr.handshake {
		l.Close() // nothing more can be said on it
	}
	detach()
	a.courier.pool.quit(l)
	return tr
}

func greet(l *link) *trouble {
	r, err := l.Greeting()
	if err != nil {
		return &trouble{outcome: lost(smtpclient.AtGreeting, err), dead: true}
	}
	if r.Class() != 2 {
		return &trouble{outcome: judge(smtpclient.AtGreeting, r)}
	}
	return nil
}

func hello(l *link) *trouble {
	r, err := l.Hello()
	if err != nil {
		return &trouble{outcome: lost(smtpclient.AtHello, err)}
	}
	if r.Class() != 2 {
		return &trouble{outcome: judge(smtpclient.AtHello, r)}
	}
	return nil
}

// ourselves is for a server that calls itself by our name: what goes there comes
// back (RFC 5321 §6.3), by an address or an alias that the MX records don't show.
func (a *attempt) ourselves() *trouble {
	const text = "mail loops back to this host: the server there calls itself by our name"
	if a.plan.Static() {
		o := *deferred(mail.Status{Class: 4, Subject: 4, Detail: 6}, text)
		o.Ours = true
		return &trouble{outcome: o, ourselves: true}
	}
	return &trouble{outcome: *failed(0, mail.Status{Class: 5, Subject: 4, Detail: 6}, text), ourselves: true}
}

// secure brings TLS up where policy and server have it so.
func (a *attempt) secure(ctx context.Context, l *link, policy route.TLSPolicy) *trouble {
	count := func(result string) { a.courier.metrics.tls.WithLabelValues(result).Inc() }
	offered := l.Extensions().StartTLS
	if policy == route.TLSNone || policy == route.TLSMay && !offered {
		count("clear")
		return nil
	}
	if !offered {
		return a.insecure(trouble{outcome: *deferred(mail.Status{Class: 4, Subject: 7, Detail: 4}, "TLS is required and the server does not offer it")})
	}
	r, err := l.StartTLS()
	if errors.Is(err, smtpclient.ErrInterrupted) {
		return &trouble{outcome: lost(smtpclient.AtTLS, err)}
	}
	if err != nil {
		return a.insecure(trouble{outcome: lost(smtpclient.AtTLS, err), handshake: true})
	}
	if r.Code != 220 {
		if policy == route.TLSMay && !l.Broken() {
			count("clear")
			return nil
		}
		return a.insecure(trouble{outcome: judge(smtpclient.AtTLS, r)})
	}
	if err := l.Handshake(ctx, securityOf(policy)); err != nil {
		count("failed")
		if why := smtpclient.Interruption(ctx); why != nil {
			return &trouble{outcome: lost(smtpclient.AtTLS, why)}
		}
		o := deferred(mail.Status{Class: 4, Subject: 7, Detail: 5}, "TLS: "+err.Error())
		return a.insecure(trouble{outcome: *o, handshake: true})
	}
	if l.Security() >= smtpclient.Verified {
		count("verified")
	} else {
		count("unverified")
	}
	tr := hello(l)
	if tr != nil && tr.outcome.Code == 0 {
		// With TLS 1.3 a server's refusal arrives after our side of the handshake.
		tr.handshake = true
	}
	return tr
}

// insecure says whose trouble it is that a connection can't be as it has to be:
// where only this mail demands more than the plan, the site is well for all other.
func (a *attempt) insecure(tr trouble) *trouble {
	if a.policy != a.plan.TLS && tr.outcome.Code != smtpclient.CodeClosing {
		tr.outcome.Scope = mail.ScopeMessage
	}
	return &tr
}

// authenticate signs in by AUTH PLAIN or LOGIN.
func authenticate(l *link, policy route.TLSPolicy) *trouble {
	security := mail.Status{Class: 4, Subject: 7, Detail: 4}
	if l.Security() == smtpclient.Clear && policy != route.TLSNone {
		return ours(security, "the password is not sent in clear, and the server does not offer TLS")
	}
	r, err := l.Authenticate(l.to.username, l.to.password)
	switch {
	case errors.Is(err, smtpclient.ErrNoMechanism):
		return ours(security, err.Error())
	case err != nil:
		return &trouble{outcome: lost(smtpclient.AtAuth, err)}
	case r.Class() != 2:
		return &trouble{outcome: judge(smtpclient.AtAuth, r)}
	}
	return nil
}

// ours is trouble that stays until an operator acts.
func ours(status mail.Status, text string) *trouble {
	o := *deferred(status, text)
	o.Ours = true
	return &trouble{outcome: o}
}
