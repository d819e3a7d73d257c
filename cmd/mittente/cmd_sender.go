package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/mail"
	"mittente/internal/sender"
)

type senderCmd struct {
	Add    senderAddCmd    `cmd:"" help:"Add an address to an account; its owner is asked by mail."`
	Verify senderVerifyCmd `cmd:"" help:"Ask the owner again: a new letter, whose link takes the place of the old one's."`
	Ls     senderLsCmd     `cmd:"" help:"List the addresses of an account."`
	Revoke senderRevokeCmd `cmd:"" help:"Allow an address no longer, for all users of the account; wants --reason."`
	Rm     senderRmCmd     `cmd:"" help:"Remove an address from an account and from the lists of its users."`
}

type addressView struct {
	Address    string       `json:"address"`
	Account    int64        `json:"account"`
	State      sender.State `json:"state"`
	Through    mail.Domain  `json:"through,omitempty"`
	AskedAt    string       `json:"asked_at,omitempty"`
	ExpiresAt  string       `json:"expires_at,omitempty"`
	VerifiedAt string       `json:"verified_at,omitempty"`
	DecidedBy  string       `json:"decided_by,omitempty"`
	Reason     string       `json:"reason,omitempty"`
	RestUntil  string       `json:"rest_until,omitempty"`

	asked, expires, verified, rest time.Time
}

func viewAddress(x sender.Address, account int64) addressView {
	return addressView{
		Address: x.Address.Display(), Account: account, State: x.State, Through: x.Through,
		AskedAt: stamp(x.AskedAt), ExpiresAt: stamp(x.ExpiresAt), VerifiedAt: stamp(x.VerifiedAt),
		DecidedBy: x.DecidedBy, Reason: x.Reason, RestUntil: stamp(x.RestUntil),
		asked: x.AskedAt, expires: x.ExpiresAt, verified: x.VerifiedAt, rest: x.RestUntil,
	}
}

// remark says what an operator would ask next.
func (v addressView) remark(now time.Time) string {
	switch {
	case v.Through != "":
		return "verified through its domain " + string(v.Through)
	case v.rest.After(now):
		return "its owner wants no letters until " + when(v.rest)
	case v.State == sender.StateRevoked:
		return strings.TrimSuffix("revoked by "+v.DecidedBy+": "+v.Reason, ": ")
	case v.State != sender.StatePending:
		return ""
	case v.asked.IsZero():
		return "the letter has not left yet"
	case v.expires.Before(now):
		return "the link has expired: sender verify sends a new one"
	}
	return "waits for its owner until " + when(v.expires)
}

func (v addressView) print(w io.Writer) {
	fields(w, "address", v.Address, "state", string(v.State), "asked", when(v.asked), "verified", when(v.verified),
		"decided by", v.DecidedBy, "remark", v.remark(time.Now()))
}

// senderArg is the argument that most of the commands have.
type senderArg struct {
	Address string `arg:""      help:"The address."`
	Account int64  `default:"1" help:"The account it belongs to."`
}

func (s senderArg) parse() (mail.Address, error) {
	a, err := mail.ParseAddress(s.Address)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errUsage, err)
	}
	return a, nil
}

// run does a change to an address of an account and prints how it stands then.
func (s senderArg) run(ctx context.Context, a *app, action string, do func(*db.Tx, *house, id.Account, mail.Address) error) error {
	address, err := s.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, writes, func(h *house) error {
		var v addressView
		err := h.change(ctx, event.Audit{Action: action, Object: address.String()}, func(tx *db.Tx, e *event.Audit) error {
			owner, err := h.accountID(tx, s.Account)
			if err != nil {
				return err
			}
			e.Account = owner
			if err := do(tx, h, owner, address); err != nil {
				return err
			}
			found, err := h.senders.AddressOf(tx, owner, address)
			v = viewAddress(found, s.Account)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, func(w io.Writer) {
			v.print(w)
			if v.State == sender.StatePending {
				fmt.Fprintln(w, a.hint("\nThe letter leaves as soon as the relay runs. Its owner need not sign in; nothing happens before the button is pressed."))
			}
		})
	})
}

type senderAddCmd struct {
	senderArg

	Lang string `default:"" enum:",it,en" help:"Language of the letter: it or en; default: that of the list." placeholder:"L"`
}

// Run adds an address.
func (c senderAddCmd) Run(ctx context.Context, a *app) error {
	return c.run(ctx, a, "sender.add", func(tx *db.Tx, h *house, owner id.Account, address mail.Address) error {
		_, err := h.senders.AddAddress(tx, owner, address, letter.Asking{By: h.actor, Lang: c.Lang})
		return err
	})
}

type senderVerifyCmd struct {
	senderArg

	Lang string `default:"" enum:",it,en" help:"Language of the letter: it or en; default: that of the list." placeholder:"L"`
}

// Run sends the letter again.
func (c senderVerifyCmd) Run(ctx context.Context, a *app) error {
	return c.run(ctx, a, "sender.verify", func(tx *db.Tx, h *house, owner id.Account, address mail.Address) error {
		return h.senders.Resend(tx, owner, address, letter.Asking{By: h.actor, Lang: c.Lang})
	})
}

type senderRevokeCmd struct {
	senderArg

	Reason string `help:"Why; goes into the audit log with your name." placeholder:"T" required:""`
}

// Run revokes an address. The room writes its own entry in the audit log.
func (c senderRevokeCmd) Run(ctx context.Context, a *app) error {
	if strings.TrimSpace(c.Reason) == "" {
		return fmt.Errorf("%w: --reason must say why, for the audit log", errUsage)
	}
	address, err := c.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		var v addressView
		err := h.changeIn(ctx, c.Account, func(tx *db.Tx, owner id.Account) error {
			revoked, err := h.senders.RevokeAddress(tx, owner, address, h.actor, c.Reason)
			v = viewAddress(revoked, c.Account)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, v.print)
	})
}

type senderRmCmd struct{ senderArg }

// Run removes an address. The room writes its own entry in the audit log.
func (c senderRmCmd) Run(ctx context.Context, a *app) error {
	address, err := c.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		err := h.changeIn(ctx, c.Account, func(tx *db.Tx, owner id.Account) error {
			return h.senders.RemoveAddress(tx, owner, address, h.actor)
		})
		if err != nil {
			return err
		}
		v := struct {
			Address string `json:"address"`
			Removed bool   `json:"removed"`
		}{address.Display(), true}
		return emitOne(a, v, func(w io.Writer) { fmt.Fprintf(w, "%s is removed.\n", v.Address) })
	})
}

type senderLsCmd struct {
	Account int64 `default:"1" help:"The account."`
}

// Run lists the addresses of an account.
func (c senderLsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var all []addressView
		err := h.viewIn(ctx, c.Account, func(tx *db.Tx, owner id.Account) error {
			found, err := h.senders.Addresses(tx, owner)
			all = convert(found, func(x sender.Address) addressView { return viewAddress(x, c.Account) })
			return err
		})
		if err != nil {
			return err
		}
		now := time.Now()
		return emit(a, all,
			column[addressView]{"address", func(v addressView) string { return v.Address }},
			column[addressView]{"state", func(v addressView) string { return string(v.State) }},
			column[addressView]{"asked", func(v addressView) string { return orDash(when(v.asked)) }},
			column[addressView]{"verified", func(v addressView) string { return orDash(when(v.verified)) }},
			column[addressView]{"remark", func(v addressView) string { return a.hint(oneLine(v.remark(now), 80)) }},
		)
	})
}
