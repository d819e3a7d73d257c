package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mittente/internal/cache"
	"mittente/internal/db"
	"mittente/internal/id"
)

// The three of this file answer from memory where they can. Own changes count
// from their commit on, those of other processes as soon as Invalidate is called.

// UserByNameCached returns a user that is not removed, or ErrNotFound.
func (a *Accounts) UserByNameCached(ctx context.Context, name string) (User, error) {
	r, _, _ := a.records.Get(name)
	if r == nil {
		var err error
		if r, err = a.load(ctx, name); err != nil {
			return User{}, err
		}
	}
	if r == nil {
		return User{}, fmt.Errorf("user %q %w", shortName(name), ErrNotFound)
	}
	return r.user, nil
}

// ListByID returns a list with its settings, or ErrNotFound.
func (a *Accounts) ListByID(ctx context.Context, list id.List) (List, error) {
	return recall(ctx, a.db, a.lists, list, func(tx *db.Tx) (List, error) { return scanList(tx.Row(sqlListByID, list)) })
}

// ListIn is ListByID within a transaction. What it has to read it does not keep:
// the transaction may be rolled back.
func (a *Accounts) ListIn(tx *db.Tx, list id.List) (List, error) {
	if found, _, known := a.lists.Get(list); known {
		return found, nil
	}
	found, err := scanList(tx.Row(sqlListByID, list))
	if errors.Is(err, sql.ErrNoRows) {
		return List{}, fmt.Errorf("%s %w", list, ErrNotFound)
	}
	return found, err
}

// AccountByID returns an account, or ErrNotFound.
func (a *Accounts) AccountByID(ctx context.Context, account id.Account) (Account, error) {
	return recall(ctx, a.db, a.accounts, account, func(tx *db.Tx) (Account, error) { return scanAccount(tx.Row(sqlAccountByID, account)) })
}

// recall returns what c keeps under key, or reads it and keeps it.
func recall[K interface {
	comparable
	fmt.Stringer
}, V any](ctx context.Context, d *db.DB, c *cache.Cache[K, V], key K, read func(*db.Tx) (V, error),
) (V, error) {
	value, generation, known := c.Get(key)
	if known {
		return value, nil
	}
	err := d.View(ctx, func(tx *db.Tx) (err error) {
		value, err = read(tx)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return value, fmt.Errorf("%s %w", key, ErrNotFound)
	}
	if err == nil {
		c.Put(key, value, 1, generation)
	}
	return value, err
}
