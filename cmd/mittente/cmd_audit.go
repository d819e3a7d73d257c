package main

import (
	"context"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
)

type auditCmd struct {
	Ls auditLsCmd `cmd:"" help:"List who did what, the newest first."`
}

type auditLsCmd struct {
	Account number `help:"Only what was done to this account."                            placeholder:"N"`
	Actor   string `help:"Only what this person did."                                     placeholder:"NAME"`
	Action  string `help:"Only actions that begin so: user, domain.override, queue, …"    placeholder:"A"`
	Limit   number `default:"100" help:"At most so many, to 1,000."`
}

type auditView struct {
	At     string `json:"at"`
	Actor  string `json:"actor"`
	Action string `json:"action"`
	Object string `json:"object"`
	Reason string `json:"reason,omitempty"`

	at time.Time
}

func viewAudit(x event.Audit) auditView {
	return auditView{stamp(x.At), x.Actor, x.Action, x.Object, x.Reason, x.At}
}

// Run lists the audit log.
func (c auditLsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var views []auditView
		err := h.db.View(ctx, func(tx *db.Tx) (err error) {
			filter := event.AuditFilter{Actor: c.Actor, Action: c.Action, Page: event.Page{Limit: int(c.Limit)}}
			if filter.Account, err = h.accountFilter(tx, c.Account); err != nil {
				return err
			}
			found, err := event.Audits(tx, filter)
			views = convert(found, viewAudit)
			return err
		})
		if err != nil {
			return err
		}
		return emit(a, views,
			column[auditView]{"at", func(v auditView) string { return when(v.at) }},
			column[auditView]{"actor", func(v auditView) string { return oneLine(v.Actor, 30) }},
			column[auditView]{"action", func(v auditView) string { return v.Action }},
			column[auditView]{"object", func(v auditView) string { return oneLine(v.Object, 50) }},
			column[auditView]{"reason", func(v auditView) string { return oneLine(v.Reason, 60) }},
		)
	})
}
