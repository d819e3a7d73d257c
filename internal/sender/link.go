package sender

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
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

// Asked is what a link is about.
type Asked struct {
	Kind        LetterKind // LetterAsk: Confirm and Refuse answer it; LetterConfirmed: Revoke does
	Account     id.Account
	Address     mail.Address // who was asked; also what is asked for, unless Domain is set
	Domain      mail.Domain
	Lang        string
	RequestedBy string
	RequestedAt time.Time
	ExpiresAt   time.Time // zero: never
	State       State     // of the address or the domain, now
	Outcome     Outcome   // "" while the link is open
	DecidedAt   time.Time // when Outcome came about
	RestUntil   time.Time // until when the account may not ask again; zero: no such time
}

// Ask returns what a link is about; it changes nothing. With ErrExpired,
// ErrReplaced and ErrUsed it says so as well; ErrUnknownToken says nothing.
func (s *Senders) Ask(ctx context.Context, token string) (Asked, error) {
	link, err := s.links.open(token)
	if err != nil {
		return Asked{}, err
	}
	var asked Asked
	err = s.deps.DB.View(ctx, func(tx *db.Tx) error {
		l, err := s.letter(tx, link)
		if err != nil {
			return err
		}
		if asked, err = s.asked(tx, l); err != nil {
			return err
		}
		return l.open()
	})
	return asked, err
}

// Confirm answers a link with yes: the address, or the domain, is verified. It
// makes no user active (S23). A letter with a link for Revoke follows. Errors as
// for Ask; client is written to the audit log.
func (s *Senders) Confirm(ctx context.Context, token string, client netip.Addr) (Asked, error) {
	return s.answer(ctx, token, OutcomeConfirmed, client)
}

// Refuse answers a link with no: the account may not ask again for 90 days.
// Errors as for Ask.
func (s *Senders) Refuse(ctx context.Context, token string, client netip.Addr) (Asked, error) {
	return s.answer(ctx, token, OutcomeRefused, client)
}

// Revoke takes back what Confirm gave, by the link of the letter that followed
// it. Errors as for Ask.
func (s *Senders) Revoke(ctx context.Context, token string, client netip.Addr) (Asked, error) {
	return s.answer(ctx, token, OutcomeRevoked, client)
}

func (s *Senders) answer(ctx context.Context, token string, o Outcome, client netip.Addr) (Asked, error) {
	link, err := s.links.open(token)
	if err != nil {
		return Asked{}, err
	}
	// Who knocks again and again does not get at the writer.
	asked, err := s.Ask(ctx, token)
	if err != nil {
		return asked, err
	}
	err = s.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		l, err := s.letter(tx, link)
		if err != nil {
			return err
		}
		if (o == OutcomeRevoked) != (l.Kind == LetterConfirmed) {
			return ErrUnknownToken
		}
		if err = l.open(); err == nil {
			err = s.decide(tx, l, o, client.Unmap().String())
			l.outcome, l.decidedAt = o, db.Now()
		}
		var wrong error
		asked, wrong = s.asked(tx, l)
		return errors.Join(err, wrong)
	})
	return asked, err
}

// open returns nil when the link can be answered.
func (l letter) open() error {
	switch {
	case l.outcome == OutcomeWithdrawn || l.due: // the token of a letter that was not sent is nobody's
		return ErrUnknownToken
	case l.outcome == OutcomeReplaced:
		return ErrReplaced
	case l.outcome != "":
		return ErrUsed
	case !l.ExpiresAt.IsZero() && !db.Now().Before(l.ExpiresAt):
		return ErrExpired
	}
	return nil
}

// letter returns the letter of a link, or ErrUnknownToken.
func (s *Senders) letter(tx *db.Tx, link LinkID) (letter, error) {
	l, err := scanLetter(tx.Row(sqlLetter, link[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return letter{}, ErrUnknownToken
	}
	if err == nil && (l.outcome == OutcomeWithdrawn || l.due) {
		return letter{}, ErrUnknownToken
	}
	return l, err
}

// asked completes a letter by what the database says of its subject.
func (s *Senders) asked(tx *db.Tx, l letter) (Asked, error) {
	a := Asked{
		Kind: l.Kind, Account: l.Account, Address: l.Address, Domain: l.Domain, Lang: l.Lang, RequestedBy: l.RequestedBy,
		RequestedAt: l.RequestedAt, ExpiresAt: l.ExpiresAt, Outcome: l.outcome, DecidedAt: l.decidedAt,
	}
	var until int64
	switch err := tx.Row(sqlRefusal, l.Account, l.Address.Key()).Scan(&until); {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return a, fmt.Errorf("refusals of %s: %w", l.Address, err)
	case err == nil && db.Time(until).After(db.Now()):
		a.RestUntil = db.Time(until)
	}
	if l.Domain != "" {
		d, err := s.find(tx, l.Account, l.Domain)
		if d != nil {
			a.State = d.State
		}
		return a, err
	}
	found, err := s.AddressOf(tx, l.Account, l.Address)
	if errors.Is(err, account.ErrNotFound) {
		return a, nil
	}
	a.State = found.State
	return a, err
}

// decide does what the owner of an address wants.
func (s *Senders) decide(tx *db.Tx, l letter, o Outcome, client string) error {
	if _, err := tx.Exec(sqlCloseLetter, l.ID[:], string(o), db.Micros(db.Now())); err != nil {
		return fmt.Errorf("close link: %w", err)
	}
	if err := s.settleAnswer(tx, l, o); err != nil {
		if errors.Is(err, account.ErrNotFound) { // removed together with its letters: it can't be
			return ErrUnknownToken
		}
		return err
	}
	subject := "sender."
	if l.Domain != "" {
		subject = "domain."
	}
	switch o {
	case OutcomeConfirmed:
		err := s.post(tx, l.Account, LetterConfirmed, question{l.Address, l.Domain}, Asking{By: l.RequestedBy, Lang: l.Lang})
		return errors.Join(err, l.audit(tx, subject+"confirm", client))
	case OutcomeRefused:
		until := db.Micros(db.Now().Add(RestAfterNo))
		if _, err := tx.Exec(sqlSetRefusal, l.Account, l.Address.Key(), until); err != nil {
			return fmt.Errorf("note refusal: %w", err)
		}
		return errors.Join(tellOfAnswer(tx, l, o), l.audit(tx, subject+"refuse", client))
	case OutcomeRevoked, OutcomeReplaced, OutcomeWithdrawn:
	}
	return errors.Join(tellOfAnswer(tx, l, o), l.audit(tx, subject+"revoke", client))
}

// settleAnswer moves the address or the domain to its next state.
func (s *Senders) settleAnswer(tx *db.Tx, l letter, o Outcome) error {
	means := map[Outcome]evidence{OutcomeConfirmed: agreed, OutcomeRefused: declined, OutcomeRevoked: withdrawn}[o]
	by := l.Address.Display()
	if l.Domain != "" {
		d, err := s.DomainByName(tx, l.Account, l.Domain)
		if err != nil || means == declined && d.State != StatePending {
			return err
		}
		d.answered(means, by)
		return s.update(tx, d)
	}
	a, err := s.ownAddress(tx, l.Account, l.Address)
	if err != nil {
		return err
	}
	a.State, a.DecidedBy, a.Reason = a.State.next(means), by, ""
	if means == agreed {
		a.VerifiedAt = db.Now()
	}
	return s.updateAddress(tx, a)
}

// answered is what an answer to a letter makes of a domain.
func (d *Domain) answered(means evidence, by string) {
	d.State = d.State.next(means)
	switch means {
	case agreed:
		d.Proof, d.Override, d.VerifiedAt, d.Reason = ProofMail, false, db.Now(), by
		d.rest()
	case withdrawn:
		d.Proof, d.Override, d.Reason = "", false, "revoked by "+by
		d.rest()
	case declined: // its DNS may still prove it: who answers the mail need not be who keeps the DNS
		d.State = StatePending
	case found, overridden, absent, unknown, givenUp, refuted:
	}
}

// randomText returns n lower-case letters and digits, 5 random bits each.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: the program ends when the system has no randomness
	return strings.ToLower(base32.HexEncoding.EncodeToString(b))[:n]
}
