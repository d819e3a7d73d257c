package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/query"
	"mittente/internal/queue"
)

type messageCmd struct {
	Ls      messageLsCmd      `cmd:"" help:"List messages, the newest first, or search them."`
	Refused messageRefusedCmd `cmd:"" help:"List what was refused and never accepted, the newest first."`
	Show    messageShowCmd    `cmd:"" help:"Show a message: envelope, recipients, and what happened."`
	Raw     messageRawCmd     `cmd:"" help:"Write the bytes of a message as they are kept, while they are kept."`
}

type messageView struct {
	ID            id.Message `json:"id"`
	User          string     `json:"user"`
	From          string     `json:"from"`
	HeaderFrom    string     `json:"header_from"`
	Subject       string     `json:"subject"`
	MessageID     string     `json:"message_id"`
	Size          int64      `json:"size"`
	Priority      int        `json:"priority"`
	SigningDomain string     `json:"signing_domain"`
	AcceptedAt    string     `json:"accepted_at"`
	RecipientN    int        `json:"recipient_count"`
	Unsettled     int        `json:"unsettled"`
	Undelivered   int        `json:"undelivered"`

	accepted time.Time
}

func viewMessage(m queue.Stored) messageView {
	return messageView{
		ID: m.ID, User: m.UserName, From: cmp.Or(m.From.Address.Display(), m.RawFrom), HeaderFrom: m.HeaderFrom,
		Subject: m.Subject, MessageID: m.MessageID, Size: m.Size, Priority: int(m.Priority),
		SigningDomain: string(m.SigningDomain), AcceptedAt: stamp(m.AcceptedAt), accepted: m.AcceptedAt,
		RecipientN: m.Recipients, Unsettled: m.Unsettled, Undelivered: m.Undelivered,
	}
}

type messageLsCmd struct {
	Query   []string   `arg:"" help:"What to search for: to: from: user: status: domain: before: after: msgid: subject:, such as to:you@example.net after:2d status:failed; a bare word is looked for in the subject." optional:""`
	User    string     `help:"Only those of this SMTP+ user."  placeholder:"NAME"`
	Account number     `help:"Only those of this account."     placeholder:"N"`
	Before  id.Message `help:"Only those older than this one." placeholder:"msg_…"`
	Limit   number     `default:"100"                          help:"At most so many."`
}

// matchView is a message as a search finds it.
type matchView struct {
	messageView
	Status   query.Standing         `json:"status"` // of its worst recipient
	Standing map[query.Standing]int `json:"standing"`
}

func viewMatch(m queue.Match) matchView {
	return matchView{viewMessage(m.Stored), m.Worst(), m.Standing}
}

// Run lists messages.
func (c messageLsCmd) Run(ctx context.Context, a *app) error {
	what, err := query.Parse(strings.Join(c.Query, " "), time.Now())
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if what.Standing == query.Refused {
		return fmt.Errorf("%w: what was refused was never accepted: mittente message refused lists it", errUsage)
	}
	what.User = cmp.Or(c.User, what.User)
	return a.with(ctx, reads, func(h *house) error {
		var found queue.Found
		err := h.db.View(ctx, func(tx *db.Tx) (err error) {
			if what.Account, err = h.accountFilter(tx, c.Account); err != nil {
				return err
			}
			found, err = h.queue.Search(tx, what, c.Before, int(c.Limit))
			return err
		})
		if err != nil {
			return err
		}
		if err := c.print(a, convert(found.Messages, viewMatch)); err != nil {
			return err
		}
		c.sumUp(a, found)
		return nil
	})
}

func (messageLsCmd) print(a *app, all []matchView) error {
	return emit(a, all,
		column[matchView]{"id", func(v matchView) string { return v.ID.String() }},
		column[matchView]{"accepted", func(v matchView) string { return when(v.accepted) }},
		column[matchView]{"user", func(v matchView) string { return orDash(v.User) }},
		column[matchView]{"from", func(v matchView) string { return orDash(oneLine(v.From, 40)) }},
		column[matchView]{"state", matchView.state},
		column[matchView]{"subject", func(v matchView) string { return oneLine(v.Subject, 50) }},
	)
}

// state is the worst standing of the recipients, with how many have it.
func (v matchView) state() string {
	if v.RecipientN < 2 {
		return string(v.Status)
	}
	return fmt.Sprintf("%s %d/%d", v.Status, v.Standing[v.Status], v.RecipientN)
}

// sumUp tells a person how many there are, and how to see the rest.
func (c messageLsCmd) sumUp(a *app, found queue.Found) {
	switch {
	case len(found.Messages) == 0 && found.Next.IsZero():
		fmt.Fprintln(a.err, "no messages")
	case !found.Next.IsZero():
		more := ""
		if found.More {
			more = "+"
		}
		fmt.Fprintf(a.err, "%d of %d%s; go on with --before %s\n", len(found.Messages), found.Total, more, found.Next)
	}
}

type messageRefusedCmd struct {
	Account number   `help:"Only those of this account." placeholder:"N"`
	Before  id.Event `help:"Only those before this one." placeholder:"evt_…"`
	Limit   number   `default:"100" help:"At most so many, to 1,000."`
}

type refusalView struct {
	ID id.Event `json:"id"`
	At string   `json:"at"`
	event.Refusal

	at time.Time
}

// Run lists refusals.
func (c messageRefusedCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		views := []refusalView{}
		err := h.db.View(ctx, func(tx *db.Tx) (err error) {
			var owner id.Account
			if owner, err = h.accountFilter(tx, c.Account); err != nil {
				return err
			}
			found, err := event.Refusals(tx, owner, event.Page{Before: c.Before, Limit: int(c.Limit)})
			for _, e := range found {
				if e.Detail.Refusal != nil {
					views = append(views, refusalView{e.ID, stamp(e.At), *e.Detail.Refusal, e.At})
				}
			}
			return err
		})
		if err != nil {
			return err
		}
		return emit(a, views,
			column[refusalView]{"id", func(v refusalView) string { return v.ID.String() }},
			column[refusalView]{"at", func(v refusalView) string { return when(v.at) }},
			column[refusalView]{"user", func(v refusalView) string { return orDash(v.User) }},
			column[refusalView]{"client", func(v refusalView) string { return v.Client }},
			column[refusalView]{"address", func(v refusalView) string { return orDash(oneLine(v.Address, 50)) }},
			column[refusalView]{"where", func(v refusalView) string { return orDash(v.Place) }},
			column[refusalView]{"reply", func(v refusalView) string { return oneLine(v.Reply, 100) }},
		)
	})
}

type messageShowCmd struct {
	ID id.Message `arg:"" help:"msg_…, as the 250 reply said."`
}

type eventView struct {
	ID          id.Event     `json:"id"`
	At          string       `json:"at"`
	Kind        event.Kind   `json:"kind"`
	Recipient   id.Recipient `json:"recipient,omitzero"`
	To          string       `json:"to,omitempty"`
	Attempt     int          `json:"attempt,omitempty"`
	NextAttempt string       `json:"next_attempt,omitempty"`
	Reply       string       `json:"reply,omitempty"`
	RemoteMTA   string       `json:"remote_mta,omitempty"`
	RemoteAddr  string       `json:"remote_addr,omitempty"`
	TLS         string       `json:"tls,omitempty"`

	at, next time.Time
}

type messageDetail struct {
	messageView
	Recipients []recipientView `json:"recipients"`
	Events     []eventView     `json:"events"`
}

// Run shows a message.
func (c messageShowCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		v, err := h.message(ctx, c.ID)
		if err != nil {
			return err
		}
		return emitOne(a, v, func(w io.Writer) { v.print(w, a) })
	})
}

// stored reads a message, which must be there.
func (h *house) stored(tx *db.Tx, m id.Message) (queue.Stored, error) {
	found, err := h.queue.Message(tx, m)
	return found, unknownID(err, "message "+m.String(), "mittente message ls")
}

// unknownID says of an id that nothing has where those are shown that something has.
func unknownID(err error, what, listing string) error {
	if !isAny(err, queue.ErrNotFound, alert.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%s %w: %s shows all", what, errNotFound, listing)
}

// message reads everything that is known of a message.
func (h *house) message(ctx context.Context, m id.Message) (messageDetail, error) {
	var v messageDetail
	err := h.db.View(ctx, func(tx *db.Tx) error {
		stored, err := h.stored(tx, m)
		if err != nil {
			return err
		}
		recipients, err := h.queue.Recipients(tx, queue.Selection{Message: m}, queue.Page{Limit: queue.MaxLimit})
		if err != nil {
			return err
		}
		events, err := event.OfMessage(tx, m)
		v = messageDetail{messageView: viewMessage(stored), Recipients: convert(recipients, viewRecipient)}
		to := map[id.Recipient]string{}
		for _, r := range v.Recipients {
			to[r.ID] = r.To
		}
		v.Events = convert(events, func(e event.Event) eventView { return viewEvent(e, to[e.Recipient]) })
		return err
	})
	return v, err
}

func viewEvent(e event.Event, to string) eventView {
	v := eventView{
		ID: e.ID, At: stamp(e.At), Kind: e.Kind, Recipient: e.Recipient, To: to,
		Attempt: e.Detail.Attempt, NextAttempt: stamp(e.Detail.Next), at: e.At, next: e.Detail.Next,
	}
	if o := e.Detail.Outcome; o != nil {
		v.Reply, v.RemoteMTA, v.RemoteAddr, v.TLS = oneLine(o.Reply(), 1000), o.RemoteMTA, o.RemoteAddr, o.TLS
	}
	return v
}

func (v messageDetail) print(w io.Writer, a *app) {
	from := v.From
	if from == "" {
		from = "<>"
	}
	fields(w,
		"message", v.ID.String(), "user", v.User, "accepted", when(v.accepted), "size", strconv.FormatInt(v.Size, 10)+" bytes",
		"reverse-path", from, "From", oneLine(v.HeaderFrom, 200), "Subject", oneLine(v.Subject, 200), "Message-ID", oneLine(v.MessageID, 200),
		"priority", strconv.Itoa(v.Priority), "signed by", v.SigningDomain,
	)
	fmt.Fprintln(w)
	rows := [][]string{{"RECIPIENT", "TO", "STATE", "ATTEMPTS", "NEXT ATTEMPT"}}
	for _, r := range v.Recipients {
		rows = append(rows, []string{r.ID.String(), oneLine(r.To, 60), string(r.State), strconv.Itoa(r.Attempts), when(r.due)})
	}
	_ = a.writeTable(rows)
	fmt.Fprintln(w)
	v.timeline(w)
}

// remote is the server at the other end: its name and address, or the address alone.
func (e eventView) remote() string {
	if strings.Trim(e.RemoteMTA, "[]") == e.RemoteAddr {
		return e.RemoteAddr
	}
	return strings.TrimSpace(e.RemoteMTA + " " + e.RemoteAddr)
}

// timeline tells the events in their order.
func (v messageDetail) timeline(w io.Writer) {
	for _, e := range v.Events {
		text := fmt.Sprintf("%s  %-9s  %s", e.at.Local().Format("2006-01-02 15:04:05.000"+zoneLayout(e.at)), e.Kind, oneLine(e.To, 60))
		var more []string
		if host := e.remote(); host != "" {
			more = append(more, "by "+host)
		}
		if e.TLS != "" {
			more = append(more, e.TLS)
		}
		if e.Reply != "" {
			more = append(more, e.Reply)
		}
		if !e.next.IsZero() {
			more = append(more, "again at "+when(e.next))
		}
		if len(more) > 0 {
			text += ": " + strings.Join(more, "; ")
		}
		fmt.Fprintln(w, text)
	}
}

type messageRawCmd struct {
	ID id.Message `arg:"" help:"msg_…, as the 250 reply said."`
}

// Run writes the content, byte for byte, whatever --output says.
func (c messageRawCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var m queue.Stored
		err := h.db.View(ctx, func(tx *db.Tx) (err error) {
			m, err = h.stored(tx, c.ID)
			return err
		})
		if err != nil {
			return err
		}
		r, err := h.spool.Open(ctx, m.Content)
		if err != nil {
			return err
		}
		_, err = io.Copy(a.out, r)
		return errors.Join(err, r.Close())
	})
}
