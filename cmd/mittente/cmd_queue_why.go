package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/queue"
	"mittente/internal/reason"
)

type queueWhyCmd struct {
	ID string `arg:"" help:"msg_… (all its recipients) or rcp_…"`
}

type whyView struct {
	Recipient id.Recipient  `json:"recipient"`
	To        string        `json:"to"`
	State     queue.State   `json:"state"`
	Attempts  int           `json:"attempts"`
	Why       reason.Reason `json:"why"`
}

// Run says why mail is not sent yet, and what comes next.
func (c queueWhyCmd) Run(ctx context.Context, a *app) error {
	ids, err := parseQueueIDs([]string{c.ID})
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		var views []whyView
		err := h.db.View(ctx, func(tx *db.Tx) error {
			found, err := h.asked(tx, ids)
			if err != nil {
				return err
			}
			for _, r := range found {
				why, err := h.why(tx, r, time.Now())
				if err != nil {
					return err
				}
				v := viewRecipient(r)
				views = append(views, whyView{r.ID, v.To, r.State, r.Attempts, why})
			}
			return nil
		})
		if err != nil {
			return err
		}
		if a.output != "table" {
			return emit(a, views)
		}
		for i, v := range views {
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			v.print(a.out, a)
		}
		return nil
	})
}

// asked reads the recipients that an id names.
func (h *house) asked(tx *db.Tx, ids queueIDs) ([]queue.Recipient, error) {
	if len(ids.recipients) == 1 {
		found, err := h.queue.Recipient(tx, ids.recipients[0])
		if err != nil {
			return nil, unknownID(err, "recipient "+ids.recipients[0].String(), "mittente queue ls --state all")
		}
		return []queue.Recipient{found}, nil
	}
	m := ids.messages[0]
	if _, err := h.stored(tx, m); err != nil {
		return nil, err
	}
	return h.queue.Recipients(tx, queue.Selection{Message: m}, queue.Page{Limit: queue.MaxLimit})
}

// why puts together what the database has and what the nodes tell.
func (h *house) why(tx *db.Tx, r queue.Recipient, now time.Time) (reason.Reason, error) {
	nodes, site, err := reason.Nodes(tx, h.queue, r, now)
	if err != nil {
		return reason.Reason{}, err
	}
	running := served(h.cfg.DataDir) // a heartbeat outlives its server by up to half a minute
	for i := range nodes {
		nodes[i].Alive = nodes[i].Alive && running
	}
	state := reason.State{Recipient: r, Site: site}
	if state.Paused, err = h.listPaused(tx, r.Message); err != nil {
		return reason.Reason{}, err
	}
	if r.State == queue.Held {
		if state.By, state.At, err = heldBy(tx, r); err != nil {
			return reason.Reason{}, err
		}
	}
	return reason.Why(state, nodes, now), nil
}

func (h *house) listPaused(tx *db.Tx, m id.Message) (bool, error) {
	stored, err := h.stored(tx, m)
	if err != nil {
		return false, err
	}
	return h.paused(tx, stored.List), nil
}

// heldBy finds in the record who holds a recipient, and since when.
func heldBy(tx *db.Tx, r queue.Recipient) (by string, at time.Time, err error) {
	events, err := event.OfMessage(tx, r.Message)
	for _, e := range events {
		if e.Recipient == r.ID && e.Kind == event.Held {
			by, at = e.Detail.Actor, e.At
		}
	}
	return by, at, err
}

func (v whyView) print(w io.Writer, a *app) {
	fmt.Fprintf(w, "%s  %s  %s\n", v.Recipient, v.To, a.paint(string(v.State)))
	fields(w,
		"why", a.hint(v.Why.Text), "site", v.Why.Site, "limit of", v.Why.Limit, "last reply", oneLine(v.Why.Reply, 400), "by", v.Why.By,
		"asked", v.Why.Wish, "since", when(v.Why.Since), "looked at again", when(v.Why.Next), "may be attempted", when(v.Why.Forecast), "node", v.Why.Node,
	)
}
