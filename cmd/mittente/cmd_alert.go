package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/submission"
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
	if f["text"] != "" {
		return f["text"]
	}
	text := ""
	switch x.Kind {
	case alert.SenderDomain:
		text = senderText(f)
	case alert.PasswordInClear:
		text = f["user"] + " showed its password in clear: regenerate it"
	case alert.SendingProblem, alert.Security:
		text = problemText(f)
	case alert.Returned:
		text = fmt.Sprintf("nobody can be told that mail to %s failed (%s): %s", f["to"], f["message"], f["reply"])
	case alert.Queue:
		if f["site"] != "" {
			text = fmt.Sprintf("%s does not work since %s, recipients that wait: %s; %s", f["site"], f["since"], f["waiting"], f["reply"])
		}
	case alert.Verification, alert.CertificatesDNS:
		text = verificationText(f)
	case alert.AccountBlocked:
	}
	return cmp.Or(text, factsText(f), x.Key)
}

func senderText(f map[string]string) string {
	switch {
	case f["pattern"] == "online_form":
		return fmt.Sprintf("an online form sends as its visitors: %s, from <%s>, with From such as %s: put the visitor in Reply-To",
			f["user"], f["reverse_path"], f[alert.FactExamples])
	case f["pattern"] == "many_addresses":
		return fmt.Sprintf("%s sent from many addresses that are not authorised (%s), such as %s", f["user"], f["place"], f[alert.FactExamples])
	case f["reason"] == string(submission.Pending):
		return fmt.Sprintf("%s sent from <%s> (%s), which is awaiting verification", f["user"], f["address"], f["place"])
	}
	return fmt.Sprintf("%s sent from <%s> (%s), which is not authorised", f["user"], f["address"], f["place"])
}

// problemText is for what a user or a site can't do, and for who should not.
func problemText(f map[string]string) string {
	switch f["reason"] {
	case string(account.Inactive):
		return fmt.Sprintf("%s wants to send from %s and is not active", f["user"], f["client"])
	case string(account.NotFromHere):
		return fmt.Sprintf("the right password of %s came from %s, where it may not be used: regenerate it, or allow the network", f["user"], f["client"])
	case string(submission.OverQuota):
		return fmt.Sprintf("%s has used up its quota of %s recipients an hour", f["user"], f["quota_per_hour"])
	case string(submission.Malformed):
		return fmt.Sprintf("%s sent a header that can't be accepted: %s", f["user"], cmp.Or(f["cause"], f["place"]))
	case string(submission.Loop):
		return f["user"] + " handed in mail that goes round in a loop"
	}
	switch {
	case f["pattern"] == "guessing":
		return fmt.Sprintf("passwords are guessed from %s, the last one for %s", f["client"], cmp.Or(f["name"], "no name"))
	case f["site"] != "":
		return fmt.Sprintf("%s refuses this server: %s", f["site"], f["reply"])
	}
	return ""
}

// verificationText is for what owners of addresses answered, and for what the DNS says.
func verificationText(f map[string]string) string {
	switch {
	case f["outcome"] != "":
		answer := map[string]string{string(letter.OutcomeRefused): "does not authorise it", string(letter.OutcomeRevoked): "took the consent back"}[f["outcome"]]
		return fmt.Sprintf("the owner of %s %s; it was asked for by %s", f["address"], cmp.Or(answer, "answered: "+f["outcome"]), f["requested_by"])
	case f["selector"] != "":
		return fmt.Sprintf("the key %s of %s: %s", f["selector"], f["domain"], f["problem"])
	case f["revoked_at"] != "":
		return fmt.Sprintf("%s: %s; it is revoked at %s unless its records come back", f["domain"], f["problem"], f["revoked_at"])
	case f["problem"] != "":
		return fmt.Sprintf("%s is %s: %s", f["domain"], f["state"], f["problem"])
	case f["reply"] != "":
		return fmt.Sprintf("the DNS does not answer since %s: %s", f["since"], f["reply"])
	}
	return ""
}

// factsText is for an alert that has no words of its own here.
func factsText(f map[string]string) string {
	parts := make([]string, 0, len(f))
	for _, key := range slices.Sorted(maps.Keys(f)) {
		parts = append(parts, strings.ReplaceAll(key, "_", " ")+" "+f[key])
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
		err := h.db.View(ctx, func(tx *db.Tx) (err error) {
			filter := alert.Filter{Kind: kind, All: c.All, Limit: int(c.Limit)}
			if filter.Account, err = h.accountFilter(tx, c.Account); err != nil {
				return err
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
