package signer

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// A domain gets an RSA and an Ed25519 key, under selectors that nobody else has.
func TestKeysOfADomain(t *testing.T) {
	first, err := newKeys("example.com")
	if err != nil {
		t.Fatal(err)
	}
	second, err := newKeys("example.com")
	if err != nil {
		t.Fatal(err)
	}
	selectors := map[string]bool{}
	for _, keys := range [][]string{{first[0].Algorithm(), first[1].Algorithm()}, {second[0].Algorithm(), second[1].Algorithm()}} {
		if keys[0] != "rsa-sha256" || keys[1] != "ed25519-sha256" {
			t.Errorf("algorithms %v", keys)
		}
	}
	for _, k := range append(first, second...) {
		if k.Domain != "example.com" || selectors[k.Selector] || len(k.Selector) > 63 || strings.Trim(k.Selector, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			t.Errorf("selector %q of %s, seen: %t", k.Selector, k.Domain, selectors[k.Selector])
		}
		selectors[k.Selector] = true
	}
	if n := first[0].Signer.(*rsa.PrivateKey).N.BitLen(); n != 2048 {
		t.Errorf("RSA of %d bits", n)
	}
}

// The keys that sign are those whose records are published, RSA first.
func TestSigners(t *testing.T) {
	h := open(t)
	h.add(t, h.owner, "example.com")
	h.add(t, h.owner, "example.org")
	keys, err := h.Signers(t.Context(), h.owner, "example.com")
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	records := h.keys(t, h.owner, "example.com")
	for i, k := range keys {
		if name, value := k.Record(); k.Domain != "example.com" || name != records[i].RecordName || value != records[i].RecordValue || value == "" {
			t.Errorf("key %d of %s: %s %q, published %+v", i, k.Domain, name, value, records[i])
		}
	}
	digest := sha256.Sum256([]byte("signed"))
	sig, err := keys[0].Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || rsa.VerifyPKCS1v15(keys[0].Signer.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], sig) != nil {
		t.Errorf("RSA: %v", err)
	}
	sig, err = keys[1].Signer.Sign(rand.Reader, digest[:], crypto.Hash(0))
	if err != nil || !ed25519.Verify(keys[1].Signer.Public().(ed25519.PublicKey), digest[:], sig) {
		t.Errorf("Ed25519: %v", err)
	}
}

// Nobody else's domain is signed for.
func TestWhoseKeysSign(t *testing.T) {
	h := open(t)
	h.add(t, h.owner, "example.com")
	for _, domain := range []mail.Domain{"mail.example.com", "example.net"} {
		if _, err := h.Signers(t.Context(), h.owner, domain); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s: %v", domain, err)
		}
	}
	if _, err := h.Signers(t.Context(), id.New[id.Account](), "example.com"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("another account signs with our keys: %v", err)
	}
}

// Signing does not ask the database for keys it has in memory.
func TestKnownKeysCostNoLookIntoTheDatabase(t *testing.T) {
	h := open(t)
	h.add(t, h.owner, "example.com")
	first, err := h.Signers(t.Context(), h.owner, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	h.do(t, func(tx *db.Tx) error { _, err := tx.Exec("ALTER TABLE signer_key RENAME TO gone"); return err })
	again, err := h.Signers(t.Context(), h.owner, "example.com")
	if err != nil || &again[0] != &first[0] {
		t.Errorf("read again, %v", err)
	}
	h.Invalidate()
	if _, err := h.Signers(t.Context(), h.owner, "example.com"); err == nil {
		t.Error("kept over Invalidate")
	}
}

// No private half and no secret is in any file of the data folder.
func TestPrivateKeysAreSealed(t *testing.T) {
	h := open(t)
	h.add(t, h.owner, "example.com")
	keys, err := h.Signers(t.Context(), h.owner, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	var stored bytes.Buffer
	files, err := filepath.Glob(filepath.Join(h.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		stored.Write(content)
	}
	private := keys[0].Signer.(*rsa.PrivateKey)
	seed := keys[1].Signer.(ed25519.PrivateKey).Seed()
	secret := testSecret()
	for name, b := range map[string][]byte{
		"prime": private.Primes[0].Bytes(), "exponent": private.D.Bytes(), "seed": seed,
		"secret": secret[:], "secret as text": []byte(hex.EncodeToString(secret[:])),
	} {
		if bytes.Contains(stored.Bytes(), b) {
			t.Errorf("the %s is in the files", name)
		}
	}
	if !bytes.Contains(stored.Bytes(), []byte(keys[0].Selector)) {
		t.Error("not even the selector is in the files: the test looks at nothing")
	}
}

// A sealed key moved to another row, or changed, does not open.
func TestSealedKeyOpensInItsPlaceOnly(t *testing.T) {
	s, err := newSeal(Secret{1})
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSeal(Secret{2})
	if err != nil {
		t.Fatal(err)
	}
	key, domain := id.New[id.Key](), id.New[id.Domain]()
	sealed := s.close(key, domain, []byte("private"))
	if got, err := s.open(key, domain, sealed); err != nil || string(got) != "private" {
		t.Errorf("%q, %v", got, err)
	}
	if bytes.Equal(sealed, s.close(key, domain, []byte("private"))) {
		t.Error("the nonce is not random")
	}
	broken := bytes.Clone(sealed)
	broken[len(broken)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another key":    func() ([]byte, error) { return s.open(id.New[id.Key](), domain, sealed) },
		"another domain": func() ([]byte, error) { return s.open(key, id.New[id.Domain](), sealed) },
		"another secret": func() ([]byte, error) { return other.open(key, domain, sealed) },
		"a flipped bit":  func() ([]byte, error) { return s.open(key, domain, broken) },
		"a stump":        func() ([]byte, error) { return s.open(key, domain, sealed[:5]) },
		"nothing":        func() ([]byte, error) { return s.open(key, domain, nil) },
	} {
		if got, err := open(); err == nil {
			t.Errorf("%s: opened, %q", name, got)
		}
	}
}

// A database belongs to the secret that came first.
func TestCheckSecret(t *testing.T) {
	h := open(t) // has checked its secret once
	h.do(t, h.CheckSecret)
	if err := h.db.Batch(t.Context(), h.room(t, Secret{2}).CheckSecret); !errors.Is(err, ErrOtherSecret) {
		t.Errorf("another secret: %v", err)
	}
	h.do(t, h.CheckSecret)
	h.do(t, func(tx *db.Tx) error {
		if yes, err := Sealed(tx); err != nil || !yes {
			t.Errorf("sealed: %t, %v", yes, err)
		}
		if _, err := tx.Exec("DELETE FROM signer_seal"); err != nil {
			return err
		}
		if yes, err := Sealed(tx); err != nil || yes {
			t.Errorf("sealed: %t, %v", yes, err)
		}
		return nil
	})
}

// Keys that do not open are an error.
func TestKeysOfAnotherSecretAreNotUsed(t *testing.T) {
	h := open(t)
	h.add(t, h.owner, "example.com")
	if keys, err := h.room(t, Secret{2}).Signers(t.Context(), h.owner, "example.com"); err == nil {
		t.Errorf("%d keys", len(keys))
	}
}
