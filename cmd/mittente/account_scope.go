package main

import (
	"context"

	"mittente/internal/db"
	"mittente/internal/id"
)

// changeIn runs a change to what belongs to an account, named by its number.
func (h *house) changeIn(ctx context.Context, account int64, do func(*db.Tx, id.Account) error) error {
	return h.db.Batch(ctx, h.in(account, do))
}

// viewIn reads what belongs to an account, named by its number.
func (h *house) viewIn(ctx context.Context, account int64, do func(*db.Tx, id.Account) error) error {
	return h.db.View(ctx, h.in(account, do))
}

func (h *house) in(account int64, do func(*db.Tx, id.Account) error) func(*db.Tx) error {
	return func(tx *db.Tx) error {
		owner, err := h.accountID(tx, account)
		if err != nil {
			return err
		}
		return do(tx, owner)
	}
}

// accountFilter finds the account that a flag narrows a list to; zero when it was not given.
func (h *house) accountFilter(tx *db.Tx, account number) (id.Account, error) {
	if account == 0 {
		return id.Account{}, nil
	}
	return h.accountID(tx, int64(account))
}
