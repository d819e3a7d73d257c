// Package letter keeps the letters that ask the owners of addresses, and what became of the links in them.
package letter

import (
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const (
	// LinkLife is how long the link of a letter that asks can be answered, from
	// the moment it is sent.
	LinkLife = 48 * time.Hour
	// RestAfterNo is how long an owner who refused gets no letter of that account.
	RestAfterNo = 90 * 24 * time.Hour
)

// Kind says what a letter is for.
type Kind string

// The kinds of letters. The link of the first confirms or refuses, that of the
// second revokes.
const (
	Ask       Kind = "ask"       // asks the owner of an address, or of a domain
	Confirmed Kind = "confirmed" // tells who agreed how to take that back
)

// Outcome is what became of a letter's link.
type Outcome string

// The outcomes. An open link has none.
const (
	OutcomeConfirmed Outcome = "confirmed"
	OutcomeRefused   Outcome = "refused"
	OutcomeRevoked   Outcome = "revoked"
	OutcomeReplaced  Outcome = "replaced"  // a newer letter asks the same
	OutcomeWithdrawn Outcome = "withdrawn" // nobody asks any more
)

// Letter is a mail to the owner of an address, to be composed and sent by
// another room.
type Letter struct {
	ID          LinkID
	Kind        Kind
	Account     id.Account
	Address     mail.Address // whom it goes to; also what it asks for, unless Domain is set
	Domain      mail.Domain  // what it asks for as a whole: Address is one of the domain's own mailboxes
	Token       string       // of its link, 40 lower-case letters and digits; of Due alone
	Lang        string       // "it", "en", or "" when nobody said
	RequestedBy string       // as Asking says
	RequestedAt time.Time
	ExpiresAt   time.Time // of the link; zero: it does not expire
	Outcome     Outcome   // "" while the link is open
	DecidedAt   time.Time // when Outcome came about
	due         bool
}

// Asking says who wants an address or a domain verified; the letter shows it.
type Asking struct {
	By   string // a person's name, address, or the operator's name
	Lang string // of the letter: "it" or "en"
}

// Question is what a letter asks, and whom.
type Question struct {
	To     mail.Address
	Domain mail.Domain // "": for the address itself
}

// LinkPurpose is what the key of New is derived for (signer.Secret.Derive).
const LinkPurpose = "mittente: links in letters, 1"

// Letters is the room. It is safe for concurrent use.
type Letters struct {
	db    *db.DB
	links links
	onDue []func()
}

// New returns the room over a database that has its Schema; key makes the tokens of links.
func New(d *db.DB, key [32]byte) (*Letters, error) {
	if key == [32]byte{} {
		return nil, errors.New("letter: the key of links is missing")
	}
	return &Letters{db: d, links: links{key}}, nil
}

// OnDue has do called after a transaction that left a letter to be sent. do must
// not wait for the database. Register before letters are asked for.
func (ls *Letters) OnDue(do func()) { ls.onDue = append(ls.onDue, do) }

// Invalidate is called when another process has changed the database: it may
// have left letters.
func (ls *Letters) Invalidate() {
	for _, do := range ls.onDue {
		do()
	}
}

// Post puts a letter where Due finds it.
func (ls *Letters) Post(tx *db.Tx, owner id.Account, kind Kind, q Question, by Asking) error {
	var link LinkID
	_, _ = rand.Read(link[:]) // never fails: the program ends when the system has no randomness
	if _, err := tx.Exec(sqlInsert, link[:], owner, string(kind), q.To.Key(), q.To.String(), string(q.Domain),
		by.Lang, by.By, db.Micros(db.Now())); err != nil {
		return fmt.Errorf("letter to %s: %w", q.To, err)
	}
	tx.OnCommit(ls.Invalidate)
	return nil
}

// Due returns letters that are to be sent, the oldest first, those that follow after
// (the zero Letter: from the beginning), at most limit. The
// link of each that asks can be answered for 48 hours from now.
func (ls *Letters) Due(tx *db.Tx, after Letter, limit int) ([]Letter, error) {
	due, err := db.Collect(tx, scan, sqlDue, limit, db.Micros(after.RequestedAt), after.ID[:])
	if err != nil {
		return nil, fmt.Errorf("letters that are due: %w", err)
	}
	for i := range due {
		if due[i].Kind == Ask {
			due[i].ExpiresAt = db.Now().Add(LinkLife)
		}
		due[i].Token = ls.links.token(due[i].ID)
	}
	return due, nil
}

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic("letter: " + err.Error()) // the folder is compiled in
	}
	return db.Schema{Room: "letter", FS: sub}
}

func scan(row db.Scanner) (Letter, error) {
	var (
		l                         Letter
		link                      []byte
		to                        string
		created, expires, decided int64
	)
	if err := row.Scan(&link, &l.Account, &l.Kind, &to, &l.Domain, &l.Lang, &l.RequestedBy, &created, &l.due, &expires, &l.Outcome, &decided); err != nil {
		return Letter{}, err
	}
	copy(l.ID[:], link)
	l.RequestedAt, l.ExpiresAt, l.DecidedAt = db.Time(created), db.Time(expires), db.Time(decided)
	var err error
	l.Address, err = mail.ParseAddress(to)
	return l, err
}
