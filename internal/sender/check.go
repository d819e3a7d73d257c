package sender

import (
	"context"
	"fmt"
	"strings"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// maxSnapshots bounds the entries of users kept in memory, in sum; one takes some 200 octets.
const maxSnapshots = 100_000

// Verdict says whether a user may send from an address.
type Verdict int

// The verdicts, from worst to best.
const (
	NotAuthorised Verdict = iota // nothing that the user lists covers the address
	Pending                      // something does, but is not verified
	Authorised
)

// String returns the verdict as metrics and logs show it.
func (v Verdict) String() string {
	switch v {
	case Authorised:
		return "authorised"
	case Pending:
		return "pending"
	case NotAuthorised:
	}
	return "not_authorised"
}

// Grant says what a verdict rests on.
type Grant struct {
	Entry         string      // the entry that covers the address; empty for NotAuthorised
	Kind          Kind        // of that entry
	State         State       // of that entry: for Pending what it waits for, or that it was refused or revoked
	SigningDomain mail.Domain // whose keys sign: the hostname's when an address alone is verified; empty when nobody's do
}

// snapshot is what a user may send from, ready to be looked up.
type snapshot struct {
	domains, wildcards map[mail.Domain]Entry
	addresses          map[string]Entry
}

// Check judges an address for a user by requirement S20: it must be listed, or
// its domain, or a wildcard above its domain; and what lists it must be
// verified. The most exact verified entry decides who signs. A domain that the
// account has verified authorises nobody who does not list it. Own changes
// count at once, those of other processes as soon as Invalidate is called.
func (s *Senders) Check(ctx context.Context, user id.User, a mail.Address) (Verdict, Grant, error) {
	sees, err := s.snapshot(ctx, user)
	if err != nil {
		s.metrics.checks.WithLabelValues("error").Inc()
		return NotAuthorised, Grant{}, err
	}
	verdict, grant := sees.judge(a, s.deps.Signer.Host())
	s.metrics.checks.WithLabelValues(verdict.String()).Inc()
	return verdict, grant, nil
}

func (s *Senders) snapshot(ctx context.Context, user id.User) (*snapshot, error) {
	sees, generation, known := s.snapshots.Get(user)
	if known {
		return sees, nil
	}
	var entries []Entry
	err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		entries, err = s.Entries(tx, user)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load senders: %w", err)
	}
	sees = newSnapshot(entries)
	s.snapshots.Put(user, sees, 1+len(entries), generation)
	return sees, nil
}

func newSnapshot(entries []Entry) *snapshot {
	s := &snapshot{domains: map[mail.Domain]Entry{}, wildcards: map[mail.Domain]Entry{}, addresses: map[string]Entry{}}
	for _, e := range entries {
		switch e.Kind {
		case KindDomain:
			s.domains[e.domain] = e
		case KindWildcard:
			s.wildcards[e.domain] = e
		case KindAddress:
			s.addresses[e.key] = e
		}
	}
	return s
}

// judge returns the best verdict of the entries that cover a: authorised by the
// most exact one whose domain can sign, or by any that is verified. Of those
// that are not, one that waits says more than one that was taken away.
func (s *snapshot) judge(a mail.Address, host mail.Domain) (Verdict, Grant) {
	verdict, grant := NotAuthorised, Grant{}
	for _, e := range s.covering(a) {
		rests := Grant{Entry: e.Text, Kind: e.Kind, State: e.State, SigningDomain: e.Through}
		switch {
		case e.State == StateVerified && e.Through != "":
			return Authorised, rests
		case e.State == StateVerified && verdict != Authorised:
			rests.SigningDomain = host
			verdict, grant = Authorised, rests
		case verdict == NotAuthorised, verdict == Pending && grant.State != StatePending && e.State == StatePending:
			verdict, grant = Pending, rests
		}
	}
	return verdict, grant
}

// covering returns the entries that cover a, the most exact first. Domains are
// compared as A-labels in lower case, by mail.Domain; local-parts by mail.Address.Key.
func (s *snapshot) covering(a mail.Address) []Entry {
	if a.IsZero() {
		return nil
	}
	var all []Entry
	if e, ok := s.domains[a.Domain()]; ok {
		all = append(all, e)
	}
	if e, ok := s.addresses[a.Key()]; ok {
		all = append(all, e)
	}
	if len(s.wildcards) == 0 {
		return all
	}
	for _, above, ok := strings.Cut(string(a.Domain()), "."); ok; _, above, ok = strings.Cut(above, ".") {
		if e, listed := s.wildcards[mail.Domain(above)]; listed {
			all = append(all, e)
		}
	}
	return all
}
