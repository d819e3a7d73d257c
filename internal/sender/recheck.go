package sender

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/record"
	"mittente/internal/signer"
)

// When the DNS is looked at without anybody asking.
const (
	pendingFirst = time.Minute         // after a domain was added
	pendingMin   = 3 * time.Minute     // then after a tenth of its age, at least
	pendingMax   = 6 * time.Hour       // and at most,
	pendingLife  = 30 * 24 * time.Hour // until it is given up
	recheckEvery = 24 * time.Hour      // verified domains, and those that the DNS has refuted
	recheckSoon  = time.Hour           // verified domains whose DNS did not answer

	refuteChecks = 3              // definite negative checks
	refuteAfter  = 72 * time.Hour // from the first to the last of them take a domain's verification away;
	missGap      = 12 * time.Hour // those closer together count as one
)

// How the checks are spread.
const (
	checksAtOnce = 4                // domains; each takes some five look-ups
	claimSlice   = 16               // domains that one transaction takes
	claimLife    = 10 * time.Minute // after which another may look, should this process end
	lookEvery    = 30 * time.Second // at least, for domains that have become due
	jitter       = 10               // per cent
)

// never is stored for a domain that is not looked at by itself: the end of the year 9999.
const never int64 = 253_402_300_799_000_000

// rest has the DNS looked at no more, unless somebody asks for it.
func (d *Domain) rest() {
	d.NextCheckAt, d.MissingAt, d.lastMissAt, d.misses = time.Time{}, time.Time{}, time.Time{}, 0
}

// learn is what a look at the DNS makes of a domain. It returns what the look
// came to with those before it.
func (d *Domain) learn(e evidence, problem string, now time.Time) evidence {
	d.CheckedAt, d.LastError = now, problem
	switch {
	case e == found:
		if d.State != StateVerified {
			d.VerifiedAt = now
		}
		d.Override, d.Reason, d.Proof = false, "", ProofDNS // nobody's word is needed any more; the audit log keeps it
		d.rest()
	case e == absent && d.State == StatePending && now.Sub(d.CreatedAt) >= pendingLife:
		e = givenUp
	case e == absent && d.State == StateVerified && d.Proof == ProofDNS:
		e = d.miss(now)
	}
	d.State = d.State.next(e)
	d.plan(e, now)
	return e
}

// miss counts a check that found a verified domain's records missing.
func (d *Domain) miss(now time.Time) evidence {
	if d.misses == 0 {
		d.MissingAt = now
	}
	if d.misses == 0 || now.Sub(d.lastMissAt) >= missGap {
		d.misses, d.lastMissAt = d.misses+1, now
	}
	if d.misses < refuteChecks || now.Sub(d.MissingAt) < refuteAfter {
		return absent
	}
	d.Proof, d.Reason = "", d.LastError
	return refuted
}

// plan says when the DNS is looked at next.
func (d *Domain) plan(e evidence, now time.Time) {
	switch {
	case d.State == StateFailed, d.State == StateVerified && d.Proof != ProofDNS:
		d.NextCheckAt = time.Time{}
	case e == refuted:
		d.rest()
		d.NextCheckAt = now.Add(spread(recheckEvery))
	case d.State == StateRevoked && d.NextCheckAt.IsZero(): // by somebody: not to be undone by a check that nobody asked for
	case d.State == StatePending:
		d.NextCheckAt = now.Add(min(max(now.Sub(d.CreatedAt)/10, pendingMin), pendingMax))
	case e == unknown:
		d.NextCheckAt = now.Add(recheckSoon)
	default:
		d.NextCheckAt = now.Add(spread(recheckEvery))
	}
	if last := d.MissingAt.Add(refuteAfter); d.misses > 0 && last.After(now) && last.Before(d.NextCheckAt) {
		d.NextCheckAt = last
	}
}

// spread keeps domains that were added together from being looked at together for ever.
func spread(d time.Duration) time.Duration {
	return d - d*time.Duration(rand.IntN(jitter+1))/100 //nolint:gosec // nothing is to be kept secret
}

// Run looks at the DNS for domains that are due: pending ones every few minutes
// at first, then less and less often for 30 days, those that the DNS has proven
// every day. Several processes may run it: each domain is claimed. It returns nil when ctx ends; what fails is tried again.
func (s *Senders) Run(ctx context.Context) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.woken:
			wait.Reset(s.untilDue(ctx))
		case <-wait.C:
			more, err := s.checkDue(ctx)
			switch {
			case err != nil:
				wait.Reset(lookEvery)
			case more:
				wait.Reset(0)
			default:
				wait.Reset(s.untilDue(ctx))
			}
		}
	}
}

// wake has Run look when the next domain is due.
func (s *Senders) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// untilDue returns how long nothing is to be done.
func (s *Senders) untilDue(ctx context.Context) time.Duration {
	var next int64
	err := s.deps.DB.View(ctx, func(tx *db.Tx) error {
		err := tx.Row(sqlNextCheck).Scan(&next)
		if errors.Is(err, sql.ErrNoRows) {
			next, err = never, nil
		}
		return err
	})
	if err != nil || next >= never {
		return lookEvery
	}
	return min(max(time.Until(time.UnixMicro(next)), 0), lookEvery)
}

// checkDue claims domains that are due and looks at the DNS for them. It reports
// whether there may be more.
func (s *Senders) checkDue(ctx context.Context) (more bool, err error) {
	var due []Domain
	err = s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		due, err = db.Collect(tx, scanDomain, sqlDueDomains, db.Micros(db.Now()), claimSlice)
		return err
	})
	if err != nil || len(due) == 0 {
		return false, err
	}
	claimed, err := s.claim(ctx, due)
	if err != nil {
		return false, err
	}
	work, inside := errgroup.WithContext(ctx)
	work.SetLimit(checksAtOnce)
	for _, d := range claimed {
		work.Go(func() error { return s.recheck(inside, d) })
	}
	return len(due) == claimSlice, work.Wait()
}

// claim takes domains so that nobody else looks; it returns those that nobody
// else has taken.
func (s *Senders) claim(ctx context.Context, due []Domain) ([]Domain, error) {
	var claimed []Domain
	until := db.Now().Add(claimLife)
	err := s.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		claimed = claimed[:0]
		for _, d := range due {
			n, err := tx.Exec(sqlClaimDomain, d.ID, d.NextCheckAt.UnixMicro(), db.Micros(until))
			if err != nil {
				return fmt.Errorf("claim domain %s: %w", d.Name, err)
			}
			if n > 0 {
				d.NextCheckAt = until
				claimed = append(claimed, d)
			}
		}
		return nil
	})
	return claimed, err
}

// recheck looks at the DNS for a domain that is claimed. That it has been
// removed or changed by somebody meanwhile is no error: it is theirs then.
func (s *Senders) recheck(ctx context.Context, claimed Domain) error {
	var records []record.Record
	err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		records, err = s.records(tx, claimed)
		return err
	})
	if err != nil {
		return err
	}
	checks := record.Look(ctx, s.deps.Resolver, records)
	if err := ctx.Err(); err != nil {
		return err
	}
	proof, problem := record.Judge(checks)
	s.metrics.verifications.WithLabelValues(string(proof)).Inc()
	err = s.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		d, err := s.find(tx, claimed.Account, claimed.Name)
		if err != nil || d == nil || d.ID != claimed.ID || !d.NextCheckAt.Equal(claimed.NextCheckAt) {
			return err
		}
		return s.learnt(tx, d, evidence(proof), problem)
	})
	if err != nil {
		return err
	}
	return s.watchKeys(ctx, claimed)
}

// learnt writes down what a look at the DNS makes of a domain, and tells the
// operators what they should know.
func (s *Senders) learnt(tx *db.Tx, d *Domain, proof evidence, problem string) error {
	before := *d
	came := d.learn(proof, problem, db.Now())
	if d.State == before.State {
		// Thousands of looks an hour that change nothing must not have all
		// verdicts read from the database again.
		return errors.Join(write(tx, *d), tellOfDomain(tx, before, *d, came))
	}
	if err := s.update(tx, *d); err != nil {
		return err
	}
	return tellOfDomain(tx, before, *d, came)
}

// watchKeys looks whether the keys that sign for a domain are still in the DNS.
// One that has never been seen there is no news: the domain's page says so.
func (s *Senders) watchKeys(ctx context.Context, d Domain) error {
	var before []signer.Key
	err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		before, err = s.deps.Signer.Keys(tx, d.Account, d.Name)
		return err
	})
	if err != nil {
		return err
	}
	after, err := s.deps.Signer.RotateCheck(ctx, d.Account, d.Name)
	if errors.Is(err, account.ErrNotFound) { // removed meanwhile
		return nil
	}
	seen := map[id.Key]bool{}
	for _, k := range before {
		seen[k.ID] = k.State == signer.StateActive && !k.PublishedAt.IsZero()
	}
	for _, k := range after {
		if seen[k.ID] && k.State == signer.StateActive && k.PublishedAt.IsZero() {
			err = errors.Join(err, s.deps.DB.Batch(ctx, func(tx *db.Tx) error { return tellOfKey(tx, d, k.Selector, k.Problem) }))
		}
	}
	return err
}
