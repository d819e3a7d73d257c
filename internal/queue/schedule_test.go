package queue

import (
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// scheduled is a list's schedule, completed by the house's.
func scheduled(s Schedule) Schedule {
	return New(Deps{Schedule: func(*db.Tx, id.List) Schedule { return s }}, nil).schedule(nil, id.List{})
}

// The waits are those of the table at Schedule.
func TestScheduleOfTheHouse(t *testing.T) {
	t.Parallel()
	accepted := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	house := scheduled(Schedule{})
	at := accepted
	waits := []time.Duration{
		time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
		4 * time.Hour, 4 * time.Hour,
	}
	for i, want := range waits {
		due, ok := house.after(Recipient{Attempts: i + 1, Due: at}, accepted, at, 0.5)
		if got := due.Sub(at); !ok || got != want {
			t.Errorf("after attempt %d: %v, %v; want %v", i+1, got, ok, want)
		}
		at = due
	}
}

// Jitter stays within a tenth, and nothing is due after the lifetime; what a reply
// asks for is the least wait.
func TestScheduleBounds(t *testing.T) {
	t.Parallel()
	accepted := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	end := accepted.Add(72 * time.Hour)
	list := Schedule{Steps: []time.Duration{time.Second, 10 * time.Second}, Lifetime: time.Minute}
	for _, c := range []struct {
		name    string
		list    Schedule
		jitter  float64
		attempt int
		at, due time.Time // of the attempt; zero due: in time
		atLeast time.Duration
		want    time.Time // zero: expired
	}{
		{name: "least jitter", attempt: 1, at: accepted, want: accepted.Add(54 * time.Second)},
		{name: "most jitter", jitter: 0.9999999, attempt: 1, at: accepted, want: accepted.Add(66 * time.Second)},
		{name: "last attempt at the end", jitter: 0.5, attempt: 20, at: end.Add(-time.Hour), want: end},
		{name: "just before the end", jitter: 0.5, attempt: 20, at: end.Add(-time.Microsecond), want: end},
		{name: "at the end", jitter: 0.5, attempt: 21, at: end},
		{name: "long after the end", jitter: 0.5, attempt: 1, at: end.Add(time.Hour)},
		{name: "at the end, but hours late", jitter: 0.5, attempt: 1, at: end.Add(time.Hour), due: end.Add(-time.Hour), want: end.Add(time.Hour + time.Minute)},
		{name: "attempt out of range", jitter: 0.5, attempt: -3, at: accepted, want: accepted.Add(time.Minute)},
		{name: "asked to wait", jitter: 0.5, attempt: 1, at: accepted, atLeast: time.Hour, want: accepted.Add(time.Hour)},
		{name: "asked to wait for less", jitter: 0.5, attempt: 7, at: accepted, atLeast: time.Hour, want: accepted.Add(4 * time.Hour)},
		{name: "asked to wait beyond reason", jitter: 0.5, attempt: 1, at: accepted, atLeast: 1000 * time.Hour, want: accepted.Add(24 * time.Hour)},
		{name: "asked to wait beyond the end", jitter: 0.5, attempt: 1, at: end.Add(-time.Hour), atLeast: 10 * time.Hour, want: end},
		{name: "a list's first step", list: list, jitter: 0.5, attempt: 1, at: accepted, want: accepted.Add(time.Second)},
		{name: "a list's last step repeats", list: list, jitter: 0.5, attempt: 5, at: accepted, want: accepted.Add(10 * time.Second)},
		{name: "a list's lifetime", list: list, jitter: 0.5, attempt: 5, at: accepted.Add(time.Minute)},
	} {
		if c.due.IsZero() {
			c.due = c.at
		}
		r := Recipient{Attempts: c.attempt, Due: c.due, Last: mail.Outcome{RetryAfter: c.atLeast}}
		due, ok := scheduled(c.list).after(r, accepted, c.at, c.jitter)
		if off := due.Sub(c.want).Abs(); ok == c.want.IsZero() || ok && off > time.Millisecond {
			t.Errorf("%s: due %v, %v; want %v", c.name, due, ok, c.want)
		}
	}
}

// Whatever the jitter, the last attempt stands at the end of three days.
func TestScheduleTriesForThreeDays(t *testing.T) {
	t.Parallel()
	for _, jitter := range []float64{0, 0.5, 0.999} {
		accepted := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		at, attempts := accepted, 1
		for {
			due, ok := scheduled(Schedule{}).after(Recipient{Attempts: attempts, Due: at}, accepted, at, jitter)
			if !ok {
				break
			}
			if !due.After(at) {
				t.Fatalf("attempt %d: due %v is not after %v", attempts, due, at)
			}
			at, attempts = due, attempts+1
		}
		if at != accepted.Add(lifetime) || attempts < 20 || attempts > 30 {
			t.Errorf("jitter %v: %d attempts, the last after %v", jitter, attempts, at.Sub(accepted))
		}
	}
}
