package dispatch

import (
	"time"

	"mittente/internal/delivery"
	"mittente/internal/mail"
)

const (
	deadFirst = 5 * time.Second // doubles with every failed probe
	deadMax   = 5 * time.Minute
	widenBy   = 5      // that many good deliveries per slot open one slot more
	maxSites  = 10_000 // remembered at once, those with mail apart
)

// site is one destination: hosts that stand for one another.
//
// Trouble is an outcome that is the site's, not the mail's (connection refused,
// 421, a handshake that fails). While other deliveries run there or have
// succeeded meanwhile, the site may only have too many of ours: the window
// shrinks to those. If the last of them has trouble, too, the site is dead for a
// time: nobody else tries in vain, all that waits is deferred by the same
// outcome and comes back by the schedule of its own attempts. After that time a
// single delivery probes; its success opens the window again, its failure
// doubles the time.
type site struct {
	plan  delivery.Plan // of the domain that came last: all of one site may travel together
	ready ready

	active int  // deliveries
	window int  // how many there may be
	good   int  // deliveries since the window last changed
	inLine bool // stands in Dispatcher.runnable

	alive     time.Time // last sign of life
	failures  int       // probes failed in a row
	deadUntil time.Time
	trouble   mail.Outcome // what showed that it is dead
}

// site returns the site of that name. The lock is held.
func (d *Dispatcher) site(name string) *site {
	s := d.sites[name]
	if s == nil {
		if len(d.sites) >= maxSites {
			d.sweepSites()
		}
		s = &site{window: d.cfg.PerSite}
		d.sites[name] = s
	}
	return s
}

// sweepSites forgets sites where nothing waits or runs. The lock is held.
func (d *Dispatcher) sweepSites() {
	for name, s := range d.sites {
		if s.active == 0 && s.ready.len() == 0 && !s.inLine {
			delete(d.sites, name)
		}
	}
}

func (s *site) dead(now time.Time) bool { return now.Before(s.deadUntil) }

// mayStart reports whether one more delivery may begin.
func (s *site) mayStart() bool {
	limit := s.window
	if s.failures > 0 {
		limit = 1 // the probe
	}
	return s.ready.len() > 0 && s.active < limit
}

// enter puts an entry into the ready queue of its site. The lock is held.
func (d *Dispatcher) enter(s *site, e *entry, plan delivery.Plan) {
	s.plan = plan
	s.ready.push(e)
	d.metrics.ready.Inc()
	d.line(s)
}

// line puts a site in line for a worker, if it has work. The lock is held.
func (d *Dispatcher) line(s *site) {
	if !s.inLine && s.mayStart() {
		s.inLine = true
		d.runnable = append(d.runnable, s)
	}
}

// next takes a bundle of the site whose turn it is; nil when there is nothing
// that may begin. The lock is held.
func (d *Dispatcher) next() (*site, *bundle) {
	if d.draining || len(d.unsettled) > 0 {
		return nil, nil
	}
	for len(d.runnable) > 0 {
		s := d.runnable[0]
		d.runnable[0] = nil
		d.runnable = d.runnable[1:]
		s.inLine = false
		if !s.mayStart() {
			continue
		}
		b := s.ready.pop()
		s.active++
		d.metrics.ready.Sub(float64(len(b.entries)))
		d.line(s)
		return s, b
	}
	return nil, nil
}

// judge draws from the outcomes of a delivery that began at the time given what
// they say about the site, and returns what is to be deferred with it. The lock
// is held.
func (d *Dispatcher) judge(s *site, outcomes []mail.Outcome, began time.Time) []*entry {
	trouble := siteTrouble(outcomes)
	if trouble == nil {
		s.alive, s.failures = time.Now(), 0
		if s.good++; s.good >= s.window*widenBy && s.window < d.cfg.PerSite {
			s.window, s.good = s.window+1, 0
		}
		return nil
	}
	s.good = 0
	now := time.Now()
	switch {
	case s.dead(now): // one of those that were under way
		return nil
	case s.active > 0, s.alive.After(began):
		s.window = max(1, s.active)
		return nil
	}
	s.window = d.cfg.PerSite
	s.deadUntil = now.Add(min(deadFirst<<min(s.failures, 10), deadMax))
	s.failures++
	s.trouble = *trouble
	d.metrics.dead.Inc()
	var waiting []*entry
	for _, b := range s.ready.takeAll() {
		waiting = append(waiting, b.entries...)
	}
	d.metrics.ready.Sub(float64(len(waiting)))
	return waiting
}

// siteTrouble returns the first outcome if all of them are the site's trouble.
func siteTrouble(outcomes []mail.Outcome) *mail.Outcome {
	for _, o := range outcomes {
		if o.Action != mail.Deferred || o.Scope != mail.ScopeSite {
			return nil
		}
	}
	if len(outcomes) == 0 {
		return nil
	}
	return &outcomes[0]
}
