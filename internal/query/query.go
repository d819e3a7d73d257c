// Package query is the language in which people search for messages.
package query

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"mittente/internal/id"
	"mittente/internal/mail"
)

// Query is what a message must have; zero fields ask for nothing. What is asked of
// a recipient (To, Domain, Standing) must hold for the same one.
type Query struct {
	Account id.Account // not part of the language: who asks may see no more

	To       mail.Address
	From     mail.Address // the reverse-path, or in the From field
	FromAt   mail.Domain  // the domain of the one or the other
	User     string       // name of the SMTP+ user
	Standing Standing     // of a recipient
	Domain   mail.Domain  // of a recipient
	Before   time.Time    // accepted earlier
	After    time.Time    // accepted then or later

	Message   id.Message
	MessageID string   // with its angle brackets
	Subject   []string // each stands in the subject, whatever its case; at most MaxWords
}

// MaxWords is how many words and phrases of the subject a query may have.
const MaxWords = 4

// maxText bounds a query, in octets.
const maxText = 1000

// Standing is where a recipient stands, in the words of people.
type Standing string

// The standings. Refused is of what was never accepted: no message has it.
const (
	Queued     Standing = "queued"     // waits for its first attempt
	Delivering Standing = "delivering" // is being attempted, or about to be
	Deferred   Standing = "deferred"   // waits for another attempt
	Held       Standing = "held"
	Delivered  Standing = "delivered"
	Failed     Standing = "failed"
	Expired    Standing = "expired"
	Cancelled  Standing = "cancelled"
	Suppressed Standing = "suppressed"
	Refused    Standing = "refused"
)

// Standings returns all of them, the worst for the sender first: the one of a
// message is the first that any of its recipients has.
func Standings() []Standing {
	return []Standing{Refused, Failed, Expired, Suppressed, Cancelled, Held, Deferred, Delivering, Queued, Delivered}
}

// Error says where a query is not understood.
type Error struct {
	Pos  int // in octets, from 0
	Text string
}

// Error returns the text, with the position as people count.
func (e *Error) Error() string { return fmt.Sprintf("at %d: %s", e.Pos+1, e.Text) }

// Parse reads a query: words of the form key:value or key:"some value", with any
// space between them. now gives times their zone and what "3h" is counted from.
//
//	to:ADDRESS          from:ADDRESS or from:DOMAIN      user:NAME
//	status:STANDING     domain:DOMAIN                    msgid:MESSAGE-ID or msgid:msg_…
//	subject:WORD        after:TIME, before:TIME: 2026-11-22, today, yesterday, 90m, 3h, 2d, 1w, RFC 3339
//
// A word without a key is a part of the subject; an address alone is a recipient,
// msg_… a message. The error is an *Error.
func Parse(text string, now time.Time) (Query, error) {
	var q Query
	if len(text) > maxText {
		return q, &Error{maxText, fmt.Sprintf("a query has at most %d octets", maxText)}
	}
	seen := map[string]bool{}
	for pos := skipSpace(text, 0); pos < len(text); pos = skipSpace(text, pos) {
		t, next, err := cut(text, pos)
		if err != nil {
			return Query{}, err
		}
		if t.key == "" {
			t.key = guess(t.value)
		}
		if seen[t.key] && t.key != "subject" {
			return Query{}, &Error{pos, fmt.Sprintf("%s: is there twice", t.key)}
		}
		seen[t.key] = true
		if err := q.set(t, now); err != nil {
			return Query{}, &Error{t.pos, err.Error()}
		}
		pos = next
	}
	return q, nil
}

// term is one word of a query.
type term struct {
	key, value string
	pos        int // of the value
}

// cut reads the term at pos, and returns where the next begins.
func cut(text string, pos int) (t term, next int, err error) {
	t.pos = pos
	if end := strings.IndexFunc(text[pos:], func(r rune) bool { return r == ':' || r == '"' || unicode.IsSpace(r) }); end > 0 && text[pos+end] == ':' {
		if key := strings.ToLower(text[pos : pos+end]); slices.Contains(keys(), key) {
			t.key, t.pos = key, pos+end+1
		} else if letters(key) {
			return t, 0, &Error{pos, fmt.Sprintf("%.20q is no key: want one of %s:", key, strings.Join(keys(), ": "))}
		}
	}
	if t.pos < len(text) && text[t.pos] == '"' {
		end := strings.IndexByte(text[t.pos+1:], '"')
		if end < 0 {
			return t, 0, &Error{t.pos, "the quotation mark is not closed"}
		}
		quoted := t.pos + end + 2
		if next = wordEnd(text, quoted); next == quoted {
			t.value = text[t.pos+1 : next-1]
		} else { // a local-part that is quoted itself
			t.value = text[t.pos:next]
		}
	} else {
		next = wordEnd(text, t.pos)
		t.value = text[t.pos:next]
	}
	if strings.TrimSpace(t.value) == "" {
		return t, 0, &Error{t.pos, cmp.Or(t.key, "a word") + ": nothing is asked for"}
	}
	return t, next, nil
}

// wordEnd is where the word ends that pos is in.
func wordEnd(text string, pos int) int {
	if end := strings.IndexFunc(text[pos:], unicode.IsSpace); end >= 0 {
		return pos + end
	}
	return len(text)
}

func keys() []string {
	return []string{"to", "from", "user", "status", "domain", "before", "after", "msgid", "subject"}
}

func letters(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 'a' || r > 'z' })
}

func skipSpace(text string, pos int) int {
	for i, r := range text[pos:] {
		if !unicode.IsSpace(r) {
			return pos + i
		}
	}
	return len(text)
}

// guess says which key a word without one has.
func guess(value string) string {
	if _, err := id.Parse[id.Message](value); err == nil {
		return "msgid"
	}
	if _, err := mail.ParseAddress(value); err == nil {
		return "to"
	}
	return "subject"
}

// set takes in one term.
func (q *Query) set(t term, now time.Time) (err error) {
	switch t.key {
	case "to":
		q.To, err = mail.ParseAddress(t.value)
	case "from":
		if strings.Contains(strings.TrimPrefix(t.value, "@"), "@") {
			q.From, err = mail.ParseAddress(t.value)
		} else {
			q.FromAt, err = mail.ParseDomain(strings.TrimPrefix(t.value, "@"))
		}
	case "user":
		q.User = t.value
	case "domain":
		q.Domain, err = mail.ParseDomain(strings.TrimPrefix(t.value, "@"))
	case "status":
		q.Standing = Standing(strings.ToLower(t.value))
		if !slices.Contains(Standings(), q.Standing) {
			err = fmt.Errorf("%.20q is no status: want one of %s", t.value, words(Standings()))
		}
	case "before":
		q.Before, err = parseTime(t.value, now)
	case "after":
		q.After, err = parseTime(t.value, now)
	case "msgid":
		err = q.setMessage(t.value)
	case "subject":
		if len(q.Subject) == MaxWords {
			return fmt.Errorf("more than %d words of the subject", MaxWords)
		}
		q.Subject = append(q.Subject, t.value)
	}
	return err
}

func (q *Query) setMessage(value string) (err error) {
	if strings.HasPrefix(strings.ToLower(value), "msg_") {
		q.Message, err = id.Parse[id.Message](value)
		return err
	}
	q.MessageID = "<" + strings.TrimSuffix(strings.TrimPrefix(value, "<"), ">") + ">"
	return nil
}

func words(list []Standing) string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = string(s)
	}
	return strings.Join(all, ", ")
}
