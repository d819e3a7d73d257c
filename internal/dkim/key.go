package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"mittente/internal/mail"
)

// Sizes of RSA keys in bits, RFC 8301 §3.2: every verifier knows up to 4,096.
const (
	rsaBits    = 2048
	rsaMaxBits = 4096
)

// The names of algorithms, RFC 6376 §3.3 and RFC 8463 §3.
const (
	algorithmRSA     = "rsa-sha256"
	algorithmEd25519 = "ed25519-sha256"
)

// ErrKey says that a key is of no kind or size that DKIM signs with.
var ErrKey = errors.New("not a DKIM signing key")

// Key signs for a domain under a selector.
type Key struct {
	Domain   mail.Domain
	Selector string
	Signer   crypto.Signer // public half *rsa.PublicKey (RFC 6376) or ed25519.PublicKey (RFC 8463)
}

// NewRSA makes an RSA key of 2,048 bits; it takes some 100 ms.
func NewRSA(domain mail.Domain, selector string) (Key, error) {
	k, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return Key{}, fmt.Errorf("make an RSA key: %w", err)
	}
	return Key{Domain: domain, Selector: selector, Signer: k}, nil
}

// NewEd25519 makes an Ed25519 key (RFC 8463).
func NewEd25519(domain mail.Domain, selector string) (Key, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make an Ed25519 key: %w", err)
	}
	return Key{Domain: domain, Selector: selector, Signer: k}, nil
}

// Algorithm returns "rsa-sha256" or "ed25519-sha256", or "" for a key that can't sign.
func (k Key) Algorithm() string {
	if k.Signer == nil {
		return ""
	}
	switch k.Signer.Public().(type) {
	case *rsa.PublicKey:
		return algorithmRSA
	case ed25519.PublicKey:
		return algorithmEd25519
	}
	return ""
}

// validate returns an error unless k can sign, and its text can stand in a signature.
func (k Key) validate() error {
	if k.Algorithm() == "" {
		return fmt.Errorf("%w: %T", ErrKey, k.Signer)
	}
	name := k.recordName()
	if parsed, err := mail.ParseDomain(name); err != nil || string(parsed) != name || k.Domain == "" {
		return fmt.Errorf("%w: bad name %q", ErrKey, name)
	}
	return nil
}

// Record returns the TXT record under which verifiers find the public half: its
// name without a dot at the end, and its value (RFC 6376 §3.6.1, RFC 8463 §4),
// which for RSA is longer than one string of a TXT record. Both are empty for a
// key that can't sign.
func (k Key) Record() (name, value string) {
	if k.Algorithm() == "" {
		return "", ""
	}
	name = k.recordName()
	switch public := k.Signer.Public().(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return "", ""
		}
		return name, "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	case ed25519.PublicKey:
		return name, "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	}
	return "", ""
}

// recordName is RFC 6376 §3.6.2.1.
func (k Key) recordName() string { return k.Selector + "._domainkey." + string(k.Domain) }

// MarshalPrivate returns the private key in PKCS #8, to be sealed before it is kept.
func (k Key) MarshalPrivate() ([]byte, error) {
	if k.Algorithm() == "" {
		return nil, ErrKey
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.Signer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return der, nil
}

// ParsePrivate reads what MarshalPrivate gave: RSA of 2,048 to 4,096 bits or
// Ed25519. Errors wrap ErrKey.
func ParsePrivate(der []byte) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	switch k := parsed.(type) {
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n < rsaBits || n > rsaMaxBits {
			return nil, fmt.Errorf("%w: RSA of %d bits", ErrKey, n)
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("%w: %T", ErrKey, parsed)
}
