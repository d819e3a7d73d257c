// Package dkim signs mail by RFC 6376 and RFC 8463.
package dkim

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ErrHeader says that a header section can't be signed: it is no sequence of
// fields that end in CRLF, or it has not exactly one From field.
var ErrHeader = errors.New("header section cannot be signed")

// lineLength is the length of a line, in octets without CRLF, that the signature
// keeps to where it can (RFC 5322 §2.1.1).
const lineLength = 78

// Sign returns one DKIM-Signature field for each key, in their order, CRLF and
// all, to be put before header. The header section is complete: it ends with the
// CRLF of its last field, without the empty line. bodyHash is what BodyHasher
// gave; now is the time of signing, in whole seconds.
//
// Both forms are relaxed, the whole body is signed (no l=), a signature does not
// expire (no x=, since mail may wait for days), and From is signed once more than
// it occurs, so that a second one can't be added on the way. The other fields are
// not, as mailing lists add some.
//
// Errors wrap ErrHeader or ErrKey, or are those of a key's signer.
func Sign(header []byte, bodyHash [sha256.Size]byte, keys []Key, now time.Time) ([]byte, error) {
	fields, err := split(header)
	if err != nil {
		return nil, err
	}
	signed := chosen(fields)
	data := make([]byte, 0, len(header)+1024)
	for _, f := range signed {
		data = f.appendRelaxed(data)
	}
	out := make([]byte, 0, len(keys)*1024)
	for _, k := range keys {
		if err := k.validate(); err != nil {
			return nil, err
		}
		start := len(out)
		out = appendUnsigned(out, k, signed, bodyHash, now)
		sum := sha256.Sum256(relaxedSignature(data, out[start:]))
		signature, err := k.sign(sum)
		if err != nil {
			return nil, fmt.Errorf("sign as %s with %s: %w", k.Domain, k.Selector, err)
		}
		out = appendSignature(out, signature)
	}
	return out, nil
}

// relaxedSignature appends the relaxed form of a signature field whose b= is
// still empty to data, for hashing: it comes last and without its CRLF (RFC 6376
// §3.7). The array behind data is used again for each key.
func relaxedSignature(data, unsigned []byte) []byte {
	f := field{raw: unsigned, name: bytes.IndexByte(unsigned, ':')}
	return bytes.TrimSuffix(f.appendRelaxed(data), []byte("\r\n"))
}

// sign signs the hash of the header.
func (k Key) sign(sum [sha256.Size]byte) ([]byte, error) {
	if k.Algorithm() == algorithmEd25519 {
		// RFC 8463 §3: the hash is the message of pure Ed25519.
		return k.Signer.Sign(rand.Reader, sum[:], crypto.Hash(0))
	}
	return k.Signer.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// appendUnsigned writes a signature field up to "b=" (RFC 6376 §3.5).
func appendUnsigned(out []byte, k Key, signed []field, bodyHash [sha256.Size]byte, now time.Time) []byte {
	f := folder{out: append(out, "DKIM-Signature: v=1;"...)}
	f.begun = len(out)
	f.tag("a=" + k.Algorithm() + ";")
	f.tag("c=relaxed/relaxed;")
	f.tag("d=" + string(k.Domain) + ";")
	f.tag("s=" + k.Selector + ";")
	f.tag("t=" + strconv.FormatInt(now.Unix(), 10) + ";")
	f.tag("bh=" + base64.StdEncoding.EncodeToString(bodyHash[:]) + ";")
	f.tag("h=from") // RFC 6376 §5.4.2: a From beyond those there are
	names := signedNames()
	for _, s := range signed {
		f.name(names[s.rank])
	}
	f.out = append(f.out, ";\r\n b="...)
	return f.out
}

// appendSignature writes the value of "b=" and ends the field.
func appendSignature(out, signature []byte) []byte {
	text := base64.StdEncoding.EncodeToString(signature)
	room := lineLength - len(" b=")
	for len(text) > room {
		out = append(append(out, text[:room]...), "\r\n "...)
		text, room = text[room:], lineLength-len(" ")
	}
	return append(append(out, text...), "\r\n"...)
}

// folder writes a field, with folds where a line would get too long.
type folder struct {
	out   []byte
	begun int // where the line began
}

// tag writes a tag of the signature after a space or a fold.
func (f *folder) tag(text string) {
	if len(f.out)-f.begun+1+len(text) > lineLength {
		f.fold()
	} else {
		f.out = append(f.out, ' ')
	}
	f.out = append(f.out, text...)
}

// name writes a further name of "h=".
func (f *folder) name(text string) {
	f.out = append(f.out, ':')
	if len(f.out)-f.begun+len(text)+len(":") > lineLength {
		f.fold()
	}
	f.out = append(f.out, text...)
}

func (f *folder) fold() {
	f.out = append(f.out, "\r\n"...)
	f.begun = len(f.out)
	f.out = append(f.out, ' ')
}
