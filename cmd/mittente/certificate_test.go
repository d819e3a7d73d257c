package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestSelfSigned: Java refuses an empty subject or issuer, Go a certificate
// without a SAN; a client that trusts this one file verifies the server by it.
func TestSelfSigned(t *testing.T) {
	dir := t.TempDir()
	c, err := openCertificate(KeyPairConfig{}, dir, "mail.example.com")
	if err != nil {
		t.Fatal(err)
	}
	leaf := c.current.Load().Leaf
	if leaf.Subject.CommonName == "" || leaf.Issuer.CommonName == "" {
		t.Errorf("subject %q, issuer %q", leaf.Subject, leaf.Issuer)
	}
	pair := selfSignedPair(dir)
	for name, mode := range map[string]os.FileMode{pair.Key: 0o600, pair.Cert: 0o644} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", name, info.Mode(), err, mode)
		}
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(pair.Cert)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal("the file holds no certificate", err)
	}
	for _, name := range []string{"mail.example.com", "localhost"} {
		near, far := net.Pipe()
		go func() { _ = tls.Server(far, c.config()).Handshake() }()
		client := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: name})
		if err := client.Handshake(); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
		near.Close()
	}
}

// TestSelfSignedIsKept while it is good, and made anew when it is not.
func TestSelfSignedIsKept(t *testing.T) {
	pair, now := selfSignedPair(t.TempDir()), time.Now()
	serial := func() string {
		t.Helper()
		have, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		return have.Leaf.SerialNumber.String()
	}
	var last string
	for _, step := range []struct {
		name, host string
		at         time.Time
		kept       bool
	}{
		{"first start", "a.example", now, false},
		{"second start", "a.example", now.Add(time.Hour), true},
		{"another name", "b.example", now, false},
		{"near its end", "b.example", now.Add(selfSignedLife - selfSignedRenew + time.Hour), false},
	} {
		if err := keepSelfSigned(pair, step.host, step.at); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := serial(); (got == last) != step.kept {
			t.Errorf("%s: kept %v, want %v", step.name, got == last, step.kept)
		}
		last = serial()
	}
	if err := os.WriteFile(pair.Key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := keepSelfSigned(pair, "b.example", now); err == nil {
		t.Error("a broken file was replaced in silence")
	}
}

// TestCertificateFollowsItsFiles, and stays as it was when they are no good.
func TestCertificateFollowsItsFiles(t *testing.T) {
	pair := selfSignedPair(t.TempDir())
	write := func(host string, at time.Time) {
		t.Helper()
		if err := makeSelfSigned(pair, host, at); err != nil {
			t.Fatal(err)
		}
	}
	write("one.example", time.Now())
	c, err := openCertificate(pair, "", "")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		go func() { _ = c.run(t.Context(), slog.New(slog.DiscardHandler)) }()
		serves := func(want string) {
			t.Helper()
			time.Sleep(2 * certificateLook)
			synctest.Wait()
			if got := c.current.Load().Leaf.DNSNames[0]; got != want {
				t.Errorf("serves %s, want %s", got, want)
			}
		}
		serves("one.example")
		write("two.example", time.Now())
		serves("two.example")
		if err := os.WriteFile(pair.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"}), 0o600); err != nil {
			t.Fatal(err)
		}
		serves("two.example")
		write("three.example", time.Now())
		serves("three.example")
	})
}
