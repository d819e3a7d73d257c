package sender

import (
	"context"
	"fmt"
	"slices"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/mail"
)

// maxNewDomains bounds the keys that one request has made: each takes some 100 ms.
const maxNewDomains = 100

// Request is a list of entries that can be given to a user: the domains that
// the account has not yet come with keys.
type Request struct {
	Asking letter.Asking // who wants it, for the letters that ask the owners of addresses
	wanted []Wanted
	fresh  map[mail.Domain]Prepared
}

// Entry is what a user may send from, and how far that has come.
type Entry struct {
	Kind    Kind        `json:"kind"`
	Text    string      `json:"text"`
	State   State       `json:"state"`
	Through mail.Domain `json:"through,omitempty"` // the verified domain that vouches for it, and can sign; empty when none does
	domain  mail.Domain
	key     string // mail.Address.Key of an address
}

// Prepare makes keys for those domains among the entries that the account has
// not yet; it is done before the transaction of Authorise. ErrInvalid for more
// than 100 of them at once.
func (s *Senders) Prepare(ctx context.Context, owner id.Account, wanted []Wanted) (*Request, error) {
	known := map[mail.Domain]bool{}
	err := s.deps.DB.View(ctx, func(tx *db.Tx) error {
		domains, err := s.Domains(tx, owner)
		for _, d := range domains {
			known[d.Name] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("prepare entries: %w", err)
	}
	r := &Request{wanted: wanted, fresh: map[mail.Domain]Prepared{}}
	for _, w := range wanted {
		if w.Kind == KindAddress || known[w.Domain] {
			continue
		}
		known[w.Domain] = true
		if len(r.fresh) == maxNewDomains {
			return nil, fmt.Errorf("%w list: more than %d domains in it are new: add them in smaller parts", account.ErrInvalid, maxNewDomains)
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("prepare entries: %w", err)
		}
		if r.fresh[w.Domain], err = s.prepare(w.Domain); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Warnings returns what the typist of the entries should look at again.
func (r *Request) Warnings() []string {
	var all []string
	for _, w := range r.wanted {
		if w.Warning != "" {
			all = append(all, w.Warning)
		}
	}
	return all
}

// Authorise gives a user the entries of a request; those it has already stay.
// Domains and addresses that are new to the account become pending ones of it.
// ErrInvalid when the user would have more than 1,000 entries.
func (s *Senders) Authorise(tx *db.Tx, user account.User, r *Request) error {
	at := db.Micros(db.Now())
	for _, w := range r.wanted {
		if err := s.ensure(tx, user.Account, w, r); err != nil {
			return err
		}
		if _, err := tx.Exec(sqlInsertEntry, user.ID, user.Account, string(w.Kind), string(w.Domain), w.key(), w.String(), at); err != nil {
			return fmt.Errorf("authorise %s for %s: %w", w, user.Name, err)
		}
	}
	var n int
	if err := tx.Row(sqlCountEntries, user.ID).Scan(&n); err != nil {
		return fmt.Errorf("count entries of %s: %w", user.Name, err)
	}
	if n > maxEntries {
		return fmt.Errorf("%w: %s would have %d entries, and may have %d: a wildcard may stand for many", account.ErrInvalid, user.Name, n, maxEntries)
	}
	tx.OnCommit(func() { s.snapshots.Drop(user.ID) })
	return nil
}

// ensure makes the account have the domain or the address of an entry.
func (s *Senders) ensure(tx *db.Tx, owner id.Account, w Wanted, r *Request) error {
	if w.Kind == KindAddress {
		_, err := s.AddAddress(tx, owner, w.Address, r.Asking)
		return err
	}
	known, err := s.find(tx, owner, w.Domain)
	if err != nil || known != nil {
		return err
	}
	prepared, ok := r.fresh[w.Domain]
	if !ok {
		return fmt.Errorf("%w: the domains of the account have changed meanwhile: try again", account.ErrConflict)
	}
	_, err = s.AddDomain(tx, owner, prepared)
	return err
}

// Deauthorise takes entries from a user; domains and addresses stay in the
// account. ErrNotFound when the user has not one of them.
func (s *Senders) Deauthorise(tx *db.Tx, user account.User, entries []Wanted) error {
	for _, w := range entries {
		n, err := tx.Exec(sqlDeleteEntry, user.ID, string(w.Kind), string(w.Domain), w.key())
		if err != nil {
			return fmt.Errorf("remove %s from %s: %w", w, user.Name, err)
		}
		if n == 0 {
			return fmt.Errorf("%s among the senders of %s %w: `user show %s` shows them", w, user.Name, account.ErrNotFound, user.Name)
		}
	}
	tx.OnCommit(func() { s.snapshots.Drop(user.ID) })
	return nil
}

// Entries returns what a user may send from, domains first.
func (s *Senders) Entries(tx *db.Tx, user id.User) ([]Entry, error) {
	entries, err := db.Collect(tx, scanEntry, sqlEntries, user)
	if err != nil {
		return nil, fmt.Errorf("entries of %s: %w", user, err)
	}
	return entries, nil
}

// Effective reports whether a user has a verified entry, without which it may
// not be activated, and can send nothing when it is active (S13).
func (s *Senders) Effective(tx *db.Tx, user id.User) (bool, error) {
	entries, err := s.Entries(tx, user)
	return slices.ContainsFunc(entries, func(e Entry) bool { return e.State == StateVerified }), err
}

func scanEntry(row db.Scanner) (Entry, error) {
	var (
		e                   Entry
		viaDomain, viaProof State
	)
	if err := row.Scan(&e.Kind, &e.domain, &e.key, &e.Text, &viaDomain, &viaProof); err != nil {
		return Entry{}, err
	}
	e.State = viaDomain
	switch {
	case viaDomain == StateVerified:
		e.Through = e.domain // S22: an address needs no proof of its own
	case e.Kind == KindAddress:
		e.State = viaProof
	}
	if e.State == "" {
		e.State = StatePending
	}
	return e, nil
}
