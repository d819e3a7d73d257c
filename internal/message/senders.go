package message

import (
	"fmt"

	"mittente/internal/mail"
)

// Senders returns every mailbox of the From and Sender fields: those that must be
// authorised (requirement S20). The order is theirs. Errors wrap ErrMultipleFrom,
// ErrNoFrom (sender is given nevertheless) or ErrMalformed.
func (h Header) Senders() (from, sender []mail.Address, err error) {
	if sender, err = h.mailboxes(kindSender, 1); err != nil {
		return nil, nil, err
	}
	if from, err = h.mailboxes(kindFrom, maxMailboxes); err != nil {
		return nil, nil, err
	}
	if from == nil {
		return nil, sender, ErrNoFrom
	}
	return from, sender, nil
}

// CheckFrom says whether an address may be put in a From field that Complete adds:
// it is nil, or wraps ErrMalformed for an address that Senders would refuse there
// (a local-part that looks like another mailbox).
func CheckFrom(a mail.Address) error {
	found, err := parseMailboxes([]byte(a.String()), 1)
	switch {
	case err != nil:
		return fmt.Errorf("%w: From: %w", ErrMalformed, err)
	case len(found) != 1 || found[0] != a:
		return fmt.Errorf("%w: From: <%s> reads as another address", ErrMalformed, a)
	}
	return nil
}

// mailboxes reads the only field of a kind; nil when there is none.
func (h Header) mailboxes(k kind, most int) ([]mail.Address, error) {
	var found []mail.Address
	for _, s := range h.fields {
		switch {
		case s.kind != k:
			continue
		case found != nil && k == kindFrom:
			return nil, ErrMultipleFrom
		case found != nil:
			return nil, fmt.Errorf("%w: more than one %s field", ErrMalformed, h.at(s).Name())
		}
		var err error
		if found, err = parseMailboxes(h.at(s).body(), most); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, h.at(s).Name(), err)
		}
	}
	return found, nil
}
