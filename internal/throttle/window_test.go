package throttle

import (
	"testing"
	"time"
)

func site() *Site { return NewSite(Limit{Connections: 20}, nil, epoch) }

// run lets n deliveries begin and end one after the other.
func (s *Site) run(n int, now time.Time, sign Sign) {
	for range n {
		s.Begin(now)
		s.End(now, now, sign, 0)
	}
}

func TestWindowOpensWithSuccess(t *testing.T) {
	t.Parallel()
	s := site()
	if s.Window() != 5 {
		t.Errorf("begins at %d", s.Window())
	}
	s.run(15, epoch, Good)
	if s.Window() != 20 {
		t.Errorf("%d after 15 successes", s.Window())
	}
	s.run(100, epoch, Good)
	if s.Window() != 20 {
		t.Errorf("%d: beyond the limit", s.Window())
	}
}

// After trouble the window opens slowly.
func TestWindowHalvesWhenTheSiteIsBusy(t *testing.T) {
	t.Parallel()
	s := site()
	s.run(15, epoch, Good)
	for _, want := range []int{10, 5, 2, 1, 1} {
		s.run(1, epoch, Busy)
		if s.Window() != want {
			t.Errorf("%d, want %d", s.Window(), want)
		}
	}
	s.run(4, epoch, Good)
	if s.Window() != 1 {
		t.Errorf("%d after 4 good ones", s.Window())
	}
	s.run(1, epoch, Good)
	if s.Window() != 2 {
		t.Errorf("%d after 5", s.Window())
	}
	s.run(10, epoch, Good)
	if s.Window() != 3 {
		t.Errorf("%d after 10 more", s.Window())
	}
	if b, _ := s.Check(epoch); b != Nothing {
		t.Errorf("bound by %q", b)
	}
	for range 3 {
		s.Begin(epoch)
	}
	if b, _ := s.Check(epoch); b != Window {
		t.Errorf("bound by %q", b)
	}
}

// Deliveries that were under way together are one sign.
func TestWindowHalvesOnceForAll(t *testing.T) {
	t.Parallel()
	s := site()
	s.run(15, epoch, Good)
	for range 20 {
		s.Begin(epoch)
	}
	for i := range 20 {
		s.End(epoch, epoch.Add(time.Duration(i+1)*time.Second), Busy, 0)
	}
	if s.Window() != 10 {
		t.Errorf("%d", s.Window())
	}
}

// A site that refuses some while it serves others is not dead.
func TestAwayWhileOthersRun(t *testing.T) {
	t.Parallel()
	s := site()
	s.run(15, epoch, Good)
	for range 12 {
		s.Begin(epoch)
	}
	for want := 11; want >= 8; want-- {
		if s.End(epoch, epoch, Away, 0) || s.Window() != want {
			t.Errorf("window %d, want %d", s.Window(), want)
		}
	}
	s.End(epoch, epoch.Add(time.Second), Good, 0)
	for range 7 {
		if s.End(epoch, epoch.Add(2*time.Second), Away, 0) {
			t.Error("dead, although one has succeeded since this began")
		}
	}
}

// The time for which a site is dead doubles with each failed probe, up to five
// minutes; one probe at a time; its success opens the window.
func TestDead(t *testing.T) {
	t.Parallel()
	s, now := site(), epoch
	for i, seconds := range []int{5, 10, 20, 40, 80, 160, 300, 300, 300} {
		if b, _ := s.Check(now); b != Nothing {
			t.Fatalf("probe %d is bound by %q", i, b)
		}
		s.Begin(now)
		if b, _ := s.Check(now); i > 0 && b != Probing {
			t.Errorf("beside probe %d: %q", i, b)
		}
		if !s.End(now, now, Away, 0) {
			t.Errorf("not dead after %d failures", i+1)
		}
		b, until := s.Check(now)
		if want := now.Add(time.Duration(seconds) * time.Second); b != Dead || !until.Equal(want) {
			t.Errorf("%q until %v after %d failures, want %v", b, until.Sub(now), i+1, want.Sub(now))
		}
		now = until
	}
	if since, _ := s.Since(now); !since.Equal(epoch) {
		t.Errorf("dead since %v", since)
	}
	s.run(1, now, Good)
	if since, _ := s.Since(now); !since.IsZero() || s.Dead(now) || s.Window() < 5 {
		t.Errorf("after a success: %+v", s)
	}
}

// A site that says how long to wait is left alone for that long, within bounds.
func TestDeadAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ask, want time.Duration
		asked     bool
	}{
		{0, 5 * time.Second, false},
		{time.Second, 5 * time.Second, false},
		{10 * time.Minute, 10 * time.Minute, true},
		{24 * time.Hour, time.Hour, true},
	} {
		s := site()
		s.Begin(epoch)
		s.End(epoch, epoch, Away, c.ask)
		if _, until := s.Check(epoch); until.Sub(epoch) != c.want || s.Asked() != c.asked {
			t.Errorf("asked for %v: dead for %v, asked %t", c.ask, until.Sub(epoch), s.Asked())
		}
	}
}

// What is ours says nothing of the site.
func TestNoSign(t *testing.T) {
	t.Parallel()
	s := site()
	s.Begin(epoch)
	if s.End(epoch, epoch, None, 0) || s.Window() != 5 || s.Moves(epoch) {
		t.Errorf("%+v", s)
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	s := site()
	for _, c := range []struct {
		took, ago time.Duration
		moves     bool
	}{{30 * time.Second, 0, false}, {time.Second, 30 * time.Second, true}, {time.Second, 31 * time.Second, false}} {
		*s = *site()
		s.Begin(epoch)
		s.End(epoch, epoch.Add(c.took), Good, 0)
		if got := s.Moves(epoch.Add(c.took + c.ago)); got != c.moves {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// A dead site does not stay dead for a day because the clock was put back by one.
func TestDeadWhenTheClockJumps(t *testing.T) {
	t.Parallel()
	s := site()
	s.Begin(epoch)
	s.End(epoch, epoch, Away, 0)
	if s.Dead(epoch.Add(-24 * time.Hour)) {
		t.Error("dead in the past")
	}
	if s.Dead(epoch.Add(24 * time.Hour)) {
		t.Error("dead in the future")
	}
}

// Sites of one provider have a limit together, and each its own rate.
func TestProvider(t *testing.T) {
	t.Parallel()
	table, err := NewTable([]Rule{{Name: "own", Match: []string{"own.test"}, Connections: 3, Together: 4, Rate: "600/min"}}, 20)
	if err != nil {
		t.Fatal(err)
	}
	a, b := table.Site("mx.a.own.test:25", epoch), table.Site("mx.b.own.test:25", epoch)
	for range 3 {
		a.Begin(epoch)
	}
	if got, _ := a.Check(epoch); got != Connections {
		t.Errorf("the fourth at one site: %q", got)
	}
	b.Begin(epoch)
	if got, _ := b.Check(epoch); got != Provider {
		t.Errorf("the fifth at both: %q", got)
	}
	a.End(epoch, epoch, Good, 0)
	if got, _ := b.Check(epoch); got != Nothing {
		t.Errorf("after one has ended: %q", got)
	}
	for range 3 {
		b.End(epoch, epoch, Good, 0)
		b.Begin(epoch)
	}
	for range 6 {
		b.Begin(epoch)
		b.End(epoch, epoch, Good, 0)
	}
	b.End(epoch, epoch, Good, 0)
	got, at := b.Check(epoch)
	if got != Rate || at.Sub(epoch).Round(time.Millisecond) != 100*time.Millisecond {
		t.Errorf("the eleventh at once: %q until %v", got, at.Sub(epoch))
	}
}
