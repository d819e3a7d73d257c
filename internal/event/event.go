// Package event is the append-only record of what happened to every recipient.
package event

import (
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

//go:embed schema/*.sql
var schema embed.FS

// Schema is what the room keeps in the database.
func Schema() db.Schema { return db.Schema{Room: "event", FS: schema} }

// ErrNotFound says that there is no such event, or no longer.
var ErrNotFound = errors.New("no such event")

// Kind says what happened.
type Kind string

// The kinds of events. Refused is of a submission that was not accepted, so it
// has no message; all others are of one recipient.
const (
	Accepted  Kind = "accepted"  // responsibility was taken
	Delivered Kind = "delivered" // the next hop took it over
	Deferred  Kind = "deferred"  // to be tried again
	Failed    Kind = "failed"    // the destination will never take it
	Expired   Kind = "expired"   // it was tried for as long as the schedule says
	Cancelled Kind = "cancelled" // somebody of the house called it off
	Held      Kind = "held"      // somebody of the house stopped it
	Resumed   Kind = "resumed"   // somebody of the house let it go on
	Retried   Kind = "retried"   // somebody of the house had it tried before its time
	Refused   Kind = "refused"   // the gate said no
)

// Event is one thing that happened. ID and At are set by Append when they are zero.
type Event struct {
	ID        id.Event
	Account   id.Account
	Message   id.Message
	Recipient id.Recipient
	At        time.Time
	Kind      Kind
	Detail    Detail
}

// Detail is what is known beyond the kind; fields that say nothing are left out.
type Detail struct {
	Outcome *mail.Outcome `json:"outcome,omitempty"` // of the attempt
	Attempt int           `json:"attempt,omitempty"` // counted from 1
	Next    time.Time     `json:"next,omitzero"`     // when it is tried again
	Refusal *Refusal      `json:"refusal,omitempty"`
	Actor   string        `json:"actor,omitempty"` // who of the house did it
	Note    string        `json:"note,omitempty"`  // for people
}

// Refusal says why a submission was not accepted.
type Refusal struct {
	User    string `json:"user,omitempty"`    // name of the SMTP+ user
	Address string `json:"address,omitempty"` // the address at fault
	Place   string `json:"place,omitempty"`   // where it stood: reverse-path, from, sender
	Client  string `json:"client,omitempty"`  // its address
	Reply   string `json:"reply,omitempty"`   // what the client was told

	Reason      string `json:"reason,omitempty"`       // in one word, such as not_authorised
	ReversePath string `json:"reverse_path,omitempty"` // of the envelope; empty also for the null one
	Recipients  int    `json:"recipients,omitempty"`   // of the envelope; 0: not known, for it was refused at MAIL
	Transcript  string `json:"transcript,omitempty"`   // of the session up to here, without secrets
}

const (
	insertEvent db.SQL = `INSERT INTO event (id, account_id, message_id, recipient_id, at, kind, detail)
		VALUES ($6, $1, $2, $7, $3, $4, $5)`
	// The same for insertRows events that differ only in their recipient.
	insertEvents db.SQL = `INSERT INTO event (id, account_id, message_id, recipient_id, at, kind, detail)
		VALUES
		    ($6, $1, $2, $7, $3, $4, $5),
		    ($8, $1, $2, $9, $3, $4, $5),
		    ($10, $1, $2, $11, $3, $4, $5),
		    ($12, $1, $2, $13, $3, $4, $5),
		    ($14, $1, $2, $15, $3, $4, $5),
		    ($16, $1, $2, $17, $3, $4, $5),
		    ($18, $1, $2, $19, $3, $4, $5),
		    ($20, $1, $2, $21, $3, $4, $5),
		    ($22, $1, $2, $23, $3, $4, $5),
		    ($24, $1, $2, $25, $3, $4, $5),
		    ($26, $1, $2, $27, $3, $4, $5),
		    ($28, $1, $2, $29, $3, $4, $5),
		    ($30, $1, $2, $31, $3, $4, $5),
		    ($32, $1, $2, $33, $3, $4, $5),
		    ($34, $1, $2, $35, $3, $4, $5),
		    ($36, $1, $2, $37, $3, $4, $5)`
	selectEvent db.SQL = `SELECT id, account_id, message_id, recipient_id, at, kind, detail FROM event
		WHERE id = $1`
	selectOfMessage db.SQL = `SELECT id, account_id, message_id, recipient_id, at, kind, detail FROM event
		WHERE message_id = $1 ORDER BY id`
	selectRefused db.SQL = `SELECT id, account_id, message_id, recipient_id, at, kind, detail FROM event
		WHERE account_id = $1 AND kind = 'refused' AND (CAST($2 AS BYTEA) IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`
	selectAnyRefused db.SQL = `SELECT id, account_id, message_id, recipient_id, at, kind, detail FROM event
		WHERE kind = 'refused' AND (CAST($1 AS BYTEA) IS NULL OR id < $1) ORDER BY id DESC LIMIT $2`
)

const insertRows = 16

// Append adds events to the record.
func Append(tx *db.Tx, events ...Event) error {
	for len(events) > 0 {
		n := 1
		var err error
		if alike(events) {
			n = insertRows
			err = insertAlike(tx, events[:n])
		} else {
			err = insert(tx, events[0])
		}
		if err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// alike reports whether the first insertRows events differ in nothing but their
// recipient, as those of a message just accepted.
func alike(events []Event) bool {
	if len(events) < insertRows {
		return false
	}
	first := events[0]
	return !slices.ContainsFunc(events[:insertRows], func(e Event) bool {
		e.ID, e.Recipient = first.ID, first.Recipient
		return e != first
	})
}

func insertAlike(tx *db.Tx, events []Event) error {
	shared, err := row(events[0])
	if err != nil {
		return err
	}
	args := make([]any, 0, len(shared)+2*insertRows)
	args = append(args, shared[:]...)
	for _, e := range events {
		args = append(args, identified(e.ID), e.Recipient)
	}
	_, err = tx.Exec(insertEvents, args...)
	return err
}

func insert(tx *db.Tx, e Event) error {
	shared, err := row(e)
	if err != nil {
		return err
	}
	_, err = tx.Exec(insertEvent, append(shared[:], identified(e.ID), e.Recipient)...)
	return err
}

// row is what is stored of an event beside its identifier and its recipient.
func row(e Event) ([5]any, error) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	detail, err := json.Marshal(e.Detail)
	if err != nil {
		return [5]any{}, fmt.Errorf("detail of %s event: %w", e.Kind, err)
	}
	return [5]any{e.Account, e.Message, db.Micros(e.At), string(e.Kind), string(detail)}, nil
}

func identified(e id.Event) id.Event {
	if e.IsZero() {
		return id.New[id.Event]()
	}
	return e
}

// Get returns one event, or ErrNotFound.
func Get(tx *db.Tx, which id.Event) (Event, error) {
	e, err := scan(tx.Row(selectEvent, which))
	if errors.Is(err, sql.ErrNoRows) {
		return Event{}, fmt.Errorf("%v: %w", which, ErrNotFound)
	}
	return e, err
}

// OfMessage returns what happened to a message and its recipients, oldest first.
func OfMessage(tx *db.Tx, m id.Message) ([]Event, error) {
	return db.Collect(tx, scan, selectOfMessage, m)
}

// Page says which part of a list is wanted, newest first.
type Page struct {
	Before id.Event // of the page before, its last; zero: the first page
	Limit  int      // at most 1,000; 0: 100
}

const (
	defaultLimit = 100
	maxLimit     = 1_000
)

func (p Page) limit() int {
	if p.Limit <= 0 {
		return defaultLimit
	}
	return min(p.Limit, maxLimit)
}

// Refusals returns the refusals of an account, or of all when it is zero, newest first.
func Refusals(tx *db.Tx, account id.Account, page Page) ([]Event, error) {
	if account.IsZero() {
		return db.Collect(tx, scan, selectAnyRefused, page.Before, page.limit())
	}
	return db.Collect(tx, scan, selectRefused, account, page.Before, page.limit())
}

func scan(row db.Scanner) (Event, error) {
	var e Event
	var at int64
	var detail string
	if err := row.Scan(&e.ID, &e.Account, &e.Message, &e.Recipient, &at, &e.Kind, &detail); err != nil {
		return Event{}, err
	}
	e.At = db.Time(at)
	if err := json.Unmarshal([]byte(detail), &e.Detail); err != nil {
		return Event{}, fmt.Errorf("detail of %v: %w", e.ID, err)
	}
	return e, nil
}
