package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

type queueCmd struct {
	Ls   queueLsCmd   `cmd:"" help:"List recipients: those that wait, or with --state those in any state."`
	Show queueShowCmd `cmd:"" help:"Show a recipient, or all recipients of a message."`

	Why     queueWhyCmd     `cmd:"" help:"Say why mail is not sent yet: which limit binds, whose reply asked to wait, what comes next."`
	Retry   queueRetryCmd   `cmd:"" help:"Attempt now what waits for its time."`
	Hold    queueHoldCmd    `cmd:"" help:"Attempt no more what waits, until it is released."`
	Release queueReleaseCmd `cmd:"" help:"Let go on what is held."`
	Cancel  queueCancelCmd  `cmd:"" help:"Take back what was not delivered yet; its senders are not told."`
}

type recipientView struct {
	ID          id.Recipient  `json:"id"`
	Message     id.Message    `json:"message"`
	To          string        `json:"to"`
	State       queue.State   `json:"state"`
	Attempts    int           `json:"attempts"`
	NextAttempt string        `json:"next_attempt,omitempty"`
	SettledAt   string        `json:"settled_at,omitempty"`
	LastReply   string        `json:"last_reply,omitempty"`
	Last        *mail.Outcome `json:"last,omitempty"`

	due, settled time.Time
}

func viewRecipient(r queue.Recipient) recipientView {
	v := recipientView{
		ID: r.ID, Message: r.Message, To: cmp.Or(r.To.Address.Display(), r.RawTo), State: r.State, Attempts: r.Attempts,
		SettledAt: stamp(r.SettledAt), settled: r.SettledAt,
	}
	if !r.State.Settled() {
		v.NextAttempt, v.due = stamp(r.Due), r.Due
	}
	if r.Last.Action != "" {
		v.LastReply, v.Last = oneLine(r.Last.Reply(), 1000), &r.Last
	}
	return v
}

func recipientColumns() []column[recipientView] {
	return []column[recipientView]{
		{"id", func(v recipientView) string { return v.ID.String() }},
		{"to", func(v recipientView) string { return oneLine(v.To, 50) }},
		{"state", func(v recipientView) string { return string(v.State) }},
		{"attempts", func(v recipientView) string { return strconv.Itoa(v.Attempts) }},
		{"next attempt", func(v recipientView) string { return orDash(when(v.due)) }},
		{"last reply", func(v recipientView) string { return orDash(oneLine(v.LastReply, 80)) }},
	}
}

type queueLsCmd struct {
	selectionFlags

	State string `default:"" enum:",pending,leased,held,delivered,failed,expired,cancelled,suppressed,all" help:"Only this state; default: all that wait." placeholder:"STATE"`
	Limit number `default:"100" help:"At most so many."`
}

// Run lists recipients.
func (c queueLsCmd) Run(ctx context.Context, a *app) error {
	states := []queue.State{queue.State(c.State)}
	if c.State == "all" {
		states = append([]queue.State{""}, settledStates()...)
	}
	return a.with(ctx, reads, func(h *house) error {
		selected, err := c.selection(ctx, h)
		if err != nil {
			return err
		}
		var all []recipientView
		err = h.db.View(ctx, func(tx *db.Tx) error {
			for _, selected.State = range states {
				found, err := h.queue.Recipients(tx, selected, queue.Page{Limit: int(c.Limit)})
				if err != nil {
					return err
				}
				all = append(all, convert(found, viewRecipient)...)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return emit(a, all[:min(len(all), int(c.Limit))], recipientColumns()...)
	})
}

func settledStates() []queue.State {
	var settled []queue.State
	for _, s := range queue.States() {
		if s.Settled() {
			settled = append(settled, s)
		}
	}
	return settled
}

type queueShowCmd struct {
	ID string `arg:"" help:"rcp_… or msg_…"`
}

// Run shows one recipient, or those of a message.
func (c queueShowCmd) Run(ctx context.Context, a *app) error {
	var message id.Message
	if err := message.UnmarshalText([]byte(c.ID)); err == nil {
		return a.with(ctx, reads, func(h *house) error {
			v, err := h.recipients(ctx, message)
			if err != nil {
				return err
			}
			return emit(a, v, recipientColumns()...)
		})
	}
	var recipient id.Recipient
	if err := recipient.UnmarshalText([]byte(c.ID)); err != nil {
		return fmt.Errorf("%w: %q is neither rcp_… nor msg_…, as mittente queue ls and the 250 reply show them", errUsage, c.ID)
	}
	return a.with(ctx, reads, func(h *house) error {
		var v recipientView
		err := h.db.View(ctx, func(tx *db.Tx) error {
			found, err := h.queue.Recipient(tx, recipient)
			v = viewRecipient(found)
			return unknownID(err, "recipient "+recipient.String(), "mittente queue ls --state all")
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, v.print)
	})
}

func (v recipientView) print(w io.Writer) {
	fields(w,
		"recipient", v.ID.String(), "message", v.Message.String(), "to", v.To, "state", string(v.State),
		"attempts", strconv.Itoa(v.Attempts), "next attempt", when(v.due), "settled", when(v.settled), "last reply", v.LastReply,
	)
}

// recipients returns those of a message, which must be there.
func (h *house) recipients(ctx context.Context, message id.Message) (views []recipientView, err error) {
	err = h.db.View(ctx, func(tx *db.Tx) error {
		if _, err := h.stored(tx, message); err != nil {
			return err
		}
		found, err := h.queue.Recipients(tx, queue.Selection{Message: message}, queue.Page{Limit: queue.MaxLimit})
		views = convert(found, viewRecipient)
		return err
	})
	return views, err
}
