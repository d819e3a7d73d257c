package throttle

import "time"

// Feedback of a site, in times and numbers.
const (
	firstWindow = 5                // Postfix's initial_destination_concurrency
	widenBy     = 5                // that many good deliveries per slot open one slot more, once there was trouble
	deadFirst   = 5 * time.Second  // doubles with every failed probe
	deadMax     = 5 * time.Minute  //
	askedMax    = time.Hour        // how long a site may have us wait
	slowAfter   = 30 * time.Second // a delivery that takes so long is no sign that a site moves
)

// Binding names what keeps a site's mail from going now.
type Binding string

// The bindings of a site.
const (
	Nothing     Binding = ""            // one more delivery may begin
	Dead        Binding = "dead"        // it is away; nobody tries before the probe
	Probing     Binding = "probing"     // it was away; one delivery tries
	Window      Binding = "window"      // it showed that it does not want more at once
	Connections Binding = "connections" // the limit of connections to it
	Provider    Binding = "provider"    // the limit of connections to all sites of its provider
	Rate        Binding = "rate"        // the limit of messages in a time
)

// Sign is what a delivery said about the site.
type Sign int

// The signs.
const (
	None Sign = iota // nothing: the trouble was ours
	Good             // it works
	Busy             // it works, and wants less of us
	Away             // it does not work
)

// Site is what is known of one destination, and how much it may get. All of it
// moves by what deliveries show:
//
//	Good  the window opens: by one, until there was trouble; then by one for
//	      every widenBy per slot
//	Busy  the window halves, once for all deliveries that were under way together
//	Away  while others run there, or one has succeeded since this one began, the
//	      site may only have too many of ours: the window shrinks to those.
//	      If the last of them has trouble, the site is dead for a time. Then one
//	      delivery probes; its success opens the window, its failure doubles the time.
type Site struct {
	limit Limit
	group *Group // of its provider; nil: none
	pace  Pace

	active  int
	window  int
	good    int  // deliveries since the window last changed
	scarred bool // there was trouble: the window opens slowly
	halved  time.Time

	moved     time.Time // when a delivery last ended that was not slow
	alive     time.Time // last sign of life
	failures  int       // probes failed in a row
	deadUntil time.Time
	deadSince time.Time // the first of the failures
	asked     bool      // the site said how long it is to be left alone
}

// Group is the sites of one provider.
type Group struct {
	limit  int // 0: none
	active int
}

// NewSite returns a site under a limit; group may be nil.
func NewSite(l Limit, group *Group, now time.Time) *Site {
	s := &Site{limit: l, group: group, pace: NewPace(l.Messages, l.Per, now)}
	s.window = min(firstWindow, l.Connections)
	return s
}

// Limit returns the site's limit.
func (s *Site) Limit() Limit { return s.limit }

// Together returns the limit of deliveries to all sites of the provider; 0: none.
func (s *Site) Together() int {
	if s.group == nil {
		return 0
	}
	return s.group.limit
}

// Active returns how many deliveries are under way.
func (s *Site) Active() int { return s.active }

// Window returns how many deliveries there may be at once.
func (s *Site) Window() int { return s.window }

// Since returns since when the site is dead, and until when it is left alone;
// both are zero when it is not dead.
func (s *Site) Since(now time.Time) (since, until time.Time) {
	if s.failures == 0 || now.Before(s.deadSince) {
		return time.Time{}, time.Time{}
	}
	return s.deadSince, s.deadUntil
}

// Asked reports whether a dead site said itself how long it is to be left alone.
func (s *Site) Asked() bool { return s.asked }

// Dead reports whether nobody may try now.
func (s *Site) Dead(now time.Time) bool {
	// The clock may have been put back meanwhile: no wait is longer than the longest.
	return now.Before(s.deadUntil) && s.deadUntil.Sub(now) <= askedMax
}

// Moves reports whether a delivery there, whatever came of it, has taken less
// than 30 s and ended no more than 30 s ago.
func (s *Site) Moves(now time.Time) bool { return now.Sub(s.moved) <= slowAfter }

// Check returns what keeps one more delivery from beginning, and when to ask
// again, if that is known; else it is when a delivery ends.
func (s *Site) Check(now time.Time) (Binding, time.Time) {
	switch {
	case s.Dead(now):
		return Dead, s.deadUntil
	case s.failures > 0 && s.active > 0:
		return Probing, time.Time{}
	case s.active >= s.window && s.window < s.limit.Connections:
		return Window, time.Time{}
	case s.active >= s.window:
		return Connections, time.Time{}
	case s.group != nil && s.group.limit > 0 && s.group.active >= s.group.limit:
		return Provider, time.Time{}
	case s.pace.Free(now) < 1:
		return Rate, s.pace.Next(0, now)
	}
	return Nothing, time.Time{}
}

// Begin notes that a delivery begins.
func (s *Site) Begin(now time.Time) {
	s.active++
	s.pace.Take(1, now)
	if s.group != nil {
		s.group.active++
	}
}

// End notes what a delivery that began at a time has shown, and how long the
// site asked to be left alone, if it did. It reports whether the site is now
// found dead.
func (s *Site) End(began, now time.Time, sign Sign, ask time.Duration) (died bool) {
	s.active--
	if s.group != nil {
		s.group.active--
	}
	if sign != None && now.Sub(began) < slowAfter {
		s.moved = now
	}
	switch sign {
	case None:
	case Good:
		s.alive, s.failures, s.asked = now, 0, false
		s.widen()
	case Busy:
		s.alive, s.failures, s.asked = now, 0, false
		s.good, s.scarred = 0, true
		if !began.Before(s.halved) {
			s.window, s.halved = max(1, s.window/2), now
		}
	case Away:
		return s.away(began, now, ask)
	}
	return false
}

func (s *Site) widen() {
	s.good++
	need := 1
	if s.scarred {
		need = s.window * widenBy
	}
	if s.good >= need && s.window < s.limit.Connections {
		s.window, s.good = s.window+1, 0
	}
}

func (s *Site) away(began, now time.Time, ask time.Duration) (died bool) {
	s.good, s.scarred = 0, true
	switch {
	case s.Dead(now): // one of those that were under way
		return false
	case s.active > 0, s.alive.After(began):
		s.window = max(1, min(s.window, s.active))
		return false
	}
	s.window = min(firstWindow, s.limit.Connections)
	wait := min(deadFirst<<min(s.failures, 10), deadMax)
	s.asked = ask > wait
	s.deadUntil = now.Add(max(wait, min(ask, askedMax)))
	if s.failures++; s.failures == 1 {
		s.deadSince = now
	}
	return true
}
