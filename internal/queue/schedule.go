package queue

import (
	"cmp"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// Schedule says when what was deferred is tried again, and for how long. A zero
// field is the house's:
//
//	attempt    1   2    3    4    5   6   7   8 …
//	then wait  1m  5m  15m  30m  1h  2h  4h  4h …   ±10 %
//
// for 72 hours, and a delay is told after 4. RFC 5321 §4.5.4.1 wants 4 to 5 days
// "generally"; three are what senders of transactional mail can bear, and what
// the large providers give.
type Schedule struct {
	Steps      []time.Duration // the wait after each attempt; the last one repeats
	Lifetime   time.Duration   // from acceptance: how long a recipient is tried
	DelayAfter time.Duration   // from acceptance: when a sender who asked for it is told of a delay (RFC 3461 §4.1)
}

// lifetime is the house's Schedule.Lifetime.
const lifetime = 72 * time.Hour

// delayAfter is the house's Schedule.DelayAfter.
const delayAfter = 4 * time.Hour

// overdue is how late an attempt may be that ends a recipient's time: after a
// longer absence, ours or the clock's, it is tried once more in good time.
const overdue = time.Hour

// schedule returns that of a list, complete.
func (q *Queue) schedule(tx *db.Tx, l id.List) Schedule {
	s := q.deps.Schedule(tx, l)
	if len(s.Steps) == 0 {
		s.Steps = []time.Duration{
			time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
			time.Hour, 2 * time.Hour, 4 * time.Hour,
		}
	}
	s.Lifetime = cmp.Or(s.Lifetime, lifetime)
	s.DelayAfter = cmp.Or(s.DelayAfter, delayAfter)
	return s
}

// Expires returns when the time of a message is over: what is deferred then is
// not tried again.
func (q *Queue) Expires(tx *db.Tx, m *Message) time.Time {
	return m.AcceptedAt.Add(q.schedule(tx, m.List).Lifetime)
}

// wait is that after the attempt-th attempt, from 1, without jitter.
func (s Schedule) wait(attempt int) time.Duration {
	return s.Steps[min(max(attempt, 1), len(s.Steps))-1]
}

// maxRetryAfter bounds what a reply may ask for.
const maxRetryAfter = 24 * time.Hour

// after returns the due time that follows the last attempt at r, which ended at
// the time given, by the jitter in [0,1) and not before its reply asked for. ok is
// false when the recipient has expired. The last attempt stands at the end of its
// lifetime; what is deferred then, or later, expires.
func (s Schedule) after(r Recipient, accepted, at time.Time, jitter float64) (due time.Time, ok bool) {
	wait := time.Duration(float64(s.wait(r.Attempts)) * (0.9 + 0.2*jitter))
	due = at.Add(max(wait, min(r.Last.RetryAfter, maxRetryAfter))).Truncate(time.Microsecond)
	end := accepted.Add(s.Lifetime)
	switch {
	case at.Before(end) && due.After(end):
		return end, true
	case at.Before(end):
		return due, true
	}
	return due, r.late(at)
}

// late reports whether a recipient was not looked at for long after it was due.
func (r Recipient) late(at time.Time) bool { return at.Sub(r.Due) > overdue }
