package throttle

import (
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// A pace of n an hour lets n go in an hour, and no more than a sixtieth at once.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n     int64
		per   time.Duration
		burst int
	}{{3600, time.Hour, 60}, {10, time.Hour, 1}, {100, time.Second, 100}, {600, time.Minute, 10}, {1, 24 * time.Hour, 1}} {
		p := NewPace(c.n, c.per, epoch)
		if got := p.Free(epoch); got != c.burst {
			t.Errorf("%d in %v: %d at once, want %d", c.n, c.per, got, c.burst)
		}
		now, gone := epoch, 0
		for now.Before(epoch.Add(c.per)) {
			for p.Free(now) > 0 {
				p.Take(1, now)
				gone++
			}
			next := p.Next(0, now)
			if !next.After(now) {
				t.Fatalf("%d in %v: nothing is free, and the next may go at once", c.n, c.per)
			}
			now = next
		}
		if gone < int(c.n) || gone > int(c.n)+c.burst {
			t.Errorf("%d went in %v, want %d", gone, c.per, c.n)
		}
	}
}

func TestPaceWithoutBound(t *testing.T) {
	t.Parallel()
	var p Pace
	p.Take(1_000_000, epoch)
	if p.Bound() || p.Free(epoch) < 1_000_000 || !p.Next(5, epoch).Equal(epoch) {
		t.Errorf("%+v", p)
	}
	p.Set(60, time.Hour, epoch)
	if p.Free(epoch) != 1 {
		t.Errorf("%d free after a bound was set", p.Free(epoch))
	}
	p.Take(1, epoch)
	p.Set(0, 0, epoch)
	if p.Bound() {
		t.Error("still bound")
	}
}

// What was taken ahead has to be waited for, by those who come after it; what
// is given back need not.
func TestPaceAhead(t *testing.T) {
	t.Parallel()
	p := NewPace(60, time.Hour, epoch)
	p.Take(3, epoch)
	if got := p.Next(0, epoch).Sub(epoch).Round(time.Second); got != 3*time.Minute {
		t.Errorf("the next after %v", got)
	}
	if got := p.Next(10, epoch).Sub(epoch).Round(time.Second); got != 13*time.Minute {
		t.Errorf("the eleventh after %v", got)
	}
	p.GiveBack(3)
	if p.Free(epoch) != 1 {
		t.Errorf("%d free", p.Free(epoch))
	}
}

// A clock that is put back or forward makes nothing stand still, and lets no more
// than the burst go.
func TestPaceWhenTheClockJumps(t *testing.T) {
	t.Parallel()
	p := NewPace(3600, time.Hour, epoch)
	p.Take(60, epoch)
	back := epoch.Add(-24 * time.Hour)
	if p.Free(back) != 0 {
		t.Error("a clock that was put back gave something")
	}
	if got := p.Free(back.Add(10 * time.Second)); got != 10 {
		t.Errorf("%d free ten seconds after the clock was put back", got)
	}
	if got := p.Free(epoch.Add(365 * 24 * time.Hour)); got != 60 {
		t.Errorf("%d free a year later", got)
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	var m Meter
	now := epoch
	for range 400 {
		m.Add(5, now)
		now = now.Add(100 * time.Millisecond)
	}
	if got := m.PerSecond(now); got < 40 || got > 60 {
		t.Errorf("%v a second, want about 50", got)
	}
	if got := m.PerSecond(now.Add(time.Minute)); got != 0 {
		t.Errorf("%v a second after a minute of nothing", got)
	}
	m.Add(10, now.Add(-time.Hour))
	if got := m.PerSecond(now.Add(-time.Hour)); got != 1 {
		t.Errorf("%v a second after the clock was put back", got)
	}
}
