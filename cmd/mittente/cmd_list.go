package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
)

type listCmd struct {
	Add  listAddCmd  `cmd:"" help:"Make a list."`
	Ls   listLsCmd   `cmd:"" help:"List the lists."`
	Edit listEditCmd `cmd:"" help:"Change a list; what is not named stays."`
	Show listShowCmd `cmd:"" help:"Show a list and its settings."`
}

type listAddCmd struct {
	Name    string `arg:""      help:"Its name, for people."`
	Account int64  `default:"1" help:"The account it belongs to."`
}

// Run makes a list.
func (c listAddCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, writes, func(h *house) error {
		var v listView
		err := h.change(ctx, event.Audit{Action: "list.add"}, func(tx *db.Tx, e *event.Audit) error {
			made, err := h.accounts.AddList(tx, c.Account, c.Name)
			e.Account, e.Object = made.Account, strconv.FormatInt(made.Number, 10)
			v = viewList(made)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, v.print)
	})
}

type listLsCmd struct {
	Account number `help:"Only those of this account." placeholder:"N"`
}

// Run lists the lists.
func (c listLsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var all []listView
		err := h.db.View(ctx, func(tx *db.Tx) error {
			found, err := h.accounts.Lists(tx, int64(c.Account))
			all = convert(found, viewList)
			return err
		})
		if err != nil {
			return err
		}
		return emit(a, all,
			column[listView]{"list", func(v listView) string { return strconv.FormatInt(v.List, 10) }},
			column[listView]{"account", func(v listView) string { return strconv.FormatInt(v.Account, 10) }},
			column[listView]{"name", func(v listView) string { return v.Name }},
			column[listView]{"state", func(v listView) string { return map[bool]string{true: "stopped", false: "runs"}[v.Paused] }},
			column[listView]{"made", func(v listView) string { return when(v.created) }},
		)
	})
}

type listView struct {
	List       int64    `json:"list"`
	Account    int64    `json:"account"`
	Name       string   `json:"name"`
	Paused     bool     `json:"paused"`
	MinTLS     string   `json:"min_tls"`
	Retry      []string `json:"retry"` // empty: the house's schedule
	Lifetime   string   `json:"lifetime,omitempty"`
	DelayAfter string   `json:"delay_after,omitempty"`
	Lang       string   `json:"lang"`
	CreatedAt  string   `json:"created_at"`

	created time.Time
}

func viewList(x account.List) listView {
	return listView{
		List: x.Number, Account: x.AccountNumber, Name: x.Name, Paused: x.Paused, MinTLS: x.MinTLS,
		Retry: convert(x.Retry, span), Lifetime: orHouse(x.Lifetime), DelayAfter: orHouse(x.DelayAfter),
		Lang: x.Lang, CreatedAt: stamp(x.CreatedAt), created: x.CreatedAt,
	}
}

// orHouse is a duration, or nothing for that of the house.
func orHouse(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return span(d)
}

func (v listView) print(w io.Writer) {
	fields(w, "list", strconv.FormatInt(v.List, 10), "account", strconv.FormatInt(v.Account, 10), "name", v.Name,
		"state", map[bool]string{true: "stopped: nothing of it is attempted", false: "runs"}[v.Paused],
		"TLS", map[string]string{"may": "where the next hop offers it", "encrypt": "always", "verify": "always, with a valid certificate"}[v.MinTLS],
		"retry", orText(strings.Join(v.Retry, ", "), "1m, 5m, 15m, 30m, 1h, 2h, 4h (the house's)"),
		"lifetime", orText(v.Lifetime, "72h (the house's)"), "delay after", orText(v.DelayAfter, "4h (the house's)"), "letters in", v.Lang)
}

type listEditCmd struct {
	List       int64     `arg:"" help:"Its number."`
	Name       *string   `help:"Its new name."`
	Pause      *bool     `help:"Attempt nothing of it, or go on (=false)."`
	MinTLS     *string   `enum:"may,encrypt,verify" help:"TLS to the next hop at least: ${enum}." name:"min-tls" placeholder:"T"`
	Retry      *string   `help:"Waits between attempts, such as 1m,10m,1h; the last one repeats; house: as the house has it." placeholder:"D,…"`
	Lifetime   *Duration `help:"From acceptance to giving up, 1m to 7d; 0: as the house has it." placeholder:"D"`
	DelayAfter *Duration `help:"From acceptance to the report of a delay, for who asked for one; 0: as the house has it." placeholder:"D"`
	Lang       *string   `enum:"it,en" help:"Language of letters to the owners of addresses: ${enum}." placeholder:"L"`
}

// change is what the flags say.
func (c listEditCmd) change() (account.EditList, error) {
	change := account.EditList{Name: c.Name, MinTLS: c.MinTLS, Paused: c.Pause, Lang: c.Lang}
	var err error
	if change.Lifetime, err = parsePointer(c.Lifetime); err != nil {
		return change, fmt.Errorf("%w: --lifetime: %w", errUsage, err)
	}
	if change.DelayAfter, err = parsePointer(c.DelayAfter); err != nil {
		return change, fmt.Errorf("%w: --delay-after: %w", errUsage, err)
	}
	if c.Retry == nil {
		return change, nil
	}
	steps := []time.Duration{}
	for text := range strings.SplitSeq(*c.Retry, ",") {
		if *c.Retry == "house" {
			break
		}
		step, err := Duration(strings.TrimSpace(text)).Parse()
		if err != nil {
			return change, fmt.Errorf("%w: --retry: %w", errUsage, err)
		}
		steps = append(steps, step)
	}
	change.Retry = &steps
	return change, nil
}

func parsePointer(d *Duration) (*time.Duration, error) {
	if d == nil {
		return nil, nil //nolint:nilnil // not given
	}
	if *d == "0" {
		return new(time.Duration), nil
	}
	parsed, err := d.Parse()
	return &parsed, err
}

// Run changes a list.
func (c listEditCmd) Run(ctx context.Context, a *app) error {
	change, err := c.change()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		var v listView
		err := h.change(ctx, event.Audit{Action: "list.edit"}, func(tx *db.Tx, e *event.Audit) error {
			changed, err := h.accounts.EditList(tx, c.List, change)
			e.Account, e.Object = changed.Account, strconv.FormatInt(c.List, 10)
			v = viewList(changed)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, v.print)
	})
}

type listShowCmd struct {
	List int64 `arg:"" help:"Its number."`
}

// Run shows a list.
func (c listShowCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var v listView
		err := h.db.View(ctx, func(tx *db.Tx) error {
			found, err := h.accounts.List(tx, c.List)
			v = viewList(found)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, v.print)
	})
}
