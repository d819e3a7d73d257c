package signer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/dns"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const (
	checkTimeout = 20 * time.Second // for all records of a domain together
	maxKeys      = 20               // of a domain; rotating more often than they can be revoked has an end
	// OnTheWay is how long mail that a key signed may still have to be verified:
	// relays keep trying for five days or so (RFC 5321 §4.5.4.1).
	OnTheWay = 7 * 24 * time.Hour
)

// Errors of rotating. They wrap account.ErrConflict.
var (
	ErrRotating    = fmt.Errorf("%w: a rotation is under way: `domain key rotate` goes on with it", account.ErrConflict)
	ErrNotRotating = fmt.Errorf("%w: no rotation is under way: start one first", account.ErrConflict)
	ErrUnpublished = fmt.Errorf("%w: the new keys are not in the DNS yet, and verifiers would refuse what they sign", account.ErrConflict)
	ErrTooEarly    = fmt.Errorf("%w: mail that the retired keys signed may still be on its way for %d days", account.ErrConflict, OnTheWay/(24*time.Hour))
)

// Order says who has a step done, for the audit log.
type Order struct {
	Actor  string
	Reason string
	Force  bool // do it against the advice of ErrUnpublished or ErrTooEarly
}

// RotateStart makes the next pair of keys for a domain of an account, to be
// published. It returns all keys of the domain. ErrNotFound when it has none,
// ErrRotating when a next pair is there already. It takes some 100 ms.
func (s *Signer) RotateStart(ctx context.Context, owner id.Account, domain mail.Domain, o Order) ([]Key, error) {
	pair, err := s.Make(domain)
	if err != nil {
		return nil, err
	}
	return s.change(ctx, whose{owner, domain}, func(tx *db.Tx, keys []Key) error {
		if has(keys, StateNext) {
			return ErrRotating
		}
		if len(keys) >= maxKeys {
			return fmt.Errorf("%w: %s has %d keys: revoke the retired ones first", account.ErrConflict, domain, len(keys))
		}
		return errors.Join(s.insert(tx, owner, keys[0].domain, pair, StateNext), audit(tx, whose{owner, domain}, "start", o))
	})
}

// RotateAbandon deletes the next pair of keys. ErrNotRotating when there is none.
func (s *Signer) RotateAbandon(ctx context.Context, owner id.Account, domain mail.Domain, o Order) ([]Key, error) {
	return s.change(ctx, whose{owner, domain}, func(tx *db.Tx, keys []Key) error {
		if !has(keys, StateNext) {
			return ErrNotRotating
		}
		for _, k := range keys {
			if k.State == StateNext {
				if _, err := tx.Exec(sqlDelete, k.ID); err != nil {
					return fmt.Errorf("abandon key of %s: %w", domain, err)
				}
			}
		}
		return audit(tx, whose{owner, domain}, "abandon", o)
	})
}

// RotateCheck looks at the DNS for the keys of a domain of an account. It
// returns all of them with what it found, and notes it. A DNS that does not
// answer changes nothing. ErrNotFound when the domain has none.
func (s *Signer) RotateCheck(ctx context.Context, owner id.Account, domain mail.Domain) ([]Key, error) {
	var keys []Key
	err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		keys, err = s.Keys(tx, owner, domain)
		return err
	})
	if err != nil {
		return nil, err
	}
	looks := s.look(ctx, keys)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("check keys of %s: %w", domain, err)
	}
	return s.change(ctx, whose{owner, domain}, func(tx *db.Tx, keys []Key) error {
		for i := range keys {
			if err := note(tx, &keys[i], looks[keys[i].ID]); err != nil {
				return err
			}
		}
		return nil
	})
}

// RotateSwitch has the next keys sign and retires those that did, once the
// records of the next ones are in the DNS: it looks. ErrNotRotating when there
// are none, ErrUnpublished when the records are missing and o does not force it.
func (s *Signer) RotateSwitch(ctx context.Context, owner id.Account, domain mail.Domain, o Order) ([]Key, error) {
	checked, err := s.RotateCheck(ctx, owner, domain)
	if err != nil && !o.Force {
		return nil, err
	}
	problems := map[id.Key]string{}
	for _, k := range checked {
		problems[k.ID] = k.Problem
	}
	return s.change(ctx, whose{owner, domain}, func(tx *db.Tx, keys []Key) error {
		if !has(keys, StateNext) {
			return ErrNotRotating
		}
		for _, k := range keys {
			if k.State == StateNext && problems[k.ID] != "" && !o.Force {
				return fmt.Errorf("%w: %s", ErrUnpublished, problems[k.ID])
			}
		}
		return errors.Join(s.move(tx, keys, stepSwitch), audit(tx, whose{owner, domain}, "switch", o))
	})
}

// RotateRevoke erases the private halves of retired keys; their records are to
// be replaced by ones with an empty p=. ErrNotRotating when none is retired,
// ErrTooEarly within 7 days of the switch unless o forces it.
func (s *Signer) RotateRevoke(ctx context.Context, owner id.Account, domain mail.Domain, o Order) ([]Key, error) {
	return s.change(ctx, whose{owner, domain}, func(tx *db.Tx, keys []Key) error {
		if !has(keys, StateRetired) {
			return fmt.Errorf("%w: no key of %s is retired", account.ErrConflict, domain)
		}
		for _, k := range keys {
			if k.State == StateRetired && db.Now().Sub(k.MovedAt) < OnTheWay && !o.Force {
				return ErrTooEarly
			}
		}
		return errors.Join(s.move(tx, keys, stepRevoke), audit(tx, whose{owner, domain}, "revoke", o))
	})
}

// Leave is for a domain that an account gives up: its keys go on signing what is
// queued, and end when nothing is.
func (s *Signer) Leave(tx *db.Tx, owner id.Account, domain mail.Domain) error {
	keys, err := s.Keys(tx, owner, domain)
	if err != nil {
		return err
	}
	tx.OnCommit(func() { s.known.Drop(whose{owner, domain}) })
	return s.move(tx, keys, stepLeave)
}

// change does something with the keys of a domain and returns what they are then.
func (s *Signer) change(ctx context.Context, w whose, do func(*db.Tx, []Key) error) ([]Key, error) {
	var after []Key
	err := s.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		keys, err := s.Keys(tx, w.account, w.domain)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			return fmt.Errorf("keys of %s %w", w.domain, account.ErrNotFound)
		}
		if err := do(tx, keys); err != nil {
			return err
		}
		tx.OnCommit(func() { s.known.Drop(w) })
		after, err = s.Keys(tx, w.account, w.domain)
		for i, k := range after {
			for _, before := range keys {
				if before.ID == k.ID {
					after[i].Problem = before.Problem
				}
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return after, nil
}

// move has all keys take a step.
func (s *Signer) move(tx *db.Tx, keys []Key, by step) error {
	now := db.Micros(db.Now())
	for _, k := range keys {
		to := k.State.next(by)
		var err error
		switch to {
		case k.State:
			continue
		case "":
			_, err = tx.Exec(sqlDelete, k.ID)
		case StateNext, StateActive, StateRetired, StateRevoked, StateLeft:
			_, err = tx.Exec(sqlMove, k.ID, string(k.State), string(to), now)
		}
		if err == nil && to == StateRevoked {
			_, err = tx.Exec(sqlErase, k.ID, []byte{})
		}
		if err != nil {
			return fmt.Errorf("move key %s: %w", k.Selector, err)
		}
	}
	return nil
}

// sight is what the DNS said of a key.
type sight struct {
	looked  bool   // it answered
	problem string // "" when the record is as it should be
}

// look asks the DNS for all keys at once.
func (s *Signer) look(ctx context.Context, keys []Key) map[id.Key]sight {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	sights := make([]sight, len(keys))
	var all sync.WaitGroup
	for i, k := range keys {
		all.Go(func() { sights[i] = s.see(ctx, k) })
	}
	all.Wait()
	seen := map[id.Key]sight{}
	for i, k := range keys {
		seen[k.ID] = sights[i]
	}
	return seen
}

func (s *Signer) see(ctx context.Context, k Key) sight {
	answer, err := s.deps.Resolver.TXT(ctx, k.RecordName)
	missing := errors.Is(err, dns.ErrNotFound)
	switch {
	case err != nil && !missing:
		return sight{problem: "the DNS does not answer for " + k.RecordName + ": try again later"}
	case k.State == StateRevoked && (missing || len(answer.Records) == 0):
		return sight{looked: true}
	case missing || len(answer.Records) == 0:
		return sight{looked: true, problem: "there is no TXT record at " + k.RecordName}
	case !dkim.Published(answer.Records, k.RecordValue):
		return sight{looked: true, problem: "no TXT record at " + k.RecordName + " is as expected"}
	}
	return sight{looked: true}
}

// note writes down what the DNS said of a key. One that came meanwhile was not looked at.
func note(tx *db.Tx, k *Key, saw sight) error {
	k.Problem = saw.problem
	at := k.PublishedAt
	switch {
	case !saw.looked || k.State == StateRevoked:
		return nil
	case saw.problem != "":
		at = time.Time{}
	case at.IsZero():
		at = db.Now()
	}
	if at.Equal(k.PublishedAt) {
		return nil
	}
	if _, err := tx.Exec(sqlPublished, k.ID, db.Micros(at)); err != nil {
		return fmt.Errorf("note key %s: %w", k.Selector, err)
	}
	return nil
}

func has(keys []Key, state State) bool {
	for _, k := range keys {
		if k.State == state {
			return true
		}
	}
	return false
}

func audit(tx *db.Tx, w whose, what string, o Order) error {
	return event.Record(tx, event.Audit{
		Account: w.account, Actor: o.Actor, Action: "domain.key." + what, Object: string(w.domain), Reason: o.Reason,
	})
}
