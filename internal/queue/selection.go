package queue

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// ErrUnselected says that a selection narrows nothing and does not say All.
var ErrUnselected = errors.New("queue: nothing is selected")

// Selection narrows the queue: a recipient is in it when every field that is set
// holds for it.
type Selection struct {
	All bool // set for an operation that no field narrows

	Account   id.Account
	List      id.List
	User      string // name of the SMTP+ user
	Domain    mail.Domain
	Site      string // of the last outcome
	Message   id.Message
	Recipient id.Recipient
	State     State     // empty: all that wait; with Message or Recipient: any
	OlderThan time.Time // accepted before
	Reply     string    // stands in the last reply, whatever its case
}

// narrows reports whether any field is set.
func (s Selection) narrows() bool {
	s.All = false
	return s != Selection{}
}

// Place is where a recipient stands in a listing.
type Place struct {
	Due time.Time
	ID  id.Recipient
}

// Place returns where r stands in a listing.
func (r Recipient) Place() Place { return Place{Due: r.Due, ID: r.ID} }

// Page is a part of a listing.
type Page struct {
	After Place // the last of the page before; zero: from the beginning
	Limit int   // 0: DefaultLimit; at most MaxLimit
}

// Bounds of listings and of counting.
const (
	DefaultLimit = 100
	MaxLimit     = 100_000
	MaxDepth     = 2_000_000 // a Depth of so many means "at least"
)

func (p Page) limit() int { return min(cmp.Or(max(p.Limit, 0), DefaultLimit), MaxLimit) }

// narrowed holds for what a selection's arguments say.
const narrowed = `
  AND (CAST($1 AS BYTEA) IS NULL OR account_id = $1)
  AND (CAST($2 AS BYTEA) IS NULL OR list_id = $2)
  AND (CAST($3 AS TEXT) = '' OR user_name = $3)
  AND (CAST($4 AS TEXT) = '' OR domain = $4)
  AND (CAST($5 AS TEXT) = '' OR site = $5)
  AND (CAST($6 AS BYTEA) IS NULL OR id < $6)
  AND (CAST($7 AS TEXT) = '' OR LOWER(outcome) LIKE $7 ESCAPE '!')`

// byDue is the order of what waits, from a place on.
const byDue = `
  AND due >= $8 AND (due > $8 OR id > $9)
ORDER BY due, id LIMIT $10`

// byAge is the order of what is settled, the newest first.
const byAge = `
  AND (CAST($8 AS BYTEA) IS NULL OR id < $8)
ORDER BY id DESC LIMIT $9`

// Each state has its own index, so that a million rows are not sorted for the first hundred.
const (
	selectRecipient db.SQL = `SELECT ` + columns + ` FROM recipient WHERE id = $1`

	selectPending db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE state = 'pending' AND NOT parked` + narrowed + byDue
	selectParked db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE parked` + narrowed + byDue
	selectLeased db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE state = 'leased'` + narrowed + byDue
	selectHeld db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE state = 'held'` + narrowed + byDue

	selectDelivered db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE state = 'delivered'` + narrowed + byAge
	selectUndelivered db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE state IN ('failed', 'expired', 'cancelled', 'suppressed') AND state = $10` + narrowed + byAge

	selectRecipientsOf db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE message_id = $10 AND (CAST($11 AS TEXT) = '' OR state = $11)` + narrowed + `
  AND (CAST($8 AS BYTEA) IS NULL OR id > $8)
ORDER BY id LIMIT $9`
)

// args are the parameters of narrowed.
func (s Selection) args() []any {
	var before any
	if !s.OlderThan.IsZero() {
		limit := id.Before[id.Recipient](s.OlderThan)
		before = limit[:]
	}
	return []any{s.Account, s.List, s.User, string(s.Domain), s.Site, before, s.pattern()}
}

// pattern finds outcomes, as they are stored, that may have what Reply wants:
// its longest word. Whether they have all of it, says matches.
func (s Selection) pattern() string {
	longest := ""
	for word := range strings.FieldsSeq(s.Reply) {
		if len(word) > len(longest) && isASCII(word) { // engines differ in what else is lower case
			longest = word
		}
	}
	if longest == "" {
		return ""
	}
	stored, err := json.Marshal(strings.ToLower(longest))
	if err != nil {
		return ""
	}
	escape := strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")
	return "%" + escape.Replace(string(stored[1:len(stored)-1])) + "%"
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// matches reports what the statements leave open.
func (s Selection) matches(r Recipient) bool {
	return s.Reply == "" || strings.Contains(strings.ToLower(r.Last.Reply()), strings.ToLower(s.Reply))
}

// Recipients lists recipients: those of one message in their order; else those
// in a settled state, the newest first; else those that wait, the first due first.
func (q *Queue) Recipients(tx *db.Tx, s Selection, p Page) ([]Recipient, error) {
	var list []Recipient
	for len(list) < p.limit() {
		found, err := s.page(tx, p)
		if err != nil {
			return nil, fmt.Errorf("recipients: %w", err)
		}
		for _, r := range found {
			if s.matches(r) && len(list) < p.limit() {
				list = append(list, r)
			}
		}
		if len(found) < p.limit() {
			break
		}
		p.After = found[len(found)-1].Place()
	}
	return list, nil
}

// page reads as much as a page has, of what may be in the selection.
func (s Selection) page(tx *db.Tx, p Page) ([]Recipient, error) {
	switch {
	case !s.Recipient.IsZero():
		return s.one(tx, p)
	case !s.Message.IsZero():
		return s.read(tx, selectRecipientsOf, p.After.ID, int64(p.limit()), s.Message, string(s.State))
	case s.State == Delivered:
		return s.read(tx, selectDelivered, p.After.ID, int64(p.limit()))
	case s.State.Settled():
		return s.read(tx, selectUndelivered, p.After.ID, int64(p.limit()), string(s.State))
	}
	var list []Recipient
	for _, statement := range s.waiting() {
		found, err := s.read(tx, statement, db.Micros(p.After.Due), p.After.ID[:], int64(p.limit()))
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	slices.SortFunc(list, func(a, b Recipient) int {
		return cmp.Or(a.Due.Compare(b.Due), a.ID.Compare(b.ID))
	})
	return list[:min(len(list), p.limit())], nil
}

// waiting returns the statements that together read the selected unsettled states.
func (s Selection) waiting() []db.SQL {
	of := map[State][]db.SQL{
		Pending: {selectPending, selectParked}, Leased: {selectLeased}, Held: {selectHeld},
		"": {selectPending, selectParked, selectLeased, selectHeld},
	}
	return of[s.State]
}

func (s Selection) read(tx *db.Tx, statement db.SQL, more ...any) ([]Recipient, error) {
	return db.Collect(tx, func(row db.Scanner) (Recipient, error) { return scanRecipient(row) },
		statement, append(s.args(), more...)...)
}

// one is the selection of a single recipient, if the other fields hold for it.
func (s Selection) one(tx *db.Tx, p Page) ([]Recipient, error) {
	if !p.After.ID.IsZero() {
		return nil, nil
	}
	found, err := db.Collect(tx, func(row db.Scanner) (Recipient, error) { return scanRecipient(row) }, selectRecipient, s.Recipient)
	return slices.DeleteFunc(found, func(r Recipient) bool { return !s.has(r) }), err
}

// has reports what narrowed and the states do for a recipient that was found otherwise.
func (s Selection) has(r Recipient) bool {
	return !slices.Contains([]bool{
		s.Account.IsZero() || r.Account == s.Account,
		s.List.IsZero() || r.List == s.List,
		s.User == "" || r.User == s.User,
		s.Domain == "" || r.To.Address.Domain() == s.Domain,
		s.Site == "" || r.Site == s.Site,
		s.Message.IsZero() || r.Message == s.Message,
		s.State == "" || r.State == s.State,
		s.OlderThan.IsZero() || r.ID.Time().Before(s.OlderThan),
	}, false)
}

// Recipient returns one recipient, or ErrNotFound.
func (q *Queue) Recipient(tx *db.Tx, r id.Recipient) (Recipient, error) {
	found, err := scanRecipient(tx.Row(selectRecipient, r))
	if err != nil {
		return Recipient{}, fmt.Errorf("recipient %s: %w", r, notFound(err))
	}
	return found, nil
}
