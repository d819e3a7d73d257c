package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
)

type domainRevokeCmd struct {
	domainArg

	Reason string `help:"Why; goes into the audit log with your name." placeholder:"T" required:""`
}

// Run revokes a domain. The room writes its own entry in the audit log.
func (c domainRevokeCmd) Run(ctx context.Context, a *app) error {
	name, err := c.parse()
	if err != nil {
		return err
	}
	if strings.TrimSpace(c.Reason) == "" {
		return fmt.Errorf("%w: --reason must say why, for the audit log", errUsage)
	}
	return a.with(ctx, reads, func(h *house) error {
		var v domainView
		err := h.changeIn(ctx, c.Account, func(tx *db.Tx, owner id.Account) error {
			d, err := h.senders.RevokeDomain(tx, owner, name, h.actor, c.Reason)
			v = viewDomain(d, c.Account)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, func(w io.Writer) {
			fmt.Fprintf(w, "%s is %s: nothing new is accepted from it. What was accepted is still delivered, and signed.\n", v.Domain, v.State)
		})
	})
}

type domainRmCmd struct{ domainArg }

// Run removes a domain. The room writes its own entry in the audit log.
func (c domainRmCmd) Run(ctx context.Context, a *app) error {
	name, err := c.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		err := h.changeIn(ctx, c.Account, func(tx *db.Tx, owner id.Account) error {
			return h.senders.RemoveDomain(tx, owner, name, h.actor)
		})
		if err != nil {
			return err
		}
		v := struct {
			Domain  string `json:"domain"`
			Removed bool   `json:"removed"`
		}{string(name), true}
		return emitOne(a, v, func(w io.Writer) {
			fmt.Fprintf(w, "%s is removed. Its keys sign what is still queued, and end with it.\n", v.Domain)
		})
	})
}

// askByMail sends the letter by which the postmaster of a domain can agree.
func (c domainVerifyCmd) askByMail(ctx context.Context, a *app, h *house, owner id.Account) error {
	name, err := c.parse()
	if err != nil {
		return err
	}
	local := strings.TrimSuffix(c.Mail, "@")
	err = h.change(ctx, event.Audit{Account: owner, Action: "domain.ask", Object: string(name), Reason: local + "@"}, func(tx *db.Tx, _ *event.Audit) error {
		return h.senders.AskByMail(tx, owner, name, local, letter.Asking{By: h.actor, Lang: c.Lang})
	})
	if err != nil {
		return err
	}
	v := struct {
		Domain string `json:"domain"`
		Asked  string `json:"asked"`
	}{string(name), local + "@" + string(name)}
	return emitOne(a, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s is asked by mail. The letter leaves as soon as the relay runs; %s is verified when its button is pressed.\n", v.Asked, v.Domain)
	})
}
