package dispatch

import (
	"math/rand/v2"
	"time"

	"mittente/internal/delivery"
	"mittente/internal/mail"
)

const (
	deadFirst = 5 * time.Second // doubles with every failed probe
	deadMax   = 5 * time.Minute
	apart     = 10 * time.Millisecond // those that wait for a dead site, at least
	spreadMax = 30 * time.Minute
	slowAfter = 30 * time.Second // a delivery that takes so long is no sign that a site moves
	slowSite  = 2                // deliveries at once where nothing moves
	slowWait  = time.Minute      // of mail that such a site has no room for
	widenBy   = 5                // that many good deliveries per slot open one slot more
	maxSites  = 10_000           // remembered at once, those with mail apart
)

// site is one destination: hosts that stand for one another.
//
// Trouble is an outcome that is the site's, not the mail's (connection refused,
// 421, a handshake that fails). While other deliveries run there or have
// succeeded meanwhile, the site may only have too many of ours: the window
// shrinks to those. If the last of them has trouble, too, the site is dead for a
// time: nobody else tries in vain, all that waits is postponed, which is no
// attempt, and comes back when the site is probed or soon after. The probe is a
// single delivery; its success opens the window again, its failure doubles the
// time.
type site struct {
	plan  delivery.Plan // of the domain that came last: all of one site may travel together
	ready ready

	active int       // deliveries
	window int       // how many there may be
	good   int       // deliveries since the window last changed
	inLine bool      // stands in Dispatcher.runnable
	moved  time.Time // when a delivery last ended that was not slow

	alive     time.Time // last sign of life
	failures  int       // probes failed in a row
	deadUntil time.Time
	deadSince time.Time    // the first of the failures
	waiting   int          // postponed since the last of them, or since the site moved
	trouble   mail.Outcome // what is said to those that wait
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

// moves reports whether a delivery there, whatever came of it, has taken less
// than 30 s and ended no more than 30 s ago.
func (s *site) moves(now time.Time) bool { return now.Sub(s.moved) <= slowAfter }

// mayStart reports whether one more delivery may begin.
func (s *site) mayStart() bool {
	limit := s.window
	if s.failures > 0 {
		limit = 1 // the probe
	}
	return s.ready.len() > 0 && s.active < limit
}

// share is how many of the deliveries at once a site may have, so that servers
// which answer slowly or never (RFC 5321 §4.5.3.2 has us wait for minutes)
// don't keep the others' mail waiting:
//
//	deliveries under way      any site   one that does not move
//	up to a half of all       PerSite    as any
//	up to seven eighths       PerSite    2
//	more                      2          2
//
// The lock is held.
func (d *Dispatcher) share(s *site, now time.Time) int {
	if d.active >= d.cfg.Deliveries-d.cfg.Deliveries/8 || d.active >= d.cfg.Deliveries/2 && !s.moves(now) {
		return slowSite
	}
	return d.cfg.PerSite
}

// sated reports whether a site that does not move has its share of the memory,
// once an eighth of that is in use. What else comes for it is postponed. The
// lock is held.
func (d *Dispatcher) sated(s *site, now time.Time) bool {
	return d.count > d.cfg.MaxRecipients/8 && s.ready.len() >= max(maxBundle, d.cfg.MaxRecipients/200) && !s.moves(now)
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
	now := time.Now()
	for range len(d.runnable) {
		s := d.runnable[0]
		d.runnable[0] = nil
		d.runnable = d.runnable[1:]
		if !s.mayStart() {
			s.inLine = false
			continue
		}
		if s.active >= d.share(s, now) {
			d.runnable = append(d.runnable, s)
			continue
		}
		s.inLine = false
		b := s.ready.pop()
		s.active++
		d.active++
		d.metrics.ready.Sub(float64(len(b.entries)))
		d.line(s)
		return s, b
	}
	return nil, nil
}

// judge draws from the outcomes of a delivery that began at the time given what
// they say about the site, and returns what is to be postponed now that it is
// dead. The lock is held.
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
	if s.failures++; s.failures == 1 {
		s.deadSince = now
	}
	s.waiting, s.trouble = 0, inGeneral(*trouble)
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

// inGeneral is what others than the recipient of a troubled attempt may know of
// it. A reply, to whatever command, may speak of that mail and its sender; what
// befell the connection (RFC 3463 §3.5, and §3.8 for TLS) is said in our words.
func inGeneral(trouble mail.Outcome) mail.Outcome {
	o := mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 1},
		Diagnostic: "the destination is not answering; waiting with the others",
	}
	if subject := trouble.Status.Subject; trouble.Code == 0 && (subject == 4 || subject == 7) {
		o.Status, o.RemoteMTA, o.RemoteAddr = trouble.Status, trouble.RemoteMTA, trouble.RemoteAddr
		o.Diagnostic = oneLine(o.Diagnostic + ": " + trouble.Diagnostic)
	}
	return o
}

// postpone reports that entries wait for a site which is dead, or does not move.
// The first comes back when it is to be probed, or after a while. The others
// come after, at random, in a time that grows with their number and with the
// outage: when the site is well again, mail flows soon, and a backlog is not
// written anew every few minutes of a long outage. The lock is held.
func (s *site) postpone(entries []*entry, now time.Time) []report {
	from, since, o := s.deadUntil, s.deadSince, s.trouble
	if !s.dead(now) {
		from, since, o = now.Add(slowWait), now, mail.Outcome{
			Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 5},
			Diagnostic: "the destination is slow; waiting with the others",
		}
	}
	reports := reportsOf(entries, o, now)
	for i := range reports {
		reports[i].due = from
		if s.waiting > 0 {
			window := min(max(time.Duration(s.waiting)*apart, now.Sub(since)/8), spreadMax)
			reports[i].due = from.Add(rand.N(window)) //nolint:gosec // spreads load, hides nothing
		}
		s.waiting++
	}
	return reports
}
