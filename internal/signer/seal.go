package signer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"

	"mittente/internal/db"
	"mittente/internal/id"
)

// Each use of the secret has a key of its own, derived by HKDF (RFC 5869).
const (
	purposeSeal  = "mittente: seal DKIM keys, 1"
	purposeCheck = "mittente: check of the secret, 1"
)

// seal hides private keys with AES-256-GCM: a random nonce, then the ciphertext.
type seal struct {
	aead  cipher.AEAD
	check []byte
}

func newSeal(s Secret) (*seal, error) {
	if s.IsZero() {
		return nil, errors.New("signer: the secret key is missing")
	}
	key, err := s.Derive(purposeSeal)
	if err != nil {
		return nil, err
	}
	check, err := s.Derive(purposeCheck)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	return &seal{aead: aead, check: check[:]}, nil
}

// close hides a private key; it opens for the same key and domain only.
func (s *seal) close(key id.Key, domain id.Domain, private []byte) []byte {
	return s.aead.Seal(nil, nil, private, place(key, domain))
}

// open returns what close hid.
func (s *seal) open(key id.Key, domain id.Domain, sealed []byte) ([]byte, error) {
	private, err := s.aead.Open(nil, nil, sealed, place(key, domain))
	if err != nil {
		return nil, fmt.Errorf("unseal key %s: %w", key, err)
	}
	return private, nil
}

// place is the additional data: it keeps a sealed key in its row.
func place(key id.Key, domain id.Domain) []byte {
	return append(append(make([]byte, 0, len(key)+len(domain)), key[:]...), domain[:]...)
}

// Sealed reports whether the database belongs to a secret already. If so, a
// missing secret file must not be made anew.
func Sealed(tx *db.Tx) (bool, error) {
	check, err := db.Collect(tx, scanBytes, sqlSeal)
	return len(check) > 0, err
}

// CheckSecret notes in a fresh database which secret it belongs to, and returns
// ErrOtherSecret when it belongs to another one.
func (s *Signer) CheckSecret(tx *db.Tx) error {
	check, err := db.Collect(tx, scanBytes, sqlSeal)
	if err != nil {
		return fmt.Errorf("check secret: %w", err)
	}
	if len(check) == 0 {
		if _, err := tx.Exec(sqlInsertSeal, s.seal.check); err != nil {
			return fmt.Errorf("note secret: %w", err)
		}
		return nil
	}
	if subtle.ConstantTimeCompare(check[0], s.seal.check) != 1 {
		return ErrOtherSecret
	}
	return nil
}

func scanBytes(row db.Scanner) ([]byte, error) {
	var b []byte
	err := row.Scan(&b)
	return b, err
}
