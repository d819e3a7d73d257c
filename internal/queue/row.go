package queue

import (
	"encoding/json"
	"fmt"
	"slices"

	"mittente/internal/db"
	"mittente/internal/mail"
)

// column is one column of a row that may hold anything: what another version
// wrote, or a hand. What it can't read it notes on its row, and the columns
// after it are read all the same. A row must not stop those around it.
type column struct {
	name string
	to   any
	row  *reading
}

// reading is how far a row could be read.
type reading struct{ fault string } // of the first column; empty: all of it

func (r *reading) fail(name string, held any, err error) {
	if r.fault != "" {
		return
	}
	if raw, ok := held.([]byte); ok {
		held = string(raw)
	}
	if text, ok := held.(string); ok {
		held = text[:min(len(text), 320)]
	}
	r.fault = fmt.Sprintf("the stored %s can't be read: %q: %v", name, fmt.Sprint(held), err)
}

// Scan reads what the driver has; it fails never.
func (c *column) Scan(src any) error {
	if err := assign(c.to, src); err != nil {
		c.row.fail(c.name, src, err)
	}
	return nil
}

// assign is what database/sql does, for the kinds of the schema, exactly.
func assign(to, src any) error {
	switch to := to.(type) {
	case interface{ Scan(src any) error }:
		return to.Scan(src)
	case *string:
		if v, ok := src.(string); ok {
			*to = v
			return nil
		}
	case *int64:
		if v, ok := src.(int64); ok {
			*to = v
			return nil
		}
	case *bool:
		switch v := src.(type) {
		case bool:
			*to = v
			return nil
		case int64:
			*to = v != 0
			return nil
		}
	case *[]byte:
		if v, ok := src.([]byte); ok {
			*to = slices.Clone(v)
			return nil
		}
	}
	return fmt.Errorf("a %T", src)
}

// scan reads a row into columns, each a name and where it goes.
func (r *reading) scan(row db.Scanner, columns []column) error {
	dest := make([]any, len(columns))
	for i := range columns {
		columns[i].row = r
		dest[i] = &columns[i]
	}
	return row.Scan(dest...)
}

// columns is what scanRecipient reads, in its order.
const columns = `id, message_id, account_id, list_id, user_name, forward_path, notify, original, state, due, attempts,
    lease_node, lease_generation, outcome, settled_at, site, wish, wished_by, parked`

// scanRecipient reads columns, and what else is asked for.
func scanRecipient(row db.Scanner, more ...column) (Recipient, error) {
	var r Recipient
	var read reading
	var path, notify, state, outcome, wish string
	var due, attempts, settled int64
	err := read.scan(row, append([]column{
		{name: "id", to: &r.ID},
		{name: "message", to: &r.Message},
		{name: "account", to: &r.Account},
		{name: "list", to: &r.List},
		{name: "user name", to: &r.User},
		{name: "address", to: &path},
		{name: "NOTIFY", to: &notify},
		{name: "ORCPT", to: &r.Original},
		{name: "state", to: &state},
		{name: "due time", to: &due},
		{name: "number of attempts", to: &attempts},
		{name: "lease", to: &r.Lease.Node},
		{name: "lease", to: &r.Lease.Generation},
		{name: "outcome", to: &outcome},
		{name: "time of settlement", to: &settled},
		{name: "site", to: &r.Site},
		{name: "wish", to: &wish},
		{name: "author of the wish", to: &r.WishedBy},
		{name: "pause", to: &r.Parked},
	}, more...))
	if err != nil {
		return Recipient{}, err
	}
	if r.To, err = mail.ParseForwardPath(path); err != nil {
		r.To, r.RawTo = mail.ForwardPath{}, path
		read.fail("address", path, err)
	}
	r.Notify, _ = mail.ParseNotify(notify) // what can't be read was not asked for
	if outcome != "" {
		if err := json.Unmarshal([]byte(outcome), &r.Last); err != nil { // no reason not to deliver
			var last reading
			last.fail("outcome", outcome, err)
			r.Last = mail.Outcome{Diagnostic: last.fault}
		}
	}
	r.State, r.Attempts, r.Wish = State(state), int(attempts), Operation(wish)
	r.Due, r.SettledAt = db.Time(due), db.Time(settled)
	r.Unreadable = read.fault
	return r, nil
}

// messageColumns is what scanMessage reads, in its order.
const messageColumns = `id, account_id, list_id, user_name, reverse_path, ret, envelope_id, smtputf8, eight_bit, priority,
    signing_domain, header_from, subject, message_id, size, body_hash, header_size, content_id,
    accepted_at, recipients, unsettled, undelivered`

// scanMessage reads messageColumns.
func scanMessage(row db.Scanner) (Stored, error) {
	var m Stored
	var read reading
	var from, signing, ret string
	var priority, header, accepted, recipients, unsettled, undelivered int64
	var hash []byte
	err := read.scan(row, []column{
		{name: "id", to: &m.ID},
		{name: "account", to: &m.Account},
		{name: "list", to: &m.List},
		{name: "user name", to: &m.UserName},
		{name: "sender", to: &from},
		{name: "RET", to: &ret},
		{name: "ENVID", to: &m.EnvelopeID},
		{name: "SMTPUTF8", to: &m.SMTPUTF8},
		{name: "8BITMIME", to: &m.EightBit},
		{name: "priority", to: &priority},
		{name: "signing domain", to: &signing},
		{name: "From field", to: &m.HeaderFrom},
		{name: "subject", to: &m.Subject},
		{name: "Message-ID", to: &m.MessageID},
		{name: "size", to: &m.Size},
		{name: "body hash", to: &hash},
		{name: "size of the header", to: &header},
		{name: "content", to: &m.Content},
		{name: "time of acceptance", to: &accepted},
		{name: "number of recipients", to: &recipients},
		{name: "number of unsettled", to: &unsettled},
		{name: "number of undelivered", to: &undelivered},
	})
	if err != nil {
		return Stored{}, err
	}
	if m.From, err = mail.ParseReversePath(from); err != nil {
		m.From, m.RawFrom = mail.ReversePath{}, from
		read.fail("sender", from, err)
	}
	if n := copy(m.BodyHash[:], hash); n != len(m.BodyHash) {
		read.fail("body hash", hash, fmt.Errorf("%d octets", len(hash)))
	}
	m.Return, _ = mail.ParseReturn(ret) // what can't be read was not asked for
	m.SigningDomain, m.Priority = mail.Domain(signing), mail.Priority(priority)
	m.HeaderSize, m.AcceptedAt = int(header), db.Time(accepted)
	m.Recipients, m.Unsettled, m.Undelivered = int(recipients), int(unsettled), int(undelivered)
	m.Unreadable = read.fault
	return m, nil
}
