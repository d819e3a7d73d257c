package letter

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"mittente/internal/db"
)

// LinkID names the link of a letter in the database. Nobody can make the token
// of it without the secret.
type LinkID [10]byte

const macLength = 15 // octets; with LinkID they are 40 letters and digits without a bit to spare

// Errors of links.
var (
	// ErrUnknownToken says that there is no such link: it was copied in part,
	// or what it asked was withdrawn.
	ErrUnknownToken = errors.New("no such link")
	// ErrExpired says that the link can't be answered any more.
	ErrExpired = errors.New("the link has expired")
	// ErrReplaced says that a newer letter asks the same; it is also an ErrExpired.
	ErrReplaced = fmt.Errorf("a newer letter has another link: %w", ErrExpired)
	// ErrUsed says that the link has been answered.
	ErrUsed = errors.New("the link has been used")
)

// links makes and reads tokens: LinkID, and its HMAC-SHA256 (RFC 2104) by a key
// that is derived from the secret.
type links struct{ key [32]byte }

func (l links) mac(link LinkID) []byte {
	h := hmac.New(sha256.New, l.key[:])
	h.Write(link[:])
	return h.Sum(nil)[:macLength]
}

func (l links) token(link LinkID) string {
	return strings.ToLower(base32.HexEncoding.EncodeToString(append(link[:], l.mac(link)...)))
}

// open returns the link of a token, or ErrUnknownToken. Capitals are taken as
// well; the database need not be asked whether a token is genuine.
func (l links) open(token string) (LinkID, error) {
	var link LinkID
	if len(token) != base32.HexEncoding.EncodedLen(len(link)+macLength) {
		return link, ErrUnknownToken
	}
	b, err := base32.HexEncoding.DecodeString(strings.ToUpper(token))
	if err != nil || len(b) != len(link)+macLength {
		return link, ErrUnknownToken
	}
	copy(link[:], b)
	if !hmac.Equal(b[len(link):], l.mac(link)) {
		return LinkID{}, ErrUnknownToken
	}
	return link, nil
}

// Genuine returns the link of a token, or ErrUnknownToken when nobody with the
// secret has made it; it does not look into the database.
func (ls *Letters) Genuine(token string) (LinkID, error) { return ls.links.open(token) }

// ByLink returns the letter of a link. ErrUnknownToken when there is none, none
// any more, or it has not been sent: then nobody can have its token.
func (ls *Letters) ByLink(tx *db.Tx, link LinkID) (Letter, error) {
	l, err := scan(tx.Row(sqlByID, link[:]))
	if errors.Is(err, sql.ErrNoRows) || err == nil && (l.due || l.Outcome == OutcomeWithdrawn) {
		return Letter{}, ErrUnknownToken
	}
	if err != nil {
		return Letter{}, fmt.Errorf("look for a letter: %w", err)
	}
	return l, nil
}

// Answerable returns nil when the letter's link can be answered, else
// ErrReplaced, ErrUsed or ErrExpired.
func (l Letter) Answerable() error {
	switch {
	case l.Outcome == OutcomeReplaced:
		return ErrReplaced
	case l.Outcome != "":
		return ErrUsed
	case !l.ExpiresAt.IsZero() && !db.Now().Before(l.ExpiresAt):
		return ErrExpired
	}
	return nil
}

// Close notes what became of a letter's link. ErrUsed when another process has
// noted that since the letter was read.
func (ls *Letters) Close(tx *db.Tx, l Letter, o Outcome) error {
	switch n, err := tx.Exec(sqlClose, l.ID[:], string(o), db.Micros(db.Now())); {
	case err != nil:
		return fmt.Errorf("close the link of the letter to %s: %w", l.Address, err)
	case n == 0:
		return ErrUsed
	}
	return nil
}
