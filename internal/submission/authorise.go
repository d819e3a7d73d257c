package submission

import (
	"context"
	"errors"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/message"
	"mittente/internal/sender"
)

// claim is an address that a submission gives itself, and where it stands.
type claim struct {
	address mail.Address
	place   Place
}

// author is the first From mailbox: its domain signs, so that DMARC aligns.
type author struct {
	address mail.Address
	grant   sender.Grant
}

// authorise judges every mailbox of From and Sender (S20).
func (g *Gate) authorise(ctx context.Context, s Session, reverse mail.ReversePath, h message.Header) (author, error) {
	from, senders, err := h.Senders()
	if errors.Is(err, message.ErrNoFrom) && !reverse.IsNull() {
		from, err = []mail.Address{reverse.Address}, message.CheckFrom(reverse.Address) // completed with it
	}
	if err != nil {
		return author{}, g.refuse(ctx, s, Rejection{Reason: Malformed, Place: PlaceFrom, Cause: err})
	}
	var first author
	for i, a := range from {
		grant, err := g.judge(ctx, s, claim{a, PlaceFrom})
		if err != nil {
			return first, g.visitor(reverse, err)
		}
		if i == 0 {
			first = author{a, grant}
		}
	}
	for _, a := range senders {
		if _, err := g.judge(ctx, s, claim{a, PlaceSender}); err != nil {
			return first, err
		}
	}
	return first, nil
}

// judge asks whether the user may send as the claimed address.
func (g *Gate) judge(ctx context.Context, s Session, c claim) (sender.Grant, error) {
	user := s.Principal.User
	verdict, grant, err := g.deps.Senders.Check(ctx, user.ID, c.address)
	if err != nil {
		return grant, storageRejection(user.Name, err)
	}
	switch verdict {
	case sender.Authorised:
		return grant, nil
	case sender.Pending:
		err = g.refuse(ctx, s, Rejection{Reason: Pending, Address: c.address.Display(), Place: c.place})
	case sender.NotAuthorised:
		err = g.refuse(ctx, s, Rejection{Reason: NotAuthorised, Address: c.address.Display(), Place: c.place})
	}
	return grant, err
}

// visitor makes of a foreign From under an authorised reverse-path the refusal
// that tells where the visitor of a form belongs (S24).
func (g *Gate) visitor(reverse mail.ReversePath, err error) error {
	var r *Rejection
	if !reverse.IsNull() && errors.As(err, &r) && r.Reason == NotAuthorised {
		r.Reason = FormVisitor
	}
	return err
}

// unreadable turns what ReadHeader said into a refusal, and passes on what the
// reading itself said.
func (g *Gate) unreadable(ctx context.Context, s Session, err error) error {
	switch {
	case errors.Is(err, message.ErrMalformed), errors.Is(err, message.ErrTooLarge):
		return g.refuse(ctx, s, Rejection{Reason: Malformed, Place: PlaceFrom, Cause: err})
	case errors.Is(err, message.ErrLoop):
		return g.refuse(ctx, s, Rejection{Reason: Loop, Cause: err})
	}
	return err
}

// refuse records a refusal and returns it. That it can't be recorded, for the
// disk is full, makes it no less a refusal.
func (g *Gate) refuse(ctx context.Context, s Session, r Rejection) error {
	user := s.Principal.User
	r.User = user.Name
	e := event.Event{
		ID:      id.New[id.Event](),
		Account: user.Account,
		At:      time.Now(),
		Kind:    event.Refused,
		Detail: event.Detail{Refusal: &event.Refusal{
			User:    user.Name,
			Address: r.Address,
			Place:   string(r.Place),
			Client:  s.Client.Addr().String(),
		}},
	}
	if err := g.deps.DB.Batch(ctx, func(tx *db.Tx) error { return event.Append(tx, e) }); err == nil {
		r.Event = e.ID
	}
	return &r
}
