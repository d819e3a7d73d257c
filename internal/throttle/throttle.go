// Package throttle says how fast mail may go: paces by the hour, and windows of deliveries that a site's behaviour moves.
//
// It is pure: time is handed in, nothing runs, nothing is stored. Its values are
// not safe for concurrent use.
package throttle

import "time"

// Pace is a token bucket: so many in so much time, with a little at once. The
// zero value has no bound.
type Pace struct {
	n     int64
	per   time.Duration
	level float64 // may be below zero: taken ahead
	at    time.Time
}

// NewPace returns a pace of n in a time, full. n of 0 has no bound.
func NewPace(n int64, per time.Duration, now time.Time) Pace {
	p := Pace{}
	p.Set(n, per, now)
	return p
}

// Set changes the pace. What was taken ahead stays taken.
func (p *Pace) Set(n int64, per time.Duration, now time.Time) {
	if n == p.n && per == p.per {
		return
	}
	p.fill(now)
	if p.n == 0 {
		p.level = float64(max(0, n))
	}
	p.n, p.per, p.at = max(0, n), per, now
	p.level = min(p.level, p.burst())
}

// Bound reports whether there is one.
func (p *Pace) Bound() bool { return p.n > 0 && p.per > 0 }

// Free returns how many may go now; it is large when there is no bound.
func (p *Pace) Free(now time.Time) int {
	const unbounded = 1 << 30
	if !p.Bound() {
		return unbounded
	}
	p.fill(now)
	return int(max(0, p.level))
}

// Take takes n, if need be ahead of time.
func (p *Pace) Take(n int, now time.Time) {
	if p.Bound() {
		p.fill(now)
		p.level -= float64(n)
	}
}

// GiveBack returns n that were taken and not used.
func (p *Pace) GiveBack(n int) {
	if p.Bound() {
		p.level = min(p.level+float64(n), p.burst())
	}
}

// Next returns when one more may go after ahead others: now, when there is no bound.
func (p *Pace) Next(ahead int, now time.Time) time.Time {
	if !p.Bound() {
		return now
	}
	p.fill(now)
	missing := float64(ahead+1) - p.level
	if missing <= 0 {
		return now
	}
	wait := missing * float64(p.per) / float64(p.n)
	return now.Add(time.Duration(min(wait, float64(maxWait))) + time.Microsecond)
}

// maxWait keeps sums of times from overflowing.
const maxWait = 365 * 24 * time.Hour

// burst is what may go at once: a sixtieth, or what a second brings, at least one.
func (p *Pace) burst() float64 {
	n := float64(p.n)
	return max(1, min(n, max(n/60, n*float64(time.Second)/float64(max(p.per, 1)))))
}

// fill adds what the time since the last look has brought. A clock that was put
// back brings nothing, and takes nothing.
func (p *Pace) fill(now time.Time) {
	if since := now.Sub(p.at); since > 0 && p.Bound() {
		p.level = min(p.burst(), p.level+float64(since)*float64(p.n)/float64(p.per))
	}
	p.at = now
}

// Meter measures how many pass in a second, over the last 10 to 20 seconds.
type Meter struct {
	since       time.Time
	count, last float64
}

const meterSpan = 10 * time.Second

// Add notes n that have passed.
func (m *Meter) Add(n int, now time.Time) {
	m.turn(now)
	m.count += float64(n)
}

// PerSecond returns the rate; 0 when nothing has passed for a while.
func (m *Meter) PerSecond(now time.Time) float64 {
	m.turn(now)
	return (m.last + m.count) / (meterSpan + max(0, now.Sub(m.since))).Seconds()
}

func (m *Meter) turn(now time.Time) {
	switch age := now.Sub(m.since); {
	case age < 0 || age >= 2*meterSpan:
		m.last, m.count, m.since = 0, 0, now
	case age >= meterSpan:
		m.last, m.count, m.since = m.count, 0, m.since.Add(meterSpan)
	}
}
