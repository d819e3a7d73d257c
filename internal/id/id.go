// Package id names things: typed identifiers that sort by the time they were made.
package id

import (
	"bytes"
	"crypto/rand"
	"database/sql/driver"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ID is a UUIDv7 (RFC 9562 §5.7) of one kind of thing. The kind is part of the
// type, so that a recipient can't be looked up by the id of a message. The zero
// value means "none".
type ID[K kind] [16]byte

// The kinds of things that have an identifier.
type (
	// Account identifies an account.
	Account = ID[accountKind]
	// List identifies a list of an account.
	List = ID[listKind]
	// User identifies an SMTP+ user.
	User = ID[userKind]
	// Credential identifies one password of an SMTP+ user.
	Credential = ID[credentialKind]
	// Message identifies an accepted message.
	Message = ID[messageKind]
	// Recipient identifies one forward-path of one message.
	Recipient = ID[recipientKind]
	// Content identifies the bytes of a message in the spool.
	Content = ID[contentKind]
	// Event identifies an entry of the record of what happened.
	Event = ID[eventKind]
	// Domain identifies a sender domain of an account.
	Domain = ID[domainKind]
	// Sender identifies a sender address of an account.
	Sender = ID[senderKind]
	// Key identifies a DKIM key.
	Key = ID[keyKind]
	// Alert identifies a trouble that an operator should know of.
	Alert = ID[alertKind]
)

type kind interface {
	comparable
	prefix() string
}

type (
	accountKind    struct{}
	listKind       struct{}
	userKind       struct{}
	credentialKind struct{}
	messageKind    struct{}
	recipientKind  struct{}
	contentKind    struct{}
	eventKind      struct{}
	domainKind     struct{}
	senderKind     struct{}
	keyKind        struct{}
	alertKind      struct{}
)

func (accountKind) prefix() string    { return "acc_" }
func (listKind) prefix() string       { return "lst_" }
func (userKind) prefix() string       { return "usr_" }
func (credentialKind) prefix() string { return "crd_" }
func (messageKind) prefix() string    { return "msg_" }
func (recipientKind) prefix() string  { return "rcp_" }
func (contentKind) prefix() string    { return "cnt_" }
func (eventKind) prefix() string      { return "evt_" }
func (domainKind) prefix() string     { return "dom_" }
func (senderKind) prefix() string     { return "snd_" }
func (keyKind) prefix() string        { return "key_" }
func (alertKind) prefix() string      { return "alr_" }

// ErrInvalid says that a text is not the text form of the wanted kind of identifier.
var ErrInvalid = errors.New("not a valid id")

// textLength is 16 octets in base32, without the prefix.
const textLength = 26

// encoding is base32hex: it keeps the order of the bytes and has no punctuation
// (a double click selects it whole). Text is written in lower case, read in any.
func encoding() *base32.Encoding { return base32.HexEncoding.WithPadding(base32.NoPadding) }

// New returns a fresh identifier; identifiers of one process ascend strictly.
// It panics when the system has no randomness, as crypto/rand does. Say which
// kind: id.New[id.Message]().
func New[T interface{ ID[K] }, K kind]() T {
	u, err := uuid.NewV7FromReader(rand.Reader)
	if err != nil {
		panic(fmt.Sprintf("id: no randomness: %v", err))
	}
	return T(ID[K](u))
}

// Before returns the lowest identifier that could be made at time t: all that
// were made earlier (to the millisecond) sort below it. Before 1970 it is the
// zero value.
func Before[T interface{ ID[K] }, K kind](t time.Time) T {
	var i ID[K]
	ms := max(t.UnixMilli(), 0)
	for n := range 6 {
		i[n] = byte(ms >> (40 - 8*n) & 0xff)
	}
	return T(i)
}

// Parse reads the text form, prefix and all: id.Parse[id.Message]("msg_…"). It
// returns ErrInvalid for the text form of another kind, too.
func Parse[T interface{ ID[K] }, K kind](s string) (T, error) {
	i, err := parse[K](s)
	return T(i), err
}

func parse[K kind](s string) (ID[K], error) {
	var i ID[K]
	var k K
	if len(s) != len(k.prefix())+textLength {
		return i, fmt.Errorf("%w: want %s and %d letters or digits", ErrInvalid, k.prefix(), textLength)
	}
	b, err := encoding().DecodeString(strings.ToUpper(s[len(k.prefix()):]))
	if err != nil || len(b) != len(i) {
		return i, fmt.Errorf("%q: %w", s, ErrInvalid)
	}
	copy(i[:], b)
	// Compared as a whole: the last letter has two bits to spare, and letters
	// outside ASCII have others as their lower or upper case.
	if !strings.EqualFold(i.String(), s) || len(i.String()) != len(s) {
		return ID[K]{}, fmt.Errorf("%q: %w (want %s…)", s, ErrInvalid, k.prefix())
	}
	return i, nil
}

// String returns the text form: a prefix that tells the kind, and 26 letters and
// digits. The zero value is the empty string.
func (i ID[K]) String() string {
	if i.IsZero() {
		return ""
	}
	var k K
	return k.prefix() + strings.ToLower(encoding().EncodeToString(i[:]))
}

// IsZero reports whether i names nothing.
func (i ID[K]) IsZero() bool { return i == ID[K]{} }

// Time returns when i was made, to the millisecond.
func (i ID[K]) Time() time.Time {
	var ms int64
	for _, b := range i[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms).UTC()
}

// Compare orders identifiers by the time they were made.
func (i ID[K]) Compare(other ID[K]) int { return bytes.Compare(i[:], other[:]) }

// MarshalText gives the text form to JSON and the like.
func (i ID[K]) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads the text form; an empty text is the zero value.
func (i *ID[K]) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*i = ID[K]{}
		return nil
	}
	parsed, err := parse[K](string(text))
	if err != nil {
		return err
	}
	*i = parsed
	return nil
}

// Value stores an identifier as 16 bytes, the zero value as NULL.
func (i ID[K]) Value() (driver.Value, error) {
	if i.IsZero() {
		return nil, nil
	}
	return i[:], nil
}

// Scan reads what Value stored.
func (i *ID[K]) Scan(src any) error {
	switch b := src.(type) {
	case nil:
		*i = ID[K]{}
		return nil
	case []byte:
		if len(b) == len(i) {
			copy(i[:], b)
			return nil
		}
	}
	return fmt.Errorf("scan %T: %w", src, ErrInvalid)
}
