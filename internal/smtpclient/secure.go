package smtpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"mittente/internal/smtp"
)

// Security is how well a connection is protected.
type Security int

// The levels, the weakest first.
const (
	Clear     Security = iota
	Weak               // TLS before 1.2, whoever it is: better than clear (RFC 7435 §3)
	Encrypted          // TLS 1.2 or later, whoever it is
	Verified           // so, and the certificate is valid for the server's name
)

// Security returns how well the connection is protected.
func (c *Conn) Security() Security { return c.security }

// TLS describes the protection as mail.Outcome does; "" in clear.
func (c *Conn) TLS() string { return c.tls }

// StartTLS asks for TLS (RFC 3207 §4); after a reply of 220 Handshake follows.
func (c *Conn) StartTLS() (smtp.Reply, error) { return c.command(AtTLS, "STARTTLS") }

var errInjected = errors.New("the server sent more than its reply before TLS")

// Handshake brings TLS up, a session of an earlier connection being resumed
// where the server has it so, and fails when the protection would be less than
// least. After it Hello is due: what was said before counts no more (RFC 3207
// §4.2). After an error nothing more can be said on the connection.
func (c *Conn) Handshake(ctx context.Context, least Security) error {
	if c.r.Buffered() > 0 {
		// In clear, and taken for the server's word after TLS (CVE-2011-0411, its mirror image).
		c.broken = true
		return errInjected
	}
	verified := false
	tc := tls.Client(c.nc, c.tlsConfig(least, &verified))
	c.mu.Lock()
	c.nc = tc
	c.mu.Unlock()
	c.allow(c.timeouts.of(AtTLS))
	if err := tc.HandshakeContext(ctx); err != nil {
		return c.fault(err)
	}
	c.r.Reset(tc)
	state := tc.ConnectionState()
	word := "unverified"
	if verified {
		word = "verified"
	}
	switch {
	case state.Version < tls.VersionTLS12:
		c.security = Weak
	case verified:
		c.security = Verified
	default:
		c.security = Encrypted
	}
	version := strings.ReplaceAll(tls.VersionName(state.Version), " ", "")
	c.tls = version + " " + tls.CipherSuiteName(state.CipherSuite) + " " + word
	return nil
}

// tlsConfig verifies by itself, so that a certificate nobody vouches for can
// be noted and accepted where encryption is enough. A resumed session is judged
// anew, too: its certificate may have expired meanwhile.
func (c *Conn) tlsConfig(least Security, verified *bool) *tls.Config {
	minimum := uint16(tls.VersionTLS12)
	if least < Encrypted {
		minimum = tls.VersionTLS10
	}
	return &tls.Config{
		ServerName:                  c.name,
		MinVersion:                  minimum,
		InsecureSkipVerify:          true, //nolint:gosec // VerifyConnection below
		ClientSessionCache:          c.client.sessions,
		DynamicRecordSizingDisabled: true, // whole messages, no first byte to wait for
		VerifyConnection: func(state tls.ConnectionState) error {
			err := c.verify(state)
			*verified = err == nil
			if least == Verified {
				return err
			}
			return nil
		},
	}
}

func (c *Conn) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	options := x509.VerifyOptions{DNSName: c.name, Roots: c.client.cfg.Roots, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err
}

// ErrNoMechanism says that the server offers no way to sign in that we know.
var ErrNoMechanism = errors.New("the server offers neither AUTH PLAIN nor LOGIN")

// Authenticate signs in by AUTH PLAIN or LOGIN (RFC 4954, RFC 4616). It returns
// the last reply, or ErrNoMechanism.
func (c *Conn) Authenticate(username, password string) (smtp.Reply, error) {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	switch {
	case slices.Contains(c.ext.Auth, "PLAIN"):
		return c.command(AtAuth, "AUTH PLAIN "+encode("\x00"+username+"\x00"+password))
	case slices.Contains(c.ext.Auth, "LOGIN"):
		r, err := c.command(AtAuth, "AUTH LOGIN")
		for _, s := range []string{username, password} {
			if err == nil && r.Code == 334 {
				r, err = c.command(AtAuth, encode(s))
			}
		}
		return r, err
	}
	return smtp.Reply{}, ErrNoMechanism
}
