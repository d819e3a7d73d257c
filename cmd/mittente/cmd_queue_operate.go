package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

// selectionFlags choose recipients; those given hold together.
type selectionFlags struct {
	Account   number   `help:"Only those of this account."                                           placeholder:"N"`
	List      number   `help:"Only those of this list."                                              placeholder:"N"`
	User      string   `help:"Only those that this SMTP+ user handed in."                            placeholder:"NAME"`
	Domain    string   `help:"Only recipients at this domain."                                       placeholder:"D"`
	Site      string   `help:"Only those last attempted at this site, as queue why names it."        placeholder:"S"`
	Reply     string   `help:"Only those whose last reply has this text in it, whatever its case."   placeholder:"T"`
	OlderThan Duration `help:"Only those accepted longer ago than this, such as 30m or 2d."          placeholder:"D"`
}

// selection turns the flags into what the queue understands.
func (f selectionFlags) selection(ctx context.Context, h *house) (queue.Selection, error) {
	s := queue.Selection{User: f.User, Site: f.Site, Reply: f.Reply}
	if f.Domain != "" {
		domain, err := mail.ParseDomain(f.Domain)
		if err != nil {
			return s, fmt.Errorf("%w: --domain: %w", errUsage, err)
		}
		s.Domain = domain
	}
	if f.OlderThan != "" {
		age, err := f.OlderThan.Parse()
		if err != nil {
			return s, fmt.Errorf("%w: --older-than: %w", errUsage, err)
		}
		s.OlderThan = time.Now().Add(-age)
	}
	return s, h.db.View(ctx, func(tx *db.Tx) (err error) {
		if s.Account, err = h.accountFilter(tx, f.Account); err != nil {
			return err
		}
		if f.List != 0 {
			l, err := h.accounts.List(tx, int64(f.List))
			if err != nil {
				return err
			}
			s.List = l.ID
		}
		return h.hasBeenUser(tx, f.User)
	})
}

// hasBeenUser makes sure that there is or was a user of that name, if one is
// given: a name that was mistyped must not look like an empty queue.
func (h *house) hasBeenUser(tx *db.Tx, name string) error {
	if name == "" {
		return nil
	}
	_, missing := h.accounts.UserByName(tx, name)
	if missing == nil {
		return nil
	}
	removed, err := h.accounts.Users(tx, account.Filter{Removed: true})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(removed, func(u account.User) bool { return u.Name == name }) {
		return nil
	}
	return missing
}

// queueIDs are the ids that a command names, of messages or of recipients.
type queueIDs struct {
	messages   []id.Message
	recipients []id.Recipient
}

func parseQueueIDs(texts []string) (ids queueIDs, err error) {
	for _, text := range texts {
		var m id.Message
		var r id.Recipient
		switch {
		case m.UnmarshalText([]byte(text)) == nil:
			ids.messages = append(ids.messages, m)
		case r.UnmarshalText([]byte(text)) == nil:
			ids.recipients = append(ids.recipients, r)
		default:
			return ids, fmt.Errorf("%w: %q is neither rcp_… nor msg_…, as mittente queue ls and the 250 reply show them", errUsage, text)
		}
	}
	return ids, nil
}

// operateFlags are those of all four operations.
type operateFlags struct {
	selectionFlags

	ID     []string `arg:"" help:"msg_… or rcp_…; or choose by flags." optional:""`
	All    bool     `help:"All of them; needed when nothing else narrows them down."`
	DryRun bool     `help:"Only count, and change nothing."`
}

type (
	queueRetryCmd   struct{ operateFlags }
	queueHoldCmd    struct{ operateFlags }
	queueReleaseCmd struct{ operateFlags }
	queueCancelCmd  struct{ operateFlags }
)

// Run makes what waits due at once.
func (c queueRetryCmd) Run(ctx context.Context, a *app) error {
	return c.run(ctx, a, queue.Retry, "due now", "attempted at once where nothing else binds")
}

// Run stops what waits.
func (c queueHoldCmd) Run(ctx context.Context, a *app) error {
	return c.run(ctx, a, queue.Hold, "held", "until mittente queue release")
}

// Run lets go on what is held.
func (c queueReleaseCmd) Run(ctx context.Context, a *app) error {
	return c.run(ctx, a, queue.Resume, "released", "")
}

// Run takes mail back that was not delivered yet.
func (c queueCancelCmd) Run(ctx context.Context, a *app) error {
	return c.run(ctx, a, queue.Cancel, "cancelled", "never attempted again, and no sender is told")
}

type operationView struct {
	Operation  queue.Operation `json:"operation"`
	DryRun     bool            `json:"dry_run"`
	Recipients int             `json:"recipients"`
}

func (f operateFlags) run(ctx context.Context, a *app, do queue.Operation, done, what string) error {
	ids, err := parseQueueIDs(f.ID)
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		orders, err := f.orders(ctx, h, do, ids)
		if err != nil {
			return err
		}
		v := operationView{Operation: operationWord(do), DryRun: f.DryRun}
		if v.Recipients, err = h.expected(ctx, orders); err != nil {
			return err
		}
		if !f.DryRun {
			if v.Recipients, err = h.operate(ctx, orders, a.counting(string(v.Operation), v.Recipients)); err != nil {
				return err
			}
		}
		return emitOne(a, v, func(w io.Writer) {
			n := count(v.Recipients, "recipient")
			switch {
			case f.DryRun:
				fmt.Fprintf(w, "%s would be %s; nothing was changed.\n", n, done)
			case v.Recipients == 0:
				fmt.Fprintf(w, "%s %s: nothing is in a state for that.\n", n, done)
			case what == "":
				fmt.Fprintf(w, "%s %s.\n", n, done)
			default:
				fmt.Fprintf(w, "%s %s: %s.\n", n, done, a.hint(what))
			}
		})
	})
}

// operationWord is the operation as the command line calls it.
func operationWord(o queue.Operation) queue.Operation {
	if o == queue.Resume {
		return "release"
	}
	return o
}

// orders are one for each id, or one for the flags.
func (f operateFlags) orders(ctx context.Context, h *house, do queue.Operation, ids queueIDs) ([]queue.Order, error) {
	s, err := f.selection(ctx, h)
	if err != nil {
		return nil, err
	}
	if len(f.ID) == 0 {
		s.All = f.All
		return []queue.Order{{Do: do, Of: s, Actor: h.actor}}, nil
	}
	if f.All {
		return nil, fmt.Errorf("%w: --all and the name of one do not go together", errUsage)
	}
	var orders []queue.Order
	for _, m := range ids.messages {
		if err := h.db.View(ctx, func(tx *db.Tx) error { _, err := h.stored(tx, m); return err }); err != nil {
			return nil, err
		}
		of := s
		of.Message = m
		orders = append(orders, queue.Order{Do: do, Of: of, Actor: h.actor})
	}
	for _, r := range ids.recipients {
		err := h.db.View(ctx, func(tx *db.Tx) error { _, err := h.queue.Recipient(tx, r); return err })
		if err := unknownID(err, "recipient "+r.String(), "mittente queue ls --state all"); err != nil {
			return nil, err
		}
		of := s
		of.Recipient = r
		orders = append(orders, queue.Order{Do: do, Of: of, Actor: h.actor})
	}
	return orders, nil
}

// expected counts what the orders are about.
func (h *house) expected(ctx context.Context, orders []queue.Order) (total int, err error) {
	err = h.db.View(ctx, func(tx *db.Tx) error {
		for _, o := range orders {
			n, err := h.queue.Count(tx, o)
			if total += n; err != nil {
				return selectionError(err)
			}
		}
		return nil
	})
	return total, err
}

// operate does what is ordered, each with its entry in the audit log.
func (h *house) operate(ctx context.Context, orders []queue.Order, tell func(done int)) (total int, err error) {
	for _, o := range orders {
		before := total
		o.Progress = func(done int) { tell(before + done) }
		n, err := h.queue.Operate(ctx, o)
		total += n
		if err != nil {
			return total, errors.Join(err, h.recordOperation(ctx, o, n))
		}
		if err := h.recordOperation(ctx, o, n); err != nil {
			return total, err
		}
	}
	return total, nil
}

func selectionError(err error) error {
	if errors.Is(err, queue.ErrUnselected) {
		return fmt.Errorf("%w: say which: an id, a filter such as --domain, or --all", errUsage)
	}
	return err
}

// recordOperation notes who did what to how many; the interrupted are noted too.
func (h *house) recordOperation(ctx context.Context, o queue.Order, n int) error {
	if n == 0 {
		return nil
	}
	return h.db.Batch(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		return event.Record(tx, event.Audit{
			Account: o.Of.Account, Actor: h.actor, Action: "queue." + string(operationWord(o.Do)),
			Object: describeSelection(o.Of), Reason: count(n, "recipient"),
		})
	})
}

// describeSelection says a selection as the command line would.
func describeSelection(s queue.Selection) string {
	switch {
	case !s.Message.IsZero():
		return s.Message.String()
	case !s.Recipient.IsZero():
		return s.Recipient.String()
	}
	text := ""
	add := func(flag, value string) {
		if value != "" {
			text += " --" + flag + " " + shellWord(value)
		}
	}
	add("domain", string(s.Domain))
	add("site", s.Site)
	add("user", s.User)
	add("reply", s.Reply)
	if !s.Account.IsZero() {
		add("account", s.Account.String())
	}
	if !s.List.IsZero() {
		add("list", s.List.String())
	}
	if !s.OlderThan.IsZero() {
		add("older-than", stamp(s.OlderThan))
	}
	if text == "" {
		return "--all"
	}
	return text[1:]
}

// counting tells a person at a terminal how far work has come: count, rate and
// what is left, once a second.
func (a *app) counting(what string, expected int) func(done int) {
	if !a.person {
		return func(int) {}
	}
	begun := time.Now()
	last := begun
	return func(done int) {
		now := time.Now()
		if now.Sub(last) < time.Second || done == 0 {
			return
		}
		last = now
		rate := float64(done) / now.Sub(begun).Seconds()
		left := time.Duration(float64(max(expected-done, 0)) / rate * float64(time.Second))
		fmt.Fprintf(a.err, "%s: %d of %d, %.0f a second, about %s to go\n", what, done, expected, rate, left.Round(time.Second))
	}
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
