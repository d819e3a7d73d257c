package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
)

type accountCmd struct {
	Add  accountAddCmd  `cmd:"" help:"Make an account."`
	Ls   accountLsCmd   `cmd:"" help:"List the accounts."`
	Edit accountEditCmd `cmd:"" help:"Change an account; what is not named stays."`
}

type accountView struct {
	Account   int64  `json:"account"`
	Name      string `json:"name"`
	Speed     int64  `json:"speed_per_hour"`
	CreatedAt string `json:"created_at"`

	created time.Time
}

func viewAccount(x account.Account) accountView {
	return accountView{x.Number, x.Name, x.SpeedPerHour, stamp(x.CreatedAt), x.CreatedAt}
}

func (v accountView) print(w io.Writer) {
	fields(w, "account", strconv.FormatInt(v.Account, 10), "name", v.Name)
}

type accountAddCmd struct {
	Name string `arg:"" help:"Its name, for people."`
}

// Run makes an account, with a first list of the same name.
func (c accountAddCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, writes, func(h *house) error {
		var made account.Account
		var list account.List
		err := h.change(ctx, event.Audit{Action: "account.add"}, func(tx *db.Tx, e *event.Audit) (err error) {
			if made, err = h.accounts.AddAccount(tx, c.Name); err != nil {
				return err
			}
			e.Account, e.Object = made.ID, strconv.FormatInt(made.Number, 10)
			list, err = h.accounts.AddList(tx, made.Number, "default")
			return err
		})
		if err != nil {
			return err
		}
		v := struct {
			accountView
			List int64 `json:"list"`
		}{viewAccount(made), list.Number}
		return emitOne(a, v, func(w io.Writer) {
			v.print(w)
			fmt.Fprintf(w, "Its first list is %d: %s user add --list %d\n", v.List, a.again(), v.List)
		})
	})
}

type accountLsCmd struct{}

// Run lists the accounts.
func (accountLsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var all []accountView
		err := h.db.View(ctx, func(tx *db.Tx) error {
			found, err := h.accounts.Accounts(tx)
			all = convert(found, viewAccount)
			return err
		})
		if err != nil {
			return err
		}
		return emit(a, all,
			column[accountView]{"account", func(v accountView) string { return strconv.FormatInt(v.Account, 10) }},
			column[accountView]{"name", func(v accountView) string { return v.Name }},
			column[accountView]{"made", func(v accountView) string { return when(v.created) }},
		)
	})
}

type accountEditCmd struct {
	Account int64   `arg:"" help:"Its number."`
	Name    *string `help:"Its new name."`
	Speed   *int64  `help:"Recipients an hour that leave; more wait, and none is refused. 0: no limit." placeholder:"N"`
}

// Run changes an account.
func (c accountEditCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var v accountView
		err := h.change(ctx, event.Audit{Action: "account.edit"}, func(tx *db.Tx, e *event.Audit) error {
			changed, err := h.accounts.EditAccount(tx, c.Account, account.EditAccount{Name: c.Name, SpeedPerHour: c.Speed})
			e.Account, e.Object = changed.ID, strconv.FormatInt(c.Account, 10)
			v = viewAccount(changed)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, v.print)
	})
}
