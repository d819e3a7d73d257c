package sender

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const maxReason = 500 // characters of the reason of an override

// AddDomain puts a prepared domain into an account, pending. ErrConflict when
// the account has it already.
func (s *Senders) AddDomain(tx *db.Tx, owner id.Account, p Prepared) (Domain, error) {
	known, err := s.find(tx, owner, p.domain.Name)
	if err != nil {
		return Domain{}, err
	}
	if known != nil {
		return *known, fmt.Errorf("%w: the account has %s already (%s): `domain records %s` shows what to publish",
			account.ErrConflict, known.Name, known.State, known.Name)
	}
	d := p.domain
	d.Account = owner
	if _, err := tx.Exec(sqlInsertDomain, d.ID, d.Account, string(d.Name), string(d.State), d.Token, db.Micros(d.CreatedAt)); err != nil {
		return Domain{}, fmt.Errorf("add domain %s: %w", d.Name, err)
	}
	for _, k := range p.keys {
		if _, err := tx.Exec(sqlInsertKey, k.id, d.Account, d.ID, string(d.Name), k.selector, k.algorithm,
			k.recordName, k.recordValue, k.sealed, db.Micros(d.CreatedAt)); err != nil {
			return Domain{}, fmt.Errorf("add key of %s: %w", d.Name, err)
		}
	}
	// Users may list the domain already, without its having been there.
	tx.OnCommit(s.snapshots.clear)
	return d, nil
}

// Domains returns the domains of an account, by name.
func (s *Senders) Domains(tx *db.Tx, owner id.Account) ([]Domain, error) {
	return db.Collect(tx, scanDomain, sqlDomains, owner)
}

// DomainByName returns a domain of an account, or ErrNotFound.
func (s *Senders) DomainByName(tx *db.Tx, owner id.Account, name mail.Domain) (Domain, error) {
	d, err := s.find(tx, owner, name)
	if err != nil {
		return Domain{}, err
	}
	if d == nil {
		return Domain{}, fmt.Errorf("domain %s %w in this account: `domain add %s` adds it", name, account.ErrNotFound, name)
	}
	return *d, nil
}

// Override takes a domain for verified on an owner's word. It wants a reason of
// 1 to 500 characters (else ErrInvalid), and writes actor and reason to the audit log.
func (s *Senders) Override(tx *db.Tx, owner id.Account, name mail.Domain, actor, reason string) (Domain, error) {
	reason = strings.TrimSpace(reason)
	if n := utf8.RuneCountInString(reason); n == 0 || n > maxReason || strings.ContainsFunc(reason, unicode.IsControl) {
		return Domain{}, fmt.Errorf("%w reason: an override wants one, of at most %d characters on one line", account.ErrInvalid, maxReason)
	}
	d, err := s.DomainByName(tx, owner, name)
	if err != nil {
		return Domain{}, err
	}
	if d.State != StateVerified || d.Override {
		d.Override, d.Reason = true, reason
	}
	if d.State != StateVerified {
		d.VerifiedAt = db.Now()
	}
	d.State = d.State.next(overridden)
	if err := s.update(tx, d); err != nil {
		return Domain{}, err
	}
	err = event.Record(tx, event.Audit{
		Account: d.Account, Actor: actor, Action: "domain override", Object: string(d.Name), Reason: reason,
	})
	return d, err
}

// update writes what may change of a domain. Any number of users may list it.
func (s *Senders) update(tx *db.Tx, d Domain) error {
	if _, err := tx.Exec(sqlUpdateDomain, d.ID, string(d.State), d.Override, d.Reason, d.LastError,
		db.Micros(d.VerifiedAt), db.Micros(d.CheckedAt)); err != nil {
		return fmt.Errorf("update domain %s: %w", d.Name, err)
	}
	tx.OnCommit(s.snapshots.clear)
	return nil
}

// find returns a domain of an account, nil when it has none of that name.
func (s *Senders) find(tx *db.Tx, owner id.Account, name mail.Domain) (*Domain, error) {
	d, err := scanDomain(tx.Row(sqlDomainByName, owner, string(name)))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for domain %s: %w", name, err)
	}
	return &d, nil
}

func scanDomain(row db.Scanner) (Domain, error) {
	var (
		d                          Domain
		created, verified, checked int64
	)
	err := row.Scan(&d.ID, &d.Account, &d.Name, &d.State, &d.Token, &d.Override, &d.Reason, &d.LastError, &created, &verified, &checked)
	d.CreatedAt, d.VerifiedAt, d.CheckedAt = db.Time(created), db.Time(verified), db.Time(checked)
	return d, err
}
