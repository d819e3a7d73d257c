package queue

import (
	"fmt"
	"math"
	"slices"
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
	// searchTime is how long one search looks at messages, to which an index has led or not.
	searchTime = 50 * time.Millisecond
	// searchChunk is how many of them it looks at between two looks at the clock.
	searchChunk = 500
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
// and match: at most limit, or DefaultLimit if that is 0. Where one index says it all
// that takes milliseconds. Else it looks at those to which the best index leads, or
// at all, the newest first, for some 50 ms: then the page may be short, and Next says
// where it goes on.
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

// way is an index that leads to messages.
type way struct {
	open              bool
	unordered         bool // it does not lead to the newest first: what it leads to is sorted
	count, walk, find db.SQL
	args              []any // of count and walk
}

// ways are all that the query opens.
func (s search) ways() []way {
	w := s.what
	state, least, most := standingArgs(w.Standing)
	standing := state != "" && state != Delivered && state != Leased
	to, from := strings.ToLower(w.To.String()), strings.ToLower(w.From.String())
	all := []way{
		{w.MessageID != "", false, countMessageID, walkMessageID, findMessageID, []any{w.MessageID}},
		{!w.To.IsZero(), false, countTo, walkTo, findTo, []any{string(w.To.Domain()), to}},
		{!w.From.IsZero(), false, countFrom, walkFrom, findFrom, []any{from, strings.ToLower(display(w.From))}},
		{standing, false, countStanding, walkStanding, findStanding, []any{string(state), least, most}},
		{state == Leased, true, countLeased, walkLeased, findLeased, nil},
		{w.Domain != "" && w.To.IsZero(), true, countDomain, walkDomain, findDomain, []any{string(w.Domain)}},
		{w.User != "", false, countUser, walkUser, findUser, []any{w.User}},
		{!w.Account.IsZero(), false, countAccount, walkAccount, findAccount, []any{w.Account}},
	}
	return slices.DeleteFunc(all, func(w way) bool { return !w.open })
}

// best chooses the way that leads to the fewest messages. alone says that nothing is
// asked for but what the way leads to.
func (s search) best() (best way, alone bool, err error) {
	best = way{walk: walkAll, find: findAll}
	if !s.what.Message.IsZero() { // the bounds leave no other
		return best, false, nil
	}
	fewest := MaxFound + 2
	ways := s.ways()
	for _, w := range ways {
		var n int
		if err := s.tx.Row(w.count, append(slices.Clip(w.args), int64(MaxFound+1))...).Scan(&n); err != nil {
			return way{}, false, err
		}
		if n < fewest && (n <= MaxFound || !w.unordered) {
			best, fewest = w, n
		}
	}
	rest := s.what.FromAt != "" || len(s.what.Subject) > 0 || s.what.Standing == query.Delivered
	return best, !rest && (len(ways) == 0 || len(ways) == 1 && best.open), nil
}

// run finds the messages, of which it returns the identifiers only.
func (s search) run(before id.Message) (Found, error) {
	low, high := s.bounds(before)
	if s.what.Standing == query.Refused || s.apart() {
		return Found{}, nil
	}
	w, alone, err := s.best()
	if err != nil {
		return Found{}, err
	}
	if alone {
		ids, err := s.walk(w, low, high)
		return s.found(ids, nil), err
	}
	var found []id.Message
	for {
		ids, err := s.walk(w, low, high)
		if err != nil {
			return Found{}, err
		}
		end := len(ids) <= MaxFound
		for chunk := range slices.Chunk(ids, searchChunk) {
			last := chunk[len(chunk)-1]
			some, err := db.Collect(s.tx, scanMessageID, w.find, s.args(last[:], high)...)
			if err != nil {
				return Found{}, err
			}
			found, high = append(found, some...), last[:]
			if end && last == ids[len(ids)-1] {
				break
			}
			if len(found) > MaxFound || time.Since(s.began) > searchTime {
				return s.found(found, high), nil
			}
		}
		if end {
			return s.found(found, nil), nil
		}
	}
}

// walk goes along a way.
func (s search) walk(w way, low, high []byte) ([]id.Message, error) {
	return db.Collect(s.tx, scanMessageID, w.walk, append(slices.Clip(w.args), low, high, int64(MaxFound+1))...)
}

// apart reports whether the query asks for a recipient at two domains.
func (s search) apart() bool {
	return !s.what.To.IsZero() && s.what.Domain != "" && s.what.To.Domain() != s.what.Domain
}

// found is the first page of what was found; on is how far it was looked, if not to
// the end.
func (s search) found(ids []id.Message, on []byte) Found {
	f := Found{Total: min(len(ids), MaxFound), More: on != nil || len(ids) > MaxFound}
	for _, m := range ids[:min(len(ids), s.limit)] {
		f.Messages = append(f.Messages, Match{Stored: Stored{Message: Message{ID: m}}})
	}
	switch {
	case len(ids) > s.limit:
		f.Next = ids[s.limit-1]
	case on != nil: // a short page: it goes on where this one stopped
		f.Next = id.Message(on)
	}
	return f
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
	if s == query.Queued {
		return Pending, 0, 0
	}
	state = State(s)
	if s == query.Deferred {
		state, least = Pending, 1
	}
	if s == query.Delivering {
		state = Leased
	}
	return state, least, math.MaxInt64
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
	}, sumStandings, m.ID)
	return counts, err
}

func scanMessageID(row db.Scanner) (m id.Message, err error) {
	err = row.Scan(&m)
	return m, err
}
