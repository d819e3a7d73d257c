package dkim

import (
	"crypto/sha256"
	"hash"
)

// BodyHasher is an io.Writer that takes the SHA-256 hash of a body in its relaxed
// form (RFC 6376 §3.4.4) while the body passes by, in pieces of any size. The
// body is what follows the empty line after the header section; its lines end in
// CRLF, and a lone CR or LF is text. Make one with NewBodyHasher.
type BodyHasher struct {
	hash hash.Hash
}

// NewBodyHasher returns the hasher of an empty body.
func NewBodyHasher() *BodyHasher { return &BodyHasher{hash: sha256.New()} }

// Write takes the next piece of the body. It returns len(p) and no error.
func (b *BodyHasher) Write(p []byte) (int, error) {
	return len(p), nil
}

// Sum returns the hash of the body; nothing may be written after it.
func (b *BodyHasher) Sum() [sha256.Size]byte { return [sha256.Size]byte{} }
