package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
)

type alertCmd struct {
	Ls   alertLsCmd   `cmd:"" help:"List what an operator should know of: open entries, the newest first."`
	Show alertShowCmd `cmd:"" help:"Show an alert, and the last session or event that it tells of."`
	Ack  alertAckCmd  `cmd:"" help:"Note that you have seen to it; what happens from now on is a new alert."`
}

type alertView struct {
	ID      id.Alert          `json:"id"`
	Kind    alert.Kind        `json:"kind"`
	Account int64             `json:"account,omitempty"`
	Text    string            `json:"text"`
	Count   int64             `json:"count"`
	FirstAt string            `json:"first_at"`
	LastAt  string            `json:"last_at"`
	AckedAt string            `json:"acked_at,omitempty"`
	AckedBy string            `json:"acked_by,omitempty"`
	Event   id.Event          `json:"event,omitzero"`
	Facts   map[string]string `json:"facts,omitempty"`

	first, last, acked time.Time
}

func (h *house) viewAlert(tx *db.Tx, x alert.Alert) (alertView, error) {
	v := alertView{
		ID: x.ID, Kind: x.Kind, Text: alertText(x), Count: x.Count, FirstAt: stamp(x.FirstAt), LastAt: stamp(x.LastAt),
		AckedAt: stamp(x.AckedAt), AckedBy: x.AckedBy, Event: x.Event, Facts: x.Facts,
		first: x.FirstAt, last: x.LastAt, acked: x.AckedAt,
	}
	if x.Account.IsZero() {
		return v, nil
	}
	all, err := h.accounts.Accounts(tx)
	for _, acc := range all {
		if acc.ID == x.Account {
			v.Account = acc.Number
		}
	}
	return v, err
}

// alertText is one line of what happened, from the facts of an alert.
func alertText(x alert.Alert) string {
	f := x.Facts
	switch {
	case x.Kind == alert.SenderDomain && f["pattern"] == "online_form":
		return fmt.Sprintf("an online form sends as its visitors: %s, from <%s>, with From such as %s: put the visitor in Reply-To",
			f["user"], f["reverse_path"], f[alert.FactExamples])
	case x.Kind == alert.SenderDomain && f["pattern"] == "many_addresses":
		return fmt.Sprintf("%s sent from many addresses (%s) that are not authorised, such as %s", f["user"], f["place"], f[alert.FactExamples])
	case x.Kind == alert.SenderDomain:
		return fmt.Sprintf("%s sent from <%s> (%s), which is not authorised", f["user"], f["address"], f["place"])
	case x.Kind == alert.PasswordInClear:
		return f["user"] + " showed its password in clear: regenerate it"
	case f["text"] != "":
		return f["text"]
	}
	parts := make([]string, 0, len(f))
	for _, key := range slices.Sorted(maps.Keys(f)) {
		parts = append(parts, strings.ReplaceAll(key, "_", " ")+" "+f[key])
	}
	if len(parts) == 0 {
		return x.Key
	}
	return strings.Join(parts, ", ")
}

type alertLsCmd struct {
	All     bool   `help:"The acknowledged ones too."`
	Kind    string `help:"Only this kind: sender_domain, account_blocked, sending_problem, returned, queue, password_in_clear, verification, certificates_dns or security." placeholder:"KIND"`
	Account number `help:"Only those of this account." placeholder:"N"`
	Limit   number `default:"100" help:"At most so many, to 1,000."`
}

// Run lists alerts.
func (c alertLsCmd) Run(ctx context.Context, a *app) error {
	kind := alert.Kind(c.Kind)
	if kind != "" && !slices.Contains(alert.Kinds(), kind) {
		return fmt.Errorf("%w: --kind: %q is none of %v", errUsage, c.Kind, alert.Kinds())
	}
	return a.with(ctx, reads, func(h *house) error {
		views := []alertView{}
		err := h.db.View(ctx, func(tx *db.Tx) error {
			filter := alert.Filter{Kind: kind, All: c.All, Limit: int(c.Limit)}
			if c.Account != 0 {
				var err error
				if filter.Account, err = h.accountID(tx, int64(c.Account)); err != nil {
					return err
				}
			}
			found, err := alert.List(tx, filter)
			if err != nil {
				return err
			}
			for _, x := range found {
				v, err := h.viewAlert(tx, x)
				if err != nil {
					return err
				}
				views = append(views, v)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return emit(a, views,
			column[alertView]{"id", func(v alertView) string { return v.ID.String() }},
			column[alertView]{"kind", func(v alertView) string { return string(v.Kind) }},
			column[alertView]{"times", func(v alertView) string { return strconv.FormatInt(v.Count, 10) }},
			column[alertView]{"last", func(v alertView) string { return when(v.last) }},
			column[alertView]{"seen to", func(v alertView) string { return orDash(when(v.acked)) }},
			column[alertView]{"what", func(v alertView) string { return oneLine(v.Text, 100) }},
		)
	})
}

type alertArg struct {
	ID string `arg:"" help:"alr_…, as alert ls shows it."`
}

func (c alertArg) parse() (which id.Alert, err error) {
	if err := which.UnmarshalText([]byte(c.ID)); err != nil {
		return which, fmt.Errorf("%w: %q is no alr_…, as mittente alert ls shows them", errUsage, c.ID)
	}
	return which, nil
}

type alertShowCmd struct{ alertArg }

// Run shows one alert with the event behind it.
func (c alertShowCmd) Run(ctx context.Context, a *app) error {
	which, err := c.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		v := struct {
			alertView
			Refusal *event.Refusal `json:"refusal,omitempty"`
		}{}
		err := h.db.View(ctx, func(tx *db.Tx) error {
			x, err := alert.Get(tx, which)
			if err != nil {
				return unknownID(err, "alert "+which.String(), "mittente alert ls --all")
			}
			if !x.Event.IsZero() {
				if e, err := event.Get(tx, x.Event); err == nil { // may be past its retention
					v.Refusal = e.Detail.Refusal
				}
			}
			v.alertView, err = h.viewAlert(tx, x)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, func(w io.Writer) {
			v.print(w)
			if v.Refusal != nil && v.Refusal.Transcript != "" {
				fmt.Fprintf(w, "\nThe last session:\n%s\n", v.Refusal.Transcript)
			}
		})
	})
}

func (v alertView) print(w io.Writer) {
	fields(w, "alert", v.ID.String(), "kind", string(v.Kind), "what", oneLine(v.Text, 1000), "times", strconv.FormatInt(v.Count, 10),
		"first", when(v.first), "last", when(v.last), "seen to", when(v.acked), "by", v.AckedBy)
	for _, key := range slices.Sorted(maps.Keys(v.Facts)) {
		fmt.Fprintf(w, "  %-16s %s\n", key, oneLine(v.Facts[key], 400))
	}
}

type alertAckCmd struct{ alertArg }

// Run notes that an alert is seen to.
func (c alertAckCmd) Run(ctx context.Context, a *app) error {
	which, err := c.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		var v alertView
		err := h.change(ctx, event.Audit{Action: "alert.ack", Object: which.String()}, func(tx *db.Tx, e *event.Audit) error {
			x, err := alert.Ack(tx, which, h.actor)
			if err != nil {
				return unknownID(err, "alert "+which.String(), "mittente alert ls --all")
			}
			e.Account = x.Account
			v, err = h.viewAlert(tx, x)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, v.print)
	})
}
