package sender

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/mail"
)

// Asked is what the link of a letter is about.
type Asked struct {
	Kind        letter.Kind // letter.Ask: Confirm and Refuse answer it; letter.Confirmed: Revoke does
	Account     id.Account
	Address     mail.Address // who was asked; also what is asked for, unless Domain is set
	Domain      mail.Domain
	Lang        string
	RequestedBy string
	RequestedAt time.Time
	ExpiresAt   time.Time      // zero: never
	State       State          // of the address or the domain, now
	Outcome     letter.Outcome // "" while the link is open
	DecidedAt   time.Time      // when Outcome came about
	RestUntil   time.Time      // until when the account may not ask again; zero: no such time
}

// Ask returns what a link is about; it changes nothing. With letter.ErrExpired,
// ErrReplaced and ErrUsed it says so as well; letter.ErrUnknownToken says nothing.
func (s *Senders) Ask(ctx context.Context, token string) (Asked, error) {
	link, err := s.deps.Letters.Genuine(token)
	if err != nil {
		return Asked{}, err
	}
	var asked Asked
	err = s.deps.DB.View(ctx, func(tx *db.Tx) error {
		l, err := s.deps.Letters.ByLink(tx, link)
		if err != nil {
			return err
		}
		if asked, err = s.asked(tx, l); err != nil {
			return err
		}
		return l.Answerable()
	})
	return asked, err
}

// Confirm answers a link with yes: the address, or the domain, is verified. It
// makes no user active (S23). A letter with a link for Revoke follows. Errors as
// for Ask; client is written to the audit log.
func (s *Senders) Confirm(ctx context.Context, token string, client netip.Addr) (Asked, error) {
	return s.answer(ctx, token, letter.OutcomeConfirmed, client)
}

// Refuse answers a link with no: the account may not ask again for 90 days.
// Errors as for Ask.
func (s *Senders) Refuse(ctx context.Context, token string, client netip.Addr) (Asked, error) {
	return s.answer(ctx, token, letter.OutcomeRefused, client)
}

// Revoke takes back what Confirm gave, by the link of the letter that followed
// it. Errors as for Ask.
func (s *Senders) Revoke(ctx context.Context, token string, client netip.Addr) (Asked, error) {
	return s.answer(ctx, token, letter.OutcomeRevoked, client)
}

func (s *Senders) answer(ctx context.Context, token string, o letter.Outcome, client netip.Addr) (Asked, error) {
	link, err := s.deps.Letters.Genuine(token)
	if err != nil {
		return Asked{}, err
	}
	// Who knocks again and again does not get at the writer.
	asked, err := s.Ask(ctx, token)
	if err != nil {
		return asked, err
	}
	err = s.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		l, err := s.deps.Letters.ByLink(tx, link)
		if err != nil {
			return err
		}
		if (o == letter.OutcomeRevoked) != (l.Kind == letter.Confirmed) {
			return letter.ErrUnknownToken
		}
		if err = l.Answerable(); err == nil {
			err = s.decide(tx, l, o, client.Unmap().String())
			l.Outcome, l.DecidedAt = o, db.Now()
		}
		var wrong error
		asked, wrong = s.asked(tx, l)
		return errors.Join(err, wrong)
	})
	return asked, err
}

// asked completes a letter by what the database says of its subject.
func (s *Senders) asked(tx *db.Tx, l letter.Letter) (Asked, error) {
	a := Asked{
		Kind: l.Kind, Account: l.Account, Address: l.Address, Domain: l.Domain, Lang: l.Lang, RequestedBy: l.RequestedBy,
		RequestedAt: l.RequestedAt, ExpiresAt: l.ExpiresAt, Outcome: l.Outcome, DecidedAt: l.DecidedAt,
	}
	var err error
	if a.RestUntil, err = s.deps.Letters.RestUntil(tx, l.Account, l.Address); err != nil {
		return a, err
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
func (s *Senders) decide(tx *db.Tx, l letter.Letter, o letter.Outcome, client string) error {
	if err := s.deps.Letters.Close(tx, l, o); err != nil {
		return err
	}
	if err := s.settleAnswer(tx, l, o); err != nil {
		if errors.Is(err, account.ErrNotFound) { // removed together with its letters: it can't be
			return letter.ErrUnknownToken
		}
		return err
	}
	subject, object := "sender.", l.Address.String()
	if l.Domain != "" {
		subject, object = "domain.", string(l.Domain)
	}
	audit := func(deed string) error {
		return event.Record(tx, event.Audit{
			Account: l.Account, Actor: "owner of " + l.Address.Display() + " from " + client, Action: subject + deed, Object: object,
		})
	}
	switch o {
	case letter.OutcomeConfirmed:
		q, by := letter.Question{To: l.Address, Domain: l.Domain}, letter.Asking{By: l.RequestedBy, Lang: l.Lang}
		return errors.Join(s.deps.Letters.Post(tx, l.Account, letter.Confirmed, q, by), audit("confirm"))
	case letter.OutcomeRefused:
		return errors.Join(s.deps.Letters.Rest(tx, l.Account, l.Address), tellOfAnswer(tx, l, o), audit("refuse"))
	case letter.OutcomeRevoked, letter.OutcomeReplaced, letter.OutcomeWithdrawn:
	}
	return errors.Join(tellOfAnswer(tx, l, o), audit("revoke"))
}

// settleAnswer moves the address or the domain to its next state.
func (s *Senders) settleAnswer(tx *db.Tx, l letter.Letter, o letter.Outcome) error {
	means := map[letter.Outcome]evidence{
		letter.OutcomeConfirmed: agreed, letter.OutcomeRefused: declined, letter.OutcomeRevoked: withdrawn,
	}[o]
	by := l.Address.Display()
	if l.Domain != "" {
		d, err := s.DomainByName(tx, l.Account, l.Domain)
		if err != nil || means == declined { // its DNS may still prove it: who answers the mail need not be who keeps the DNS
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

// answered is what a yes, or taking it back, makes of a domain.
func (d *Domain) answered(means evidence, by string) {
	d.State, d.Override = d.State.next(means), false
	d.rest()
	if means == agreed {
		d.Proof, d.VerifiedAt, d.Reason = ProofMail, db.Now(), by
	} else {
		d.Proof, d.Reason = "", "revoked by "+by
	}
}
