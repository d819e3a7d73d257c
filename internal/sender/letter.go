package sender

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const (
	// LinkLife is how long the link of a letter that asks can be answered, from
	// the moment it is sent.
	LinkLife = 48 * time.Hour
	// RestAfterNo is how long an owner who declined gets no letter of that account.
	RestAfterNo = 90 * 24 * time.Hour

	askGap    = time.Minute    // between two letters of an account to one address
	askDay    = 24 * time.Hour // in which there are
	askPerDay = 5              // at most
)

// LetterKind says what a letter is for.
type LetterKind string

// The kinds of letters. The link of the first confirms or declines, that of the
// second revokes.
const (
	LetterAsk       LetterKind = "ask"       // asks the owner of an address, or of a domain
	LetterConfirmed LetterKind = "confirmed" // tells who agreed how to take that back
)

// Letter is a mail to the owner of an address, to be composed and sent by
// another room.
type Letter struct {
	ID          LinkID
	Kind        LetterKind
	Account     id.Account
	Address     mail.Address // whom it goes to; also what it asks for, unless Domain is set
	Domain      mail.Domain  // what it asks for as a whole: Address is the domain's postmaster, hostmaster or admin
	Token       string       // of its link, 40 lower-case letters and digits
	Lang        string       // "it", "en", or "" when nobody said
	RequestedBy string       // as Asking says
	RequestedAt time.Time
	ExpiresAt   time.Time // of the link; zero: it does not expire
}

// Asking says who wants an address or a domain verified; the letter shows it.
type Asking struct {
	By   string // a person's name, address, or the operator's name
	Lang string // of the letter: "it" or "en"
}

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

// WaitError says that no letter may be sent to an address now. It wraps account.ErrConflict.
type WaitError struct {
	Address mail.Address
	Until   time.Time
	Refused bool // by its owner; otherwise there were too many letters
}

// Error says until when, and why.
func (e *WaitError) Error() string {
	until := e.Until.UTC().Format("2006-01-02 15:04 UTC")
	if e.Refused {
		return fmt.Sprintf("the owner of %s has refused: no mail may ask again before %s", e.Address.Display(), until)
	}
	return fmt.Sprintf("%s was asked a short time ago (at most %d times a day, a minute apart): not again before %s", e.Address.Display(), askPerDay, until)
}

// Unwrap returns account.ErrConflict.
func (e *WaitError) Unwrap() error { return account.ErrConflict }

// question is what a letter asks, and whom.
type question struct {
	to     mail.Address
	domain mail.Domain // "": for the address itself
}

// OnLetter has do called after a transaction that left a letter to be sent. do
// must not wait for the database. Register before letters are asked for.
func (s *Senders) OnLetter(do func()) { s.onLetter = append(s.onLetter, do) }

// DueLetters returns letters that are to be sent, the oldest first, at most
// limit. The link of each can be answered for 48 hours from now.
func (s *Senders) DueLetters(tx *db.Tx, limit int) ([]Letter, error) {
	rows, err := db.Collect(tx, scanLetter, sqlDueLetters, limit)
	if err != nil {
		return nil, fmt.Errorf("letters that are due: %w", err)
	}
	letters := make([]Letter, 0, len(rows))
	for _, l := range rows {
		if l.Kind == LetterAsk {
			l.ExpiresAt = db.Now().Add(LinkLife)
		}
		l.Token = s.links.token(l.ID)
		letters = append(letters, l.Letter)
	}
	return letters, nil
}

// LetterSent notes that a letter of DueLetters is on its way, in the transaction
// that puts it there. ErrConflict when it is not to be sent any more.
func (s *Senders) LetterSent(tx *db.Tx, l Letter) error {
	n, err := tx.Exec(sqlLetterSent, l.ID[:], db.Micros(db.Now()), db.Micros(l.ExpiresAt))
	if err != nil {
		return fmt.Errorf("note letter: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("%w: the letter to %s is not to be sent any more", account.ErrConflict, l.Address.Display())
	}
	return nil
}

// The mailboxes of a domain that may speak for it (RFC 2142 §5, §7).
func speakers() []string { return []string{"postmaster", "hostmaster", "admin"} }

// AskByMail asks somebody at the domain, whose local-part is postmaster,
// hostmaster or admin (else ErrInvalid), whether the account may send from all
// of it. *WaitError when no letter may be sent now, ErrConflict when the domain
// is verified, ErrNotFound when the account has it not.
func (s *Senders) AskByMail(tx *db.Tx, owner id.Account, domain mail.Domain, local string, by Asking) error {
	if !slices.Contains(speakers(), local) {
		return fmt.Errorf("%w mailbox %q: postmaster, hostmaster and admin speak for a domain", account.ErrInvalid, local)
	}
	d, err := s.DomainByName(tx, owner, domain)
	if err != nil {
		return err
	}
	if d.State == StateVerified {
		return fmt.Errorf("%w: %s is verified already", account.ErrConflict, domain)
	}
	to, err := mail.ParseAddress(local + "@" + string(domain))
	if err != nil {
		return fmt.Errorf("%w: %w", account.ErrInvalid, err)
	}
	return s.ask(tx, owner, question{to, domain}, by)
}

// ask has a letter sent, instead of those before it that asked the same.
func (s *Senders) ask(tx *db.Tx, owner id.Account, q question, by Asking) error {
	if err := s.mayAsk(tx, owner, q.to); err != nil {
		return err
	}
	if _, err := tx.Exec(sqlReplaceAsks, owner, q.to.Key(), string(q.domain), db.Micros(db.Now())); err != nil {
		return fmt.Errorf("replace letters to %s: %w", q.to, err)
	}
	return s.post(tx, owner, LetterAsk, q, by)
}

// mayAsk returns a *WaitError when the owner of an address must be left alone.
func (s *Senders) mayAsk(tx *db.Tx, owner id.Account, a mail.Address) error {
	now := db.Now()
	var until int64
	err := tx.Row(sqlRefusal, owner, a.Key()).Scan(&until)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("refusals of %s: %w", a, err)
	case err == nil && db.Time(until).After(now):
		return &WaitError{Address: a, Until: db.Time(until), Refused: true}
	}
	asked, err := db.Collect(tx, scanMicros, sqlAsked, owner, a.Key(), db.Micros(now.Add(-askDay)), askPerDay)
	if err != nil {
		return fmt.Errorf("letters to %s: %w", a, err)
	}
	var wait time.Time
	if len(asked) > 0 {
		wait = asked[0].Add(askGap)
	}
	if len(asked) == askPerDay {
		if next := asked[len(asked)-1].Add(askDay); next.After(wait) {
			wait = next
		}
	}
	if wait.After(now) {
		return &WaitError{Address: a, Until: wait}
	}
	return nil
}

// post puts a letter where DueLetters finds it.
func (s *Senders) post(tx *db.Tx, owner id.Account, kind LetterKind, q question, by Asking) error {
	var link LinkID
	_, _ = rand.Read(link[:]) // never fails: the program ends when the system has no randomness
	if _, err := tx.Exec(sqlInsertLetter, link[:], owner, string(kind), q.to.Key(), q.to.String(), string(q.domain),
		by.Lang, by.By, db.Micros(db.Now())); err != nil {
		return fmt.Errorf("letter to %s: %w", q.to, err)
	}
	tx.OnCommit(func() {
		for _, do := range s.onLetter {
			do()
		}
	})
	return nil
}

// vouched withdraws letters that need not be sent, as the domain of whom they
// would ask has been verified.
func (s *Senders) vouched(tx *db.Tx, d Domain) error {
	due, err := db.Collect(tx, scanLetter, sqlDueAsks, d.Account)
	if err != nil {
		return fmt.Errorf("letters that are due: %w", err)
	}
	for _, l := range due {
		if l.Address.Domain() == d.Name {
			if _, err := tx.Exec(sqlCloseLetter, l.ID[:], string(OutcomeWithdrawn), db.Micros(db.Now())); err != nil {
				return fmt.Errorf("withdraw letter to %s: %w", l.Address, err)
			}
		}
	}
	return nil
}

// letter is a row of sender_letter.
type letter struct {
	Letter
	due       bool
	outcome   Outcome
	decidedAt time.Time
}

func scanLetter(row db.Scanner) (letter, error) {
	var (
		l                         letter
		link                      []byte
		to                        string
		created, expires, decided int64
	)
	if err := row.Scan(&link, &l.Account, &l.Kind, &to, &l.Domain, &l.Lang, &l.RequestedBy, &created, &l.due, &expires, &l.outcome, &decided); err != nil {
		return letter{}, err
	}
	copy(l.ID[:], link)
	l.RequestedAt, l.ExpiresAt, l.decidedAt = db.Time(created), db.Time(expires), db.Time(decided)
	var err error
	l.Address, err = mail.ParseAddress(to)
	return l, err
}

func scanMicros(row db.Scanner) (time.Time, error) {
	var at int64
	err := row.Scan(&at)
	return db.Time(at), err
}

// audit writes what the owner of an address did.
func (l letter) audit(tx *db.Tx, action, client string) error {
	object := l.Address.String()
	if l.Domain != "" {
		object = string(l.Domain)
	}
	return event.Record(tx, event.Audit{
		Account: l.Account, Actor: "owner of " + l.Address.Display() + " from " + client, Action: action, Object: object,
	})
}
