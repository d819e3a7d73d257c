package queue

import (
	"testing"
	"time"
)

// The waits are those of the table in backoff.go.
func TestBackoffSchedule(t *testing.T) {
	t.Parallel()
	accepted := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	middle := backoff{jitter: func() float64 { return 0.5 }}
	at := accepted
	waits := []time.Duration{
		time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
		4 * time.Hour, 4 * time.Hour,
	}
	for i, want := range waits {
		due, ok := middle.after(i+1, at, accepted)
		if got := due.Sub(at); !ok || got != want {
			t.Errorf("after attempt %d: %v, %v; want %v", i+1, got, ok, want)
		}
		at = due
	}
}

// Jitter stays within a tenth, and nothing is due after the lifetime.
func TestBackoffBounds(t *testing.T) {
	t.Parallel()
	accepted := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	end := accepted.Add(72 * time.Hour)
	for _, c := range []struct {
		name    string
		jitter  float64
		attempt int
		at      time.Time
		want    time.Time
		ok      bool
	}{
		{"least jitter", 0, 1, accepted, accepted.Add(54 * time.Second), true},
		{"most jitter", 0.9999999, 1, accepted, accepted.Add(66 * time.Second), true},
		{"last attempt at the end", 0.5, 20, end.Add(-time.Hour), end, true},
		{"just before the end", 0.5, 20, end.Add(-time.Microsecond), end, true},
		{"at the end", 0.5, 21, end, time.Time{}, false},
		{"long after the end", 0.5, 1, end.Add(time.Hour), time.Time{}, false},
		{"attempt out of range", 0.5, -3, accepted, accepted.Add(time.Minute), true},
	} {
		due, ok := backoff{jitter: func() float64 { return c.jitter }}.after(c.attempt, c.at, accepted)
		if off := due.Sub(c.want).Abs(); ok != c.ok || off > time.Millisecond {
			t.Errorf("%s: due %v, %v; want %v, %v", c.name, due, ok, c.want, c.ok)
		}
	}
}

// Whatever the jitter, the last attempt stands at the end of three days.
func TestBackoffTriesForThreeDays(t *testing.T) {
	t.Parallel()
	for _, jitter := range []float64{0, 0.5, 0.999} {
		b := backoff{jitter: func() float64 { return jitter }}
		accepted := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		at, attempts := accepted, 1
		for {
			due, ok := b.after(attempts, at, accepted)
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
