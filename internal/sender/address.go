package sender

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/mail"
)

// Address is a sender address of an account.
type Address struct {
	ID         id.Sender    `json:"id"`
	Account    id.Account   `json:"account"`
	Address    mail.Address `json:"address"`
	State      State        `json:"state"`
	Through    mail.Domain  `json:"through,omitempty"`    // the verified domain that vouches for it; empty when none does
	DecidedBy  string       `json:"decided_by,omitempty"` // who verified, declined or revoked it
	Reason     string       `json:"reason,omitempty"`     // of a revocation
	CreatedAt  time.Time    `json:"created_at"`
	VerifiedAt time.Time    `json:"verified_at,omitzero"`
	AskedAt    time.Time    `json:"asked_at,omitzero"`   // when the last letter that asks left; zero: not yet
	ExpiresAt  time.Time    `json:"expires_at,omitzero"` // until when its link can be answered
	RestUntil  time.Time    `json:"rest_until,omitzero"` // its owner wants no letters of this account until then
	asked      bool         // a letter waits to be sent or answered
}

// Addresses returns the addresses of an account, by text.
func (s *Senders) Addresses(tx *db.Tx, owner id.Account) ([]Address, error) {
	all, err := db.Collect(tx, scanAddress, sqlAddresses, owner)
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	domains, err := s.Domains(tx, owner)
	if err != nil {
		return nil, err
	}
	verified := map[mail.Domain]bool{}
	for _, d := range domains {
		verified[d.Name] = d.State == StateVerified
	}
	standings, err := s.deps.Letters.Standings(tx, owner, "")
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].stand(standings)
		if d := all[i].Address.Domain(); verified[d] {
			all[i].State, all[i].Through = StateVerified, d
		}
	}
	return all, nil
}

// AddressOf returns one address of an account, or ErrNotFound.
func (s *Senders) AddressOf(tx *db.Tx, owner id.Account, a mail.Address) (Address, error) {
	found, err := s.ownAddress(tx, owner, a)
	if err != nil {
		return Address{}, err
	}
	standings, err := s.deps.Letters.Standings(tx, owner, a.Key())
	if err != nil {
		return Address{}, err
	}
	found.stand(standings)
	if d, err := s.find(tx, owner, a.Domain()); err != nil {
		return Address{}, err
	} else if d != nil && d.State == StateVerified {
		found.State, found.Through = StateVerified, d.Name
	}
	return found, nil
}

// stand notes how far the asking has come.
func (a *Address) stand(standings map[string]letter.Standing) {
	s := standings[a.Address.Key()]
	a.AskedAt, a.ExpiresAt, a.RestUntil, a.asked = s.AskedAt, s.ExpiresAt, s.RestUntil, s.Open
}

// ownAddress is AddressOf without letters, and without what a domain vouches for.
func (s *Senders) ownAddress(tx *db.Tx, owner id.Account, a mail.Address) (Address, error) {
	found, err := scanAddress(tx.Row(sqlAddress, owner, a.Key()))
	if errors.Is(err, sql.ErrNoRows) {
		return Address{}, fmt.Errorf("address %s %w in this account: `sender add %s` adds it", a.Display(), account.ErrNotFound, a)
	}
	if err != nil {
		return Address{}, fmt.Errorf("look for address %s: %w", a, err)
	}
	return found, nil
}

// AddAddress gives an account an address. Unless a verified domain vouches for
// it, its owner is asked by a letter, if that may be sent now; otherwise Resend
// tells when it may. An address that is there already is asked again in the same
// way unless it is verified, or a letter is on its way.
func (s *Senders) AddAddress(tx *db.Tx, owner id.Account, a mail.Address, by letter.Asking) (Address, error) {
	if _, err := tx.Exec(sqlInsertAddress, id.New[id.Sender](), owner, a.Key(), a.String(), string(StatePending), db.Micros(db.Now())); err != nil {
		return Address{}, fmt.Errorf("add address %s: %w", a, err)
	}
	tx.OnCommit(s.snapshots.Clear) // users may list it already
	found, err := s.AddressOf(tx, owner, a)
	if err != nil || found.State != StatePending {
		return found, err
	}
	var wait *letter.WaitError
	if !found.asked {
		if err = s.deps.Letters.Ask(tx, owner, letter.Question{To: a}, by); errors.As(err, &wait) {
			err = nil
		}
	}
	return found, err
}

// Resend asks the owner of an address again; the link of the letter before is
// void then. *letter.WaitError when no letter may be sent now, ErrConflict when the
// address is verified, ErrNotFound when the account has it not.
func (s *Senders) Resend(tx *db.Tx, owner id.Account, a mail.Address, by letter.Asking) error {
	found, err := s.AddressOf(tx, owner, a)
	if err != nil {
		return err
	}
	switch {
	case found.Through != "":
		return fmt.Errorf("%w: %s is verified through its domain", account.ErrConflict, a.Display())
	case found.State == StateVerified:
		return fmt.Errorf("%w: %s is verified already", account.ErrConflict, a.Display())
	}
	return s.deps.Letters.Ask(tx, owner, letter.Question{To: a}, by)
}

// RevokeAddress takes the verification of an address away; a verified domain
// still vouches for it. It wants a reason of 1 to 500 characters (else
// ErrInvalid), and writes actor and reason to the audit log.
func (s *Senders) RevokeAddress(tx *db.Tx, owner id.Account, a mail.Address, actor, reason string) (Address, error) {
	reason, err := checkReason("a revocation", reason)
	if err != nil {
		return Address{}, err
	}
	found, err := s.ownAddress(tx, owner, a)
	if err != nil {
		return Address{}, err
	}
	found.DecidedBy, found.Reason, found.State = actor, reason, found.State.next(withdrawn)
	if err := s.updateAddress(tx, found); err != nil {
		return Address{}, err
	}
	if err := s.deps.Letters.WithdrawAddress(tx, owner, a); err != nil {
		return Address{}, err
	}
	err = event.Record(tx, event.Audit{Account: owner, Actor: actor, Action: "sender.revoke", Object: found.Address.String(), Reason: reason})
	return found, err
}

// RemoveAddress takes an address out of an account, and out of what its users
// may send from. It is written to the audit log. ErrNotFound when the account has
// it not.
func (s *Senders) RemoveAddress(tx *db.Tx, owner id.Account, a mail.Address, actor string) error {
	found, err := s.ownAddress(tx, owner, a)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(sqlDeleteAddress, found.ID); err != nil {
		return fmt.Errorf("remove address %s: %w", a, err)
	}
	if _, err := tx.Exec(sqlDeleteAddressEntries, owner, string(a.Domain()), a.Key()); err != nil {
		return fmt.Errorf("remove address %s from users: %w", a, err)
	}
	if err := s.deps.Letters.WithdrawAddress(tx, owner, a); err != nil {
		return err
	}
	tx.OnCommit(s.snapshots.Clear)
	return event.Record(tx, event.Audit{Account: owner, Actor: actor, Action: "sender.rm", Object: found.Address.String()})
}

// updateAddress writes what may change of an address. Any number of users may list it.
func (s *Senders) updateAddress(tx *db.Tx, a Address) error {
	if _, err := tx.Exec(sqlUpdateAddress, a.ID, string(a.State), db.Micros(a.VerifiedAt), a.DecidedBy, a.Reason); err != nil {
		return fmt.Errorf("update address %s: %w", a.Address, err)
	}
	tx.OnCommit(s.snapshots.Clear)
	return nil
}

func scanAddress(row db.Scanner) (Address, error) {
	var (
		a                 Address
		text              string
		created, verified int64
	)
	if err := row.Scan(&a.ID, &a.Account, &text, &a.State, &created, &verified, &a.DecidedBy, &a.Reason); err != nil {
		return Address{}, err
	}
	a.CreatedAt, a.VerifiedAt = db.Time(created), db.Time(verified)
	var err error
	a.Address, err = mail.ParseAddress(text)
	return a, err
}
