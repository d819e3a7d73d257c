package signer

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Secret is what seals the private keys in the database, and what other secrets
// of the house derive from. It is in no output of fmt, slog or encoding/json.
type Secret [32]byte

const redacted = "[secret]"

// Errors about the secret.
var (
	// ErrSecretText says that a text is not 64 hexadecimal digits.
	ErrSecretText = errors.New("not a secret key: want 64 hexadecimal digits, such as `openssl rand -hex 32` prints")
	// ErrOtherSecret says that the database was sealed with another secret.
	ErrOtherSecret = errors.New("the database was sealed with another secret key: " +
		"bring back the file secret.key (or MITTENTE_SECRET_KEY) that belongs to it; the DKIM keys can't be read without it")
)

// Format writes "[secret]", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns "[secret]".
func (Secret) String() string { return redacted }

// LogValue returns "[secret]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[secret]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// ParseSecret reads the text form: 64 hexadecimal digits, white space around
// them allowed. It returns ErrSecretText, which does not show the text.
func ParseSecret(text string) (Secret, error) {
	var s Secret
	b := bytes.TrimSpace([]byte(text))
	if hex.DecodedLen(len(b)) != len(s) {
		return Secret{}, ErrSecretText
	}
	if _, err := hex.Decode(s[:], b); err != nil {
		return Secret{}, ErrSecretText
	}
	if s.IsZero() {
		return Secret{}, ErrSecretText
	}
	return s, nil
}

// MakeSecret makes the file with 32 random bytes, mode 0600, unless it is there,
// and returns what LoadSecret reads from it. The file is durable then. Of several
// processes that do so at once, all get the same secret. The folder must exist.
func MakeSecret(path string) (Secret, error) {
	s, err := LoadSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := makeSecret(path); err != nil {
		return Secret{}, fmt.Errorf("make secret key file: %w", err)
	}
	return LoadSecret(path)
}

// LoadSecret reads the secret from a file that its group may read at most. An
// error wraps fs.ErrNotExist when the file is missing, ErrSecretText when it
// holds something else.
func LoadSecret(path string) (Secret, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return Secret{}, fmt.Errorf("secret key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Secret{}, fmt.Errorf("secret key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return Secret{}, fmt.Errorf("secret key file %s: its mode %04o lets others at it: chmod 600 it", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return Secret{}, fmt.Errorf("secret key file %s: %w", path, err)
	}
	s, err := ParseSecret(string(text))
	if err != nil {
		return Secret{}, fmt.Errorf("secret key file %s: %w", path, err)
	}
	return s, nil
}

// makeSecret makes the file under another name and links it to its own, so that
// a crash leaves no half of it and nobody's file is overwritten.
func makeSecret(path string) error {
	var s Secret
	_, _ = rand.Read(s[:]) // never fails: the program ends when the system has no randomness
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".secret-*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.WriteString(f, hex.EncodeToString(s[:])+"\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Derive returns the key for one use of the secret, by HKDF (RFC 5869); purpose
// names the use, and nobody learns from it the key of another.
func (s Secret) Derive(purpose string) (key [32]byte, err error) {
	derived, err := hkdf.Key(sha256.New, s[:], nil, purpose, len(key))
	if err != nil {
		return key, fmt.Errorf("derive a key: %w", err)
	}
	copy(key[:], derived)
	return key, nil
}
