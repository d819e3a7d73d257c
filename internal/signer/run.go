package signer

import (
	"context"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const (
	sweepEvery = time.Hour
	sweepSlice = 50                  // keys that one transaction deletes at most
	keepLong   = 30 * 24 * time.Hour // revoked keys, so that their records can be withdrawn; left ones where nobody knows what is queued
)

// House makes sure that the hostname's domain has keys: they are made once. It
// does nothing where the hostname is no domain name.
func (s *Signer) House(ctx context.Context) error {
	if s.host == "" {
		return nil
	}
	var there bool
	look := func(tx *db.Tx) error {
		keys, err := s.Keys(tx, id.Account{}, s.host)
		there = len(keys) > 0
		return err
	}
	if err := s.deps.DB.View(ctx, look); err != nil || there {
		return err
	}
	pair, err := s.Make(s.host)
	if err != nil {
		return err
	}
	return s.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		if err := look(tx); err != nil || there { // another process was first
			return err
		}
		return s.Add(tx, id.Account{}, id.New[id.Domain](), pair)
	})
}

// Run deletes keys that have come to their end, once an hour. It returns nil
// when ctx ends; what fails is tried again an hour later.
func (s *Signer) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		_ = s.sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep deletes revoked keys after 30 days, and those of removed domains when no
// mail that they would sign is queued.
func (s *Signer) sweep(ctx context.Context) error {
	keepLeft := OnTheWay
	if s.deps.InUse == nil {
		keepLeft = keepLong
	}
	if err := s.sweepState(ctx, StateRevoked, keepLong); err != nil {
		return err
	}
	return s.sweepState(ctx, StateLeft, keepLeft)
}

// old is a key whose time may have come.
type old struct {
	key     id.Key
	account id.Account
	domain  mail.Domain
	movedAt int64
}

func (s *Signer) sweepState(ctx context.Context, state State, keep time.Duration) error {
	for from := int64(0); ; {
		var due []old
		err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
			due, err = db.Collect(tx, scanOld, sqlOld, string(state), db.Micros(db.Now().Add(-keep)), from, sweepSlice)
			return err
		})
		if err != nil {
			return fmt.Errorf("look for %s keys: %w", state, err)
		}
		if err := s.end(ctx, state, due); err != nil {
			return err
		}
		if len(due) < sweepSlice {
			return nil
		}
		from = due[len(due)-1].movedAt + 1
	}
}

// end deletes those of the keys that nothing is queued under.
func (s *Signer) end(ctx context.Context, state State, due []old) error {
	var over []old
	for _, k := range due {
		if state == StateLeft && s.deps.InUse != nil {
			used, err := s.deps.InUse(ctx, k.account, k.domain)
			if err != nil {
				return fmt.Errorf("look for mail that %s signs: %w", k.domain, err)
			}
			if used {
				continue
			}
		}
		over = append(over, k)
	}
	if len(over) == 0 {
		return nil
	}
	return s.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		for _, k := range over {
			if _, err := tx.Exec(sqlDelete, k.key); err != nil {
				return fmt.Errorf("delete key: %w", err)
			}
			tx.OnCommit(func() { s.known.Drop(whose{k.account, k.domain}) })
		}
		return nil
	})
}

func scanOld(row db.Scanner) (old, error) {
	var k old
	err := row.Scan(&k.key, &k.account, &k.domain, &k.movedAt)
	return k, err
}
