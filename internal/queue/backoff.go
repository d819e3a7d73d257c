package queue

import "time"

// lifetime is how long a recipient is tried, from acceptance. RFC 5321
// §4.5.4.1 wants 4 to 5 days "generally"; three are what senders of
// transactional mail can bear, and what the large providers give.
const lifetime = 72 * time.Hour

// backoff says when a deferred recipient is tried again:
//
//	attempt    1   2    3    4    5   6   7   8 …
//	then wait  1m  5m  15m  30m  1h  2h  4h  4h …   ±10 %
//
// The last attempt stands at the end of the lifetime; what is deferred then, or
// later, expires.
type backoff struct {
	jitter func() float64 // in [0,1)
}

// after returns the due time that follows the attempt-th attempt (from 1),
// which ended at the time given. ok is false when the recipient has expired.
func (b backoff) after(attempt int, at, accepted time.Time) (due time.Time, ok bool) {
	end := accepted.Add(lifetime)
	if !at.Before(end) {
		return time.Time{}, false
	}
	wait := float64(schedule(attempt)) * (0.9 + 0.2*b.jitter())
	due = at.Add(time.Duration(wait)).Truncate(time.Microsecond)
	if due.After(end) {
		due = end
	}
	return due, true
}

func schedule(attempt int) time.Duration {
	steps := [...]time.Duration{
		time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour,
	}
	return steps[min(max(attempt, 1), len(steps))-1]
}
