// Package dkim signs mail by RFC 6376 and RFC 8463.
package dkim

import (
	"errors"
	"time"
)

// Errors of Sign; they come wrapped with the cause.
var (
	// ErrHeader says that a header section can't be signed: it is no sequence of
	// fields that end in CRLF, or it has not exactly one From field.
	ErrHeader = errors.New("header section cannot be signed")
)

// Sign returns one DKIM-Signature field for each key, in their order, CRLF and
// all, to be put before header. The header section is complete: it ends with the
// CRLF of its last field, without the empty line. bodyHash is what BodyHasher gave.
// Errors wrap ErrHeader or ErrKey, or are those of a key's signer.
func Sign(header []byte, bodyHash [32]byte, keys []Key, now time.Time) ([]byte, error) {
	return nil, ErrHeader
}
