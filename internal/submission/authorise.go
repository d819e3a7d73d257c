package submission

import (
	"context"
	"errors"

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

// visit is one message that a session hands in, as far as it has come.
type visit struct {
	Session
	env mail.Envelope
}

// authorise judges every mailbox of From and Sender (S20).
func (g *Gate) authorise(ctx context.Context, v visit, h message.Header) (author, error) {
	from, senders, err := h.Senders()
	if reverse := v.env.From; errors.Is(err, message.ErrNoFrom) && !reverse.IsNull() {
		from, err = []mail.Address{reverse.Address}, message.CheckFrom(reverse.Address) // completed with it
	}
	if err != nil {
		return author{}, g.refuse(ctx, v, Rejection{Reason: Malformed, Place: PlaceFrom, Cause: err})
	}
	var first author
	for i, a := range from {
		grant, err := g.judge(ctx, v, claim{a, PlaceFrom})
		if err != nil {
			return first, err
		}
		if i == 0 {
			first = author{a, grant}
		}
	}
	for _, a := range senders {
		if _, err := g.judge(ctx, v, claim{a, PlaceSender}); err != nil {
			return first, err
		}
	}
	return first, nil
}

// judge asks whether the user may send as the claimed address.
func (g *Gate) judge(ctx context.Context, v visit, c claim) (sender.Grant, error) {
	user := v.Principal.User
	verdict, grant, err := g.deps.Senders.Check(ctx, user.ID, c.address)
	if err != nil {
		return grant, storageRejection(user.Name, err)
	}
	refusal := Rejection{Reason: NotAuthorised, Address: c.address.Display(), Place: c.place}
	switch {
	case verdict == sender.Authorised:
		return grant, nil
	case verdict == sender.Pending:
		refusal.Reason, refusal.Kind, refusal.State, refusal.Entry = Pending, grant.Kind, grant.State, grant.Entry
	case c.place == PlaceFrom && !v.env.From.IsNull():
		// A foreign From under an authorised reverse-path: the visitor of a form,
		// who belongs in Reply-To (S24).
		refusal.Reason = FormVisitor
	}
	return grant, g.refuse(ctx, v, refusal)
}

// unreadable turns what ReadHeader said into a refusal, and passes on what the
// reading itself said.
func (g *Gate) unreadable(ctx context.Context, v visit, err error) error {
	switch {
	case errors.Is(err, message.ErrMalformed), errors.Is(err, message.ErrTooLarge):
		return g.refuse(ctx, v, Rejection{Reason: Malformed, Place: PlaceFrom, Cause: err})
	case errors.Is(err, message.ErrLoop):
		return g.refuse(ctx, v, Rejection{Reason: Loop, Cause: err})
	}
	return err
}
