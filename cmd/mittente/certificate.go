package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	selfSignedLife  = 5 * 365 * day
	selfSignedRenew = 30 * day        // this long before its end a new one is made, at start
	certificateLook = 2 * time.Second // how often the files are looked at
)

// certificate is a certificate that follows its files.
type certificate struct {
	pair    KeyPairConfig
	current atomic.Pointer[tls.Certificate]
	expires prometheus.Gauge

	mu    sync.Mutex
	tried string // what the files looked like when they were last read
}

// openCertificate reads the pair; an empty one is the self-signed certificate
// in dir, which is made when it is missing, near its end, or for another name.
func openCertificate(pair KeyPairConfig, dir, hostname string) (*certificate, error) {
	if pair == (KeyPairConfig{}) {
		pair = selfSignedPair(dir)
		if err := keepSelfSigned(pair, hostname, time.Now()); err != nil {
			return nil, fmt.Errorf("self-signed certificate: %w", err)
		}
	}
	c := &certificate{pair: pair, expires: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mittente_certificate_expiry_timestamp_seconds",
		Help: "When the certificate of the SMTP door ends, in seconds since 1970.",
	})}
	return c, c.reload()
}

func selfSignedPair(dir string) KeyPairConfig {
	return KeyPairConfig{filepath.Join(dir, "tls-self-signed.crt"), filepath.Join(dir, "tls-self-signed.key")}
}

// reload reads the files; when they are no good, the certificate stays as it was.
func (c *certificate) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried = c.looks()
	pair, err := loadKeyPair(c.pair)
	if err != nil {
		return err
	}
	c.current.Store(&pair)
	c.expires.Set(float64(pair.Leaf.NotAfter.Unix()))
	return nil
}

func loadKeyPair(files KeyPairConfig) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return pair, fmt.Errorf("certificate %s: %w", files.Cert, err)
	}
	return pair, nil
}

// looks tells apart the states of the two files without reading them.
func (c *certificate) looks() string {
	var s strings.Builder
	for _, name := range []string{c.pair.Cert, c.pair.Key} {
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintf(&s, "%d %d ", info.ModTime().UnixNano(), info.Size())
		}
	}
	return s.String()
}

// changed reports whether the files look other than when they were last read.
func (c *certificate) changed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looks() != c.tried
}

// run reads the files again whenever they have changed. A pair of which one half
// is new is no good; it is read again with the next change.
func (c *certificate) run(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(certificateLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !c.changed() {
			continue
		}
		if err := c.reload(); err != nil {
			log.LogAttrs(ctx, slog.LevelError, "certificate kept as it was", slog.String("error", err.Error()))
			continue
		}
		log.LogAttrs(ctx, slog.LevelInfo, "certificate reloaded", slog.String("file", c.pair.Cert),
			slog.Time("not_after", c.current.Load().Leaf.NotAfter))
	}
}

// config is for the server's end of a connection.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// keepSelfSigned makes the certificate unless a good one is there.
func keepSelfSigned(pair KeyPairConfig, hostname string, now time.Time) error {
	have, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	switch {
	case err == nil:
		if have.Leaf.NotAfter.Sub(now) > selfSignedRenew && have.Leaf.VerifyHostname(hostname) == nil {
			return nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return makeSelfSigned(pair, hostname, now)
}

// makeSelfSigned writes key and certificate. Java refuses an empty subject or
// issuer, Go a certificate without a SAN.
func makeSelfSigned(pair KeyPairConfig, hostname string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	name := hostname
	if len(name) > 64 { // RFC 5280 ub-common-name
		name = "mittente"
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"mittente, self-signed"}},
		DNSNames:     []string{hostname, "localhost"},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(selfSignedLife),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// Clients that are told to trust this one file take it for their root.
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := replaceFile(pair.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		return err
	}
	return replaceFile(pair.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// replaceFile writes a file under another name and renames it: nobody sees half of it.
func replaceFile(name string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
