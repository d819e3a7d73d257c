package queue

import (
	"fmt"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const (
	insertMessage db.SQL = `
INSERT INTO message (id, account_id, list_id, user_name, reverse_path, smtputf8, eight_bit, priority,
    signing_domain, header_from, subject, message_id, size, body_hash, header_size, content_id,
    accepted_at, recipients, unsettled)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)`

	insertRecipient db.SQL = `
INSERT INTO recipient (id, message_id, account_id, forward_path, domain, priority, state, due, lease_node, lease_generation)
VALUES ($8, $1, $2, $9, $10, $3, $4, $5, $6, $7)`

	// The same for insertRows recipients at once: 10 µs for each with its event
	// instead of 17, and most of that is SQLite's own. With 8 rows it is 7 % slower, with 32 it is 5 % faster.
	insertRecipients db.SQL = `
INSERT INTO recipient (id, message_id, account_id, forward_path, domain, priority, state, due, lease_node, lease_generation)
VALUES
    ($8, $1, $2, $9, $10, $3, $4, $5, $6, $7),
    ($11, $1, $2, $12, $13, $3, $4, $5, $6, $7),
    ($14, $1, $2, $15, $16, $3, $4, $5, $6, $7),
    ($17, $1, $2, $18, $19, $3, $4, $5, $6, $7),
    ($20, $1, $2, $21, $22, $3, $4, $5, $6, $7),
    ($23, $1, $2, $24, $25, $3, $4, $5, $6, $7),
    ($26, $1, $2, $27, $28, $3, $4, $5, $6, $7),
    ($29, $1, $2, $30, $31, $3, $4, $5, $6, $7),
    ($32, $1, $2, $33, $34, $3, $4, $5, $6, $7),
    ($35, $1, $2, $36, $37, $3, $4, $5, $6, $7),
    ($38, $1, $2, $39, $40, $3, $4, $5, $6, $7),
    ($41, $1, $2, $42, $43, $3, $4, $5, $6, $7),
    ($44, $1, $2, $45, $46, $3, $4, $5, $6, $7),
    ($47, $1, $2, $48, $49, $3, $4, $5, $6, $7),
    ($50, $1, $2, $51, $52, $3, $4, $5, $6, $7),
    ($53, $1, $2, $54, $55, $3, $4, $5, $6, $7)`
)

const insertRows = 16

// Enqueue writes a message and its recipients, at least one, in the accepting
// transaction, each with its event. The recipients are leased to this node at
// once, so that they can go straight to the dispatcher after the commit; they
// are pending, due at once, in a process that is no node (Start) and while the
// dispatcher has no room (Direct, Room). It may be repeated with the same message.
func (q *Queue) Enqueue(tx *db.Tx, m *Message, to []mail.Rcpt) ([]Recipient, error) {
	if len(to) == 0 {
		return nil, fmt.Errorf("enqueue %s: no recipient", m.ID)
	}
	if err := q.insertMessage(tx, m, len(to)); err != nil {
		return nil, fmt.Errorf("enqueue %s: %w", m.ID, err)
	}
	state, lease := Pending, Lease{}
	if held := q.lease(); !held.IsZero() && !q.full.Load() && q.roomOf(m.Account) >= len(to) {
		state, lease = Leased, held
	}
	recipients := make([]Recipient, len(to))
	events := make([]event.Event, len(to))
	for i, rcpt := range to {
		recipients[i] = Recipient{
			ID: id.New[id.Recipient](), Message: m.ID, Account: m.Account,
			To: rcpt.To, Notify: rcpt.Notify, Original: rcpt.Original, State: state, Lease: lease, Due: m.AcceptedAt,
		}
		events[i] = event.Event{
			Account: m.Account, Message: m.ID, Recipient: recipients[i].ID,
			At: m.AcceptedAt, Kind: event.Accepted,
		}
	}
	if err := insert(tx, recipients, m.Priority); err != nil {
		return nil, fmt.Errorf("enqueue %s: %w", m.ID, err)
	}
	if err := event.Append(tx, events...); err != nil {
		return nil, fmt.Errorf("enqueue %s: %w", m.ID, err)
	}
	tx.OnCommit(func() {
		q.metrics.accepted.Add(float64(len(to)))
		if state == Pending {
			q.tellDue()
		}
	})
	return recipients, nil
}

func (q *Queue) insertMessage(tx *db.Tx, m *Message, recipients int) error {
	_, err := tx.Exec(insertMessage, m.ID, m.Account, m.List, m.UserName, m.From.String(),
		m.SMTPUTF8, m.EightBit, int64(m.Priority), string(m.SigningDomain), m.HeaderFrom, m.Subject,
		m.MessageID, m.Size, m.BodyHash[:], int64(m.HeaderSize), m.Content, db.Micros(m.AcceptedAt),
		int64(recipients))
	return err
}

// insert writes the recipients of one message, which differ in nothing but
// their identifiers and addresses.
func insert(tx *db.Tx, recipients []Recipient, p mail.Priority) error {
	r := recipients[0]
	shared := []any{
		r.Message, r.Account, int64(p), string(r.State), db.Micros(r.Due), r.Lease.Node, r.Lease.Generation,
	}
	args := make([]any, 0, len(shared)+3*insertRows)
	for len(recipients) > 0 {
		n, statement := 1, insertRecipient
		if len(recipients) >= insertRows {
			n, statement = insertRows, insertRecipients
		}
		args = append(args[:0], shared...)
		for _, r := range recipients[:n] {
			args = append(args, r.ID, r.To.String(), string(r.To.Address.Domain()))
		}
		if _, err := tx.Exec(statement, args...); err != nil {
			return err
		}
		recipients = recipients[n:]
	}
	return nil
}
