package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/signer"
)

type domainKeyCmd struct {
	Ls     domainKeyLsCmd     `cmd:"" help:"List the keys of a domain, what each does, and whether it is published."`
	Rotate domainKeyRotateCmd `cmd:"" help:"Replace the keys of a domain: publish, check, switch, revoke, one step at a call."`
}

type keyView struct {
	Selector    string       `json:"selector"`
	Algorithm   string       `json:"algorithm"`
	State       signer.State `json:"state"`
	Name        string       `json:"name"`
	Value       string       `json:"value"`
	CreatedAt   string       `json:"created_at"`
	PublishedAt string       `json:"published_at,omitempty"`
	Problem     string       `json:"problem,omitempty"`

	moved, published time.Time
}

func viewKey(k signer.Key) keyView {
	return keyView{
		Selector: k.Selector, Algorithm: k.Algorithm, State: k.State, Name: k.RecordName, Value: k.RecordValue,
		CreatedAt: stamp(k.CreatedAt), PublishedAt: stamp(k.PublishedAt), Problem: k.Problem, moved: k.MovedAt, published: k.PublishedAt,
	}
}

func keyColumns() []column[keyView] {
	return []column[keyView]{
		{"selector", func(v keyView) string { return v.Selector }},
		{"algorithm", func(v keyView) string { return v.Algorithm }},
		{"state", func(v keyView) string { return string(v.State) }},
		{"since", func(v keyView) string { return when(v.moved) }},
		{"published", func(v keyView) string { return orDash(when(v.published)) }},
		{"problem", func(v keyView) string { return oneLine(v.Problem, 80) }},
	}
}

// keyOwner is the account whose domain it is; the hostname's own is the house's.
func (h *house) keyOwner(tx *db.Tx, number int64, name mail.Domain) (id.Account, error) {
	owner, err := h.accountID(tx, number)
	if err != nil {
		return owner, err
	}
	if _, err := h.senders.DomainByName(tx, owner, name); errors.Is(err, account.ErrNotFound) && name == h.signer.Host() {
		return id.Account{}, nil
	}
	return owner, nil
}

type domainKeyLsCmd struct{ domainArg }

// Run lists keys.
func (c domainKeyLsCmd) Run(ctx context.Context, a *app) error {
	name, err := c.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		var keys []signer.Key
		err := h.db.View(ctx, func(tx *db.Tx) error {
			owner, err := h.keyOwner(tx, c.Account, name)
			if err != nil {
				return err
			}
			if keys, err = h.signer.Keys(tx, owner, name); err == nil && len(keys) == 0 {
				return fmt.Errorf("domain %s %w in this account", name, account.ErrNotFound)
			}
			return err
		})
		if err != nil {
			return err
		}
		return emit(a, convert(keys, viewKey), keyColumns()...)
	})
}

type domainKeyRotateCmd struct {
	domainArg

	Step   string `default:"next" enum:"next,start,check,switch,revoke,abandon" help:"One of ${enum}; next does what comes next."`
	Force  bool   `help:"Switch to keys that are not published, or revoke before a week has passed."`
	Reason string `help:"Why; goes into the audit log with your name." placeholder:"T"`
}

// Run does one step of a rotation.
func (c domainKeyRotateCmd) Run(ctx context.Context, a *app) error {
	name, err := c.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		var owner id.Account
		var keys []signer.Key
		err := h.db.View(ctx, func(tx *db.Tx) (err error) {
			if owner, err = h.keyOwner(tx, c.Account, name); err != nil {
				return err
			}
			keys, err = h.signer.Keys(tx, owner, name)
			return err
		})
		if err != nil {
			return err
		}
		step := c.Step
		if step == "next" {
			step = nextStep(keys)
		}
		a.progress("%s the keys of %s", step, name)
		after, err := c.do(ctx, h, owner, step)
		if err != nil {
			return err
		}
		return c.print(a, step, after)
	})
}

// nextStep is the step of a rotation that follows from how the keys stand.
func nextStep(keys []signer.Key) string {
	has := map[signer.State]bool{}
	for _, k := range keys {
		has[k.State] = true
	}
	switch {
	case has[signer.StateNext]:
		return "switch"
	case has[signer.StateRetired]:
		return "revoke"
	default:
		return "start"
	}
}

func (c domainKeyRotateCmd) do(ctx context.Context, h *house, owner id.Account, step string) ([]signer.Key, error) {
	name, err := c.parse()
	if err != nil {
		return nil, err
	}
	order := signer.Order{Actor: h.actor, Reason: c.Reason, Force: c.Force}
	switch step {
	case "start":
		return h.signer.RotateStart(ctx, owner, name, order)
	case "check":
		return h.signer.RotateCheck(ctx, owner, name)
	case "switch":
		return h.signer.RotateSwitch(ctx, owner, name, order)
	case "revoke":
		return h.signer.RotateRevoke(ctx, owner, name, order)
	default:
		return h.signer.RotateAbandon(ctx, owner, name, order)
	}
}

func (c domainKeyRotateCmd) print(a *app, step string, keys []signer.Key) error {
	views := convert(keys, viewKey)
	if a.output != "table" {
		return emit(a, views)
	}
	if err := emit(a, views, keyColumns()...); err != nil {
		return err
	}
	c.advise(a.out, a, step, views)
	return nil
}

// advise says what comes next.
func (c domainKeyRotateCmd) advise(w io.Writer, a *app, step string, views []keyView) {
	again := fmt.Sprintf("mittente domain key rotate %s", c.Domain)
	if c.Account != 1 {
		again += fmt.Sprintf(" --account %d", c.Account)
	}
	switch step {
	case "start", "check":
		fmt.Fprintln(w, "\nPublish, beside the records that are there:")
		printKeys(w, views, signer.StateNext)
		fmt.Fprintln(w, a.hint("\nThen switch, which looks whether they are there: "+again))
	case "switch":
		fmt.Fprintln(w, a.hint("\nThe new keys sign from now on. Leave the old records where they are for a week: mail that they signed is still on its way. Then: "+again))
	case "revoke":
		fmt.Fprintln(w, "\nThe old keys are gone. Put these records in the place of the old ones, so that nothing they signed is believed any more:")
		printKeys(w, views, signer.StateRevoked)
	}
}

func printKeys(w io.Writer, views []keyView, state signer.State) {
	for _, v := range views {
		if v.State == state {
			fmt.Fprintf(w, "%s  TXT\n           %s\n", v.Name, v.Value)
		}
	}
}
