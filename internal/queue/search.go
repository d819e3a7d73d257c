package queue

import (
	"fmt"
	"math"
	"strings"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/query"
)

// MaxFound is up to where messages found are counted.
const MaxFound = 10_000

const (
	// searchTime is how long one search looks through messages that no index leads to.
	searchTime = 50 * time.Millisecond
	// searchChunk is how many messages it looks at between two looks at the clock.
	searchChunk = 1000
)

// Found is a page of what a search has found, the newest first.
type Found struct {
	Messages []Match
	Total    int        // of this page and those after it; at least so many when More is set
	More     bool       // there are more than Total, or it was not looked to the end
	Next     id.Message // what the next page has to be before; zero: there is none
}

// Match is a message with where its recipients stand.
type Match struct {
	Stored
	Standing map[query.Standing]int // how many stand where
}

// Worst is the standing of the message: that of its worst recipient.
func (m Match) Worst() query.Standing {
	for _, s := range query.Standings() {
		if m.Standing[s] > 0 {
			return s
		}
	}
	return ""
}

// Search returns the messages that are before the given one, all if it is zero,
// and match: at most limit, or DefaultLimit if that is 0. What an index leads to is
// found at once. For the rest it looks through the messages, the newest first, for
// some 50 ms: then the page may be short, and Next says where it goes on.
func (q *Queue) Search(tx *db.Tx, what query.Query, before id.Message, limit int) (Found, error) {
	found, err := search{
		tx: tx, began: time.Now(), what: what, limit: Page{Limit: limit}.limit(),
	}.run(before)
	if err != nil {
		return Found{}, fmt.Errorf("search: %w", err)
	}
	for i := range found.Messages {
		m := &found.Messages[i]
		if m.Stored, err = q.Message(tx, m.ID); err != nil {
			return Found{}, fmt.Errorf("search: %w", err)
		}
		if m.Standing, err = standing(tx, m.Stored); err != nil {
			return Found{}, fmt.Errorf("search: %w", err)
		}
	}
	return found, nil
}

// search is one search under way.
type search struct {
	tx    *db.Tx
	began time.Time
	what  query.Query
	limit int
}

// way is an index that may lead to what is searched.
type way struct {
	open        bool
	count, find db.SQL
	args        []any // of count
}

// ways are all of them, those that tend to lead to less first.
func (s search) ways() []way {
	w := s.what
	state, _, _ := standingArgs(w.Standing)
	settled := state.Settled() && state != Delivered
	return []way{
		{w.MessageID != "", countByMessageID, findByMessageID, []any{w.MessageID}},
		{!w.To.IsZero(), countByTo, findByTo, []any{string(w.To.Domain()), strings.ToLower(w.To.String())}},
		{!w.From.IsZero(), countByFrom, findByFrom, []any{strings.ToLower(w.From.String()), strings.ToLower(w.From.Display())}},
		{state == Leased, countByLeased, findByLeased, nil},
		{state == Held, countByHeld, findByHeld, nil},
		{settled, countByUndelivered, findByUndelivered, nil},
		{state == Pending, countByPending, findByPending, nil},
		{w.Domain != "" && w.To.IsZero(), countByDomain, findByDomain, []any{string(w.Domain)}},
		{w.User != "", countByUser, findByUser, []any{w.User}},
		{!w.Account.IsZero(), countByAccount, findByAccount, []any{w.Account}},
	}
}

// run finds the messages, of which it returns the identifiers only.
func (s search) run(before id.Message) (Found, error) {
	low, high := s.bounds(before)
	if s.what.Standing == query.Refused || s.apart() {
		return Found{}, nil
	}
	if s.what.Message.IsZero() {
		for _, w := range s.ways() {
			if !w.open {
				continue
			}
			var n int
			if err := s.tx.Row(w.count, append(w.args, int64(MaxFound+1))...).Scan(&n); err != nil {
				return Found{}, err
			}
			if n <= MaxFound {
				ids, err := s.find(w.find, low, high)
				return s.found(ids, len(ids), false), err
			}
		}
	}
	return s.walk(low, high)
}

// apart reports whether the query asks for a recipient at two domains.
func (s search) apart() bool {
	return !s.what.To.IsZero() && s.what.Domain != "" && s.what.To.Domain() != s.what.Domain
}

// walk looks through the messages, the newest first, until the time is over.
func (s search) walk(low, high []byte) (Found, error) {
	var ids []id.Message
	for len(ids) <= MaxFound {
		chunk, err := db.Collect(s.tx, scanMessageID, selectChunk, low, high, int64(searchChunk-1))
		if err != nil {
			return Found{}, err
		}
		from := low
		if len(chunk) > 0 {
			from = chunk[0][:]
		}
		more, err := s.find(findRange, from, high)
		if err != nil {
			return Found{}, err
		}
		ids = append(ids, more...)
		if len(chunk) == 0 {
			return s.found(ids, len(ids), false), nil
		}
		if high = from; time.Since(s.began) > searchTime {
			break
		}
	}
	found := s.found(ids, min(len(ids), MaxFound), true)
	if found.Next.IsZero() { // a short page: it goes on where this one stopped
		found.Next = id.Message(high)
	}
	return found, nil
}

// found is the first page of what was found.
func (s search) found(ids []id.Message, total int, more bool) Found {
	f := Found{Total: total, More: more}
	for _, m := range ids[:min(len(ids), s.limit)] {
		f.Messages = append(f.Messages, Match{Stored: Stored{Message: Message{ID: m}}})
	}
	if len(ids) > s.limit {
		f.Next = ids[s.limit-1]
	}
	return f
}

func (s search) find(statement db.SQL, low, high []byte) ([]id.Message, error) {
	return db.Collect(s.tx, scanMessageID, statement, s.args(low, high)...)
}

// bounds are the first identifier that is looked at, and the first that is not any more.
func (s search) bounds(before id.Message) (low, high []byte) {
	w := s.what
	low, high = []byte{}, []byte{0xff}
	narrow := func(from, to []byte) {
		if string(from) > string(low) {
			low = from
		}
		if string(to) < string(high) {
			high = to
		}
	}
	if !before.IsZero() {
		narrow(nil, before[:])
	}
	if !w.After.IsZero() {
		first := id.Before[id.Message](w.After)
		narrow(first[:], []byte{0xff})
	}
	if !w.Before.IsZero() {
		first := id.Before[id.Message](w.Before)
		narrow(nil, first[:])
	}
	if m := w.Message; !m.IsZero() {
		narrow(m[:], append(m[:len(m):len(m)], 0))
	}
	return low, high
}

// args are the parameters of matching.
func (s search) args(low, high []byte) []any {
	w := s.what
	var at, shown string
	if w.FromAt != "" {
		at, shown = "%@"+like(string(w.FromAt)), "%@"+like(w.FromAt.Unicode())
	}
	var subject [query.MaxWords]string
	for i, word := range w.Subject[:min(len(w.Subject), len(subject))] {
		subject[i] = "%" + like(word) + "%"
	}
	domain := w.Domain
	if !w.To.IsZero() {
		domain = w.To.Domain()
	}
	state, least, most := standingArgs(w.Standing)
	return []any{
		low, high, w.Account, w.User, strings.ToLower(w.From.String()), strings.ToLower(display(w.From)), at, shown,
		subject[0], subject[1], subject[2], subject[3], w.MessageID,
		strings.ToLower(w.To.String()), string(domain), string(state), least, most, int64(MaxFound + 1),
	}
}

func display(a mail.Address) string {
	if a.IsZero() {
		return ""
	}
	return a.Display()
}

// like is a text as a pattern that finds it in lower case.
func like(s string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(s))
}

// standingArgs says a standing in the words of the table: a state, and the least
// and the most attempts. The state is empty for any.
func standingArgs(s query.Standing) (state State, least, most int64) {
	switch s {
	case query.Queued:
		return Pending, 0, 0
	case query.Deferred:
		return Pending, 1, math.MaxInt64
	case query.Delivering:
		return Leased, 0, math.MaxInt64
	default:
		return State(s), 0, math.MaxInt64
	}
}

// standing counts where the recipients of a message stand.
func standing(tx *db.Tx, m Stored) (map[query.Standing]int, error) {
	if m.Unsettled == 0 && m.Undelivered == 0 {
		return map[query.Standing]int{query.Delivered: m.Recipients}, nil
	}
	counts := make(map[query.Standing]int)
	_, err := db.Collect(tx, func(row db.Scanner) (struct{}, error) {
		var state string
		var attempted, n int
		err := row.Scan(&state, &attempted, &n)
		s := query.Standing(state)
		switch State(state) {
		case Pending:
			if s = query.Queued; attempted > 0 {
				s = query.Deferred
			}
		case Leased:
			s = query.Delivering
		case Held, Delivered, Failed, Expired, Cancelled, Suppressed:
		}
		counts[s] += n
		return struct{}{}, err
	}, countStanding, m.ID)
	return counts, err
}

func scanMessageID(row db.Scanner) (m id.Message, err error) {
	err = row.Scan(&m)
	return m, err
}
