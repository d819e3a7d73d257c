package delivery

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// trouble is why a host could not be used: what it means for all recipients,
// and what is worth trying next.
type trouble struct {
	outcome   mail.Outcome
	dead      bool // no server there: another address of the host may do
	handshake bool // TLS failed: the same server may do in clear
}

// connect returns a connection ready for MAIL under the plan's terms.
func (c *Courier) connect(ctx context.Context, h Host, addr netip.Addr, p Plan) (*conn, *trouble) {
	t := c.terms(h, p)
	cn, tr := c.dial(ctx, addr, t)
	if tr == nil {
		tr = c.prepare(ctx, cn, t.tls)
	}
	if tr != nil && tr.handshake && t.tls == TLSMay && t.username == "" && ctx.Err() == nil {
		// Clear is better than nothing, but not on the connection that TLS has
		// left in an unknown state (RFC 7435 §3).
		if cn, tr = c.dial(ctx, addr, t); tr == nil {
			tr = c.prepare(ctx, cn, TLSNone)
		}
	}
	if tr != nil {
		c.metrics.connections.WithLabelValues("failed").Inc()
		return nil, tr
	}
	c.metrics.connections.WithLabelValues("new").Inc()
	return cn, nil
}

func (c *Courier) terms(h Host, p Plan) terms {
	return terms{host: h.Name, port: h.Port, tls: p.TLS, username: p.username, password: p.password, hello: c.cfg.Hostname}
}

func (c *Courier) dial(ctx context.Context, addr netip.Addr, t terms) (*conn, *trouble) {
	dialing, cancel := context.WithTimeout(ctx, c.cfg.Timeouts.Connect)
	defer cancel()
	nc, err := c.cfg.Dial(dialing, "tcp", netip.AddrPortFrom(addr, uint16(t.port)).String()) //nolint:gosec // checked to be a port
	cn := &conn{terms: t, remote: addr.String(), timeouts: &c.cfg.Timeouts, metrics: c.metrics, nc: nc}
	if err != nil {
		if why := interruption(ctx); why != nil {
			err = why
		}
		return nil, &trouble{outcome: cn.sign(lost(atConnect, err)), dead: true}
	}
	cn.socket, cn.r = nc, bufio.NewReader(nc)
	return cn, nil
}

// prepare goes from the greeting to where MAIL may follow. On trouble the connection is closed.
func (c *Courier) prepare(ctx context.Context, cn *conn, policy TLSPolicy) *trouble {
	detach := cn.attach(ctx)
	defer detach()
	tr := cn.greet()
	if tr == nil {
		tr = cn.hello()
	}
	if tr == nil {
		tr = c.secure(ctx, cn, policy)
	}
	if tr == nil && cn.terms.username != "" {
		tr = cn.authenticate(policy)
	}
	if tr == nil {
		return nil
	}
	tr.outcome = cn.sign(tr.outcome)
	if tr.handshake {
		cn.close() // nothing more can be said on it
	}
	detach()
	c.pool.quit(cn)
	return tr
}

func (c *conn) greet() *trouble {
	r, err := c.reply(atGreeting)
	if err != nil {
		return &trouble{outcome: lost(atGreeting, err), dead: true}
	}
	if r.Class() != 2 {
		return &trouble{outcome: judge(atGreeting, r)}
	}
	return nil
}

// hello says EHLO, and HELO to a server that does not know it (RFC 5321 §3.2).
func (c *conn) hello() *trouble {
	c.ext = extensions{}
	r, err := c.command(atHello, "EHLO "+c.terms.hello)
	if err == nil && r.Class() == 5 {
		r, err = c.command(atHello, "HELO "+c.terms.hello)
	} else if err == nil {
		c.ext = parseExtensions(r)
	}
	if err != nil {
		return &trouble{outcome: lost(atHello, err)}
	}
	if r.Class() != 2 {
		return &trouble{outcome: judge(atHello, r)}
	}
	return nil
}

// secure brings TLS up where policy and server have it so.
func (c *Courier) secure(ctx context.Context, cn *conn, policy TLSPolicy) *trouble {
	if policy == TLSNone || policy == TLSMay && !cn.ext.startTLS {
		c.metrics.tls.WithLabelValues("clear").Inc()
		return nil
	}
	if !cn.ext.startTLS {
		return &trouble{outcome: *deferred(mail.Status{Class: 4, Subject: 7, Detail: 4}, "TLS is required and the server does not offer it")}
	}
	r, err := cn.command(atTLS, "STARTTLS")
	if err != nil {
		return &trouble{outcome: lost(atTLS, err), handshake: true}
	}
	if r.Code != 220 {
		if policy == TLSMay && !cn.broken {
			c.metrics.tls.WithLabelValues("clear").Inc()
			return nil
		}
		return &trouble{outcome: judge(atTLS, r)}
	}
	if err := c.handshake(ctx, cn, policy); err != nil {
		c.metrics.tls.WithLabelValues("failed").Inc()
		if why := interruption(ctx); why != nil {
			return &trouble{outcome: lost(atTLS, why)}
		}
		o := deferred(mail.Status{Class: 4, Subject: 7, Detail: 5}, "TLS: "+err.Error())
		return &trouble{outcome: *o, handshake: true}
	}
	tr := cn.hello() // RFC 3207 §4.2: what was said before TLS counts no more
	if tr != nil && tr.outcome.Code == 0 {
		// With TLS 1.3 a server's refusal arrives after our side of the handshake.
		tr.handshake = true
	}
	return tr
}

var errInjected = errors.New("the server sent more than its reply before TLS")

func (c *Courier) handshake(ctx context.Context, cn *conn, policy TLSPolicy) error {
	if cn.r.Buffered() > 0 {
		// In clear, and taken for the server's word after TLS (CVE-2011-0411, its mirror image).
		return errInjected
	}
	verified := false
	tc := tls.Client(cn.nc, c.tlsConfig(cn.terms.host, policy, &verified))
	cn.mu.Lock()
	cn.nc = tc
	cn.mu.Unlock()
	cn.allow(c.cfg.Timeouts.of(atTLS))
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	cn.r.Reset(tc)
	word := "unverified"
	if verified {
		word = "verified"
	}
	c.metrics.tls.WithLabelValues(word).Inc()
	state := tc.ConnectionState()
	version := strings.ReplaceAll(tls.VersionName(state.Version), " ", "")
	cn.tls = version + " " + tls.CipherSuiteName(state.CipherSuite) + " " + word
	return nil
}

// tlsConfig verifies by itself, so that a certificate nobody vouches for can
// be noted and accepted where the policy is content with encryption.
func (c *Courier) tlsConfig(host string, policy TLSPolicy, verified *bool) *tls.Config {
	minimum := uint16(tls.VersionTLS12)
	if policy == TLSMay {
		minimum = tls.VersionTLS10 // better than clear, the alternative (RFC 7435 §3)
	}
	return &tls.Config{
		ServerName:                  host,
		MinVersion:                  minimum,
		InsecureSkipVerify:          true, //nolint:gosec // VerifyConnection below
		ClientSessionCache:          c.sessions,
		DynamicRecordSizingDisabled: true, // whole messages, no first byte to wait for
		VerifyConnection: func(state tls.ConnectionState) error {
			err := c.verify(state, host)
			*verified = err == nil
			if policy == TLSVerify {
				return err
			}
			return nil
		},
	}
}

func (c *Courier) verify(state tls.ConnectionState, host string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	options := x509.VerifyOptions{DNSName: host, Roots: c.cfg.TLSRoots, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err
}

// authenticate signs in by AUTH PLAIN or LOGIN (RFC 4954, RFC 4616).
func (c *conn) authenticate(policy TLSPolicy) *trouble {
	if c.tls == "" && policy != TLSNone {
		return &trouble{outcome: *deferred(mail.Status{Class: 4, Subject: 7, Detail: 4}, "the password is not sent in clear, and the server does not offer TLS")}
	}
	var r smtp.Reply
	var err error
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	switch {
	case slices.Contains(c.ext.auth, "PLAIN"):
		r, err = c.command(atAuth, "AUTH PLAIN "+encode("\x00"+c.terms.username+"\x00"+c.terms.password))
	case slices.Contains(c.ext.auth, "LOGIN"):
		r, err = c.command(atAuth, "AUTH LOGIN")
		if err == nil && r.Code == 334 {
			r, err = c.command(atAuth, encode(c.terms.username))
		}
		if err == nil && r.Code == 334 {
			r, err = c.command(atAuth, encode(c.terms.password))
		}
	default:
		return &trouble{outcome: *deferred(mail.Status{Class: 4, Subject: 7, Detail: 4}, "the server offers neither AUTH PLAIN nor LOGIN")}
	}
	if err != nil {
		return &trouble{outcome: lost(atAuth, err)}
	}
	if r.Class() != 2 {
		return &trouble{outcome: judge(atAuth, r)}
	}
	return nil
}
