package queue

import (
	"encoding/json"
	"fmt"

	"mittente/internal/db"
	"mittente/internal/mail"
)

// scanRecipient reads id, message_id, account_id, forward_path, state, due,
// attempts, lease_node, lease_generation, outcome, settled_at and what else is
// asked for.
func scanRecipient(row db.Scanner, more ...any) (Recipient, error) {
	var r Recipient
	var path, state, outcome string
	var due, attempts, settled int64
	dest := append([]any{
		&r.ID, &r.Message, &r.Account, &path, &state, &due, &attempts,
		&r.Lease.Node, &r.Lease.Generation, &outcome, &settled,
	}, more...)
	if err := row.Scan(dest...); err != nil {
		return Recipient{}, err
	}
	to, err := mail.ParseForwardPath(path)
	if err != nil {
		return Recipient{}, fmt.Errorf("recipient %s: %w", r.ID, err)
	}
	if outcome != "" {
		if err := json.Unmarshal([]byte(outcome), &r.Last); err != nil {
			return Recipient{}, fmt.Errorf("recipient %s: outcome: %w", r.ID, err)
		}
	}
	r.To, r.State, r.Attempts = to, State(state), int(attempts)
	r.Due, r.SettledAt = db.Time(due), db.Time(settled)
	return r, nil
}

// scanMessage reads all columns of message, in the order of the schema, with
// its three counters at the end.
func scanMessage(row db.Scanner) (Stored, error) {
	var m Stored
	var from, signing string
	var priority, header, accepted, recipients, unsettled, undelivered int64
	var hash []byte
	err := row.Scan(&m.ID, &m.Account, &m.List, &m.UserName, &from, &m.SMTPUTF8, &m.EightBit, &priority,
		&signing, &m.HeaderFrom, &m.Subject, &m.MessageID, &m.Size, &hash, &header, &m.Content,
		&accepted, &recipients, &unsettled, &undelivered)
	if err != nil {
		return Stored{}, err
	}
	if m.From, err = mail.ParseReversePath(from); err != nil {
		return Stored{}, fmt.Errorf("message %s: %w", m.ID, err)
	}
	if n := copy(m.BodyHash[:], hash); n != len(m.BodyHash) {
		return Stored{}, fmt.Errorf("message %s: body hash of %d octets", m.ID, n)
	}
	m.SigningDomain, m.Priority = mail.Domain(signing), mail.Priority(priority)
	m.HeaderSize, m.AcceptedAt = int(header), db.Time(accepted)
	m.Recipients, m.Unsettled, m.Undelivered = int(recipients), int(unsettled), int(undelivered)
	return m, nil
}
