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
	"mittente/internal/mail"
	"mittente/internal/record"
	"mittente/internal/sender"
)

type domainCmd struct {
	Add     domainAddCmd     `cmd:"" help:"Add a domain to an account; prints the DNS records to publish."`
	Records domainRecordsCmd `cmd:"" help:"Print the DNS records to publish."`
	Verify  domainVerifyCmd  `cmd:"" help:"Look at the DNS and say what is there and what is missing."`
	Ls      domainLsCmd      `cmd:"" help:"List the domains of an account."`
	Revoke  domainRevokeCmd  `cmd:"" help:"Allow a domain no longer, for all users of the account; wants --reason."`
	Rm      domainRmCmd      `cmd:"" help:"Remove a domain from an account and from the lists of its users."`
	Key     domainKeyCmd     `cmd:"" help:"The DKIM keys of a domain."`
}

type domainView struct {
	Domain     mail.Domain  `json:"domain"`
	Account    int64        `json:"account"`
	State      sender.State `json:"state"`
	Override   bool         `json:"override"`
	Reason     string       `json:"reason,omitempty"`
	LastError  string       `json:"last_error,omitempty"`
	VerifiedAt string       `json:"verified_at,omitempty"`
	CheckedAt  string       `json:"checked_at,omitempty"`

	verified, checked time.Time
}

func viewDomain(d sender.Domain, account int64) domainView {
	return domainView{
		Domain: d.Name, Account: account, State: d.State, Override: d.Override, Reason: d.Reason, LastError: d.LastError,
		VerifiedAt: stamp(d.VerifiedAt), CheckedAt: stamp(d.CheckedAt), verified: d.VerifiedAt, checked: d.CheckedAt,
	}
}

// remark is what is worth knowing besides the state: why it was overridden, and
// what stood against it while it is not verified.
func (v domainView) remark() string {
	var parts []string
	if v.Reason != "" {
		parts = append(parts, v.Reason)
	}
	if v.LastError != "" && v.State != sender.StateVerified {
		parts = append(parts, v.LastError)
	}
	return strings.Join(parts, "; ")
}

// domainArg is the argument that most domain commands have.
type domainArg struct {
	Domain  string `arg:""      help:"The domain."`
	Account int64  `default:"1" help:"The account it belongs to."`
}

func (d domainArg) parse() (mail.Domain, error) {
	name, err := mail.ParseDomain(d.Domain)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	return name, nil
}

type domainAddCmd struct{ domainArg }

// Run adds a domain.
func (c domainAddCmd) Run(ctx context.Context, a *app) error {
	if _, err := c.parse(); err != nil {
		return err
	}
	wanted, err := sender.ParseDomains([]string{c.Domain})
	if err != nil {
		return err
	}
	return a.with(ctx, writes, func(h *house) error {
		prepared, err := h.senders.NewDomain(c.Domain)
		if err != nil {
			return err
		}
		v := struct {
			domainView
			Records  []record.Record `json:"records"`
			Warnings []string        `json:"warnings"`
		}{Warnings: warningsOf(wanted)}
		err = h.change(ctx, event.Audit{Action: "domain.add", Object: string(prepared.Name())}, func(tx *db.Tx, e *event.Audit) error {
			owner, err := h.accountID(tx, c.Account)
			if err != nil {
				return err
			}
			e.Account = owner
			added, err := h.senders.AddDomain(tx, owner, prepared)
			if err != nil {
				return err
			}
			v.domainView = viewDomain(added, c.Account)
			v.Records, err = h.senders.Records(tx, owner, added.Name)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, func(w io.Writer) {
			fmt.Fprintf(w, "%s is added and waits for its verification. Publish in its DNS:\n\n", v.Domain)
			printRecords(w, v.Records)
			fmt.Fprintf(w, "\nThen: %s domain verify %s\n", a.again(), v.Domain)
			for _, warning := range v.Warnings {
				fmt.Fprintln(w, "warning:", warning)
			}
		})
	})
}

// warningsOf is what the typist should look at again.
func warningsOf(wanted []sender.Wanted) []string {
	all := []string{}
	for _, w := range wanted {
		if w.Warning != "" {
			all = append(all, w.Warning)
		}
	}
	return all
}

// printRecords writes each record so that it can be copied, and what some DNS
// panels want done otherwise.
func printRecords(w io.Writer, records []record.Record) {
	for _, r := range records {
		fmt.Fprintf(w, "%-9s  %s  %s\n           %s\n", r.Purpose, r.Name, r.Type, r.Value)
	}
	fmt.Fprintln(w)
	for _, r := range records {
		if r.Purpose == record.PurposeSPF {
			fmt.Fprintf(w, "%s may have an SPF record already: a name has one only (RFC 7208 §3.2), so add %s to that one instead.\n",
				r.Name, strings.Fields(r.Value)[1])
		}
	}
	fmt.Fprintln(w, "A TXT value over 255 octets is entered in some DNS panels as several quoted strings: \"first part\" \"second part\".")
}

type domainRecordsCmd struct{ domainArg }

// Run prints the records.
func (c domainRecordsCmd) Run(ctx context.Context, a *app) error {
	name, err := c.parse()
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		var records []record.Record
		err := h.db.View(ctx, func(tx *db.Tx) error {
			owner, err := h.keyOwner(tx, c.Account, name)
			if err != nil {
				return err
			}
			records, err = h.senders.Records(tx, owner, name)
			return err
		})
		if err != nil {
			return err
		}
		if a.output == "table" {
			printRecords(a.out, records)
			return nil
		}
		return emit(a, records)
	})
}

type domainVerifyCmd struct {
	domainArg

	Mail     string `default:"" enum:",postmaster,hostmaster,admin" help:"Ask by mail instead: ${enum} at the domain." placeholder:"WHO"`
	Lang     string `default:"" enum:",it,en" help:"Language of that mail: it or en; default: that of the list." placeholder:"L"`
	Override bool   `help:"Take it for verified on your word, without the DNS; wants --reason."`
	Reason   string `help:"Why; goes into the audit log with your name." placeholder:"T"`
}

// Run looks at the DNS, or takes the owner's word.
func (c domainVerifyCmd) Run(ctx context.Context, a *app) error {
	name, err := c.parse()
	switch {
	case err != nil:
		return err
	case c.Override && strings.TrimSpace(c.Reason) == "":
		return fmt.Errorf("%w: --override wants a --reason, for the audit log", errUsage)
	case c.Mail != "" && c.Override:
		return fmt.Errorf("%w: --mail and --override do not go together", errUsage)
	case c.Reason != "" && !c.Override:
		return fmt.Errorf("%w: --reason goes with --override", errUsage)
	}
	return a.with(ctx, reads, func(h *house) error {
		var owner id.Account
		err := h.db.View(ctx, func(tx *db.Tx) (err error) {
			owner, err = h.accountID(tx, c.Account)
			return err
		})
		if err != nil {
			return err
		}
		if c.Mail != "" {
			return c.askByMail(ctx, a, h, owner)
		}
		if c.Override {
			return c.override(ctx, a, h, owner, name)
		}
		return c.ask(ctx, a, h, owner, name)
	})
}

func (c domainVerifyCmd) override(ctx context.Context, a *app, h *house, owner id.Account, name mail.Domain) error {
	var v domainView
	err := h.db.Batch(ctx, func(tx *db.Tx) error {
		d, err := h.senders.Override(tx, owner, name, h.actor, c.Reason)
		v = viewDomain(d, c.Account)
		return err
	})
	if err != nil {
		return err
	}
	return emitOne(a, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s is %s by your word, %s, which is in the audit log: %s\n", v.Domain, v.State, h.actor, v.Reason)
	})
}

// ask prints what was found against what is expected; a domain that is not
// verified by it is a failure.
func (c domainVerifyCmd) ask(ctx context.Context, a *app, h *house, owner id.Account, name mail.Domain) error {
	a.progress("asking the DNS for the records of %s", name)
	d, checks, err := h.senders.VerifyDomain(ctx, owner, name)
	if err != nil {
		return err
	}
	v := struct {
		domainView
		Checks []record.Check `json:"checks"`
	}{viewDomain(d, c.Account), checks}
	err = emitOne(a, v, func(w io.Writer) {
		for _, check := range checks {
			printCheck(w, a, check)
		}
		fmt.Fprintf(w, "\n%s is %s.\n", d.Name, a.paint(string(d.State)))
		if d.State == sender.StateVerified {
			fmt.Fprintln(w, a.hint("Verifying activates nobody: mittente user edit NAME --active"))
		}
	})
	if err == nil && d.State != sender.StateVerified {
		return fmt.Errorf("%w: %s is not verified: %s", errSaid, name, d.LastError)
	}
	return err
}

func printCheck(w io.Writer, a *app, c record.Check) {
	verdict := "missing"
	switch {
	case c.OK:
		verdict = "ok"
	case !c.Required:
		verdict = "proposed"
	}
	fmt.Fprintf(w, "%s  %s  %s %s\n", a.paint(verdict), c.Purpose, c.Name, c.Type)
	if c.OK {
		return
	}
	if c.Advice == "" {
		fmt.Fprintf(w, "  expected  %s\n", c.Value)
	} else {
		fmt.Fprintf(w, "  to do     %s\n", c.Advice)
	}
	for _, found := range c.Found {
		fmt.Fprintf(w, "  found     %s\n", oneLine(found, 600))
	}
	if len(c.Found) == 0 {
		fmt.Fprintf(w, "  found     nothing: %s\n", c.Problem)
	}
}

type domainLsCmd struct {
	Account int64 `default:"1" help:"The account."`
}

// Run lists the domains of an account.
func (c domainLsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var all []domainView
		err := h.viewIn(ctx, c.Account, func(tx *db.Tx, owner id.Account) error {
			found, err := h.senders.Domains(tx, owner)
			all = convert(found, func(d sender.Domain) domainView { return viewDomain(d, c.Account) })
			return err
		})
		if err != nil {
			return err
		}
		return emit(a, all,
			column[domainView]{"domain", func(v domainView) string { return v.Domain.Unicode() }},
			column[domainView]{"state", func(v domainView) string { return string(v.State) }},
			column[domainView]{"by", func(v domainView) string { return map[bool]string{true: "override", false: "DNS"}[v.Override] }},
			column[domainView]{"verified", func(v domainView) string { return orDash(when(v.verified)) }},
			column[domainView]{"checked", func(v domainView) string { return orDash(when(v.checked)) }},
			column[domainView]{"remark", func(v domainView) string { return oneLine(v.remark(), 60) }},
		)
	})
}
