package dispatch

import (
	"math/rand/v2"
	"time"

	"mittente/internal/delivery"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/ready"
	"mittente/internal/reason"
	"mittente/internal/throttle"
)

const (
	apart     = 10 * time.Millisecond // those that wait for a dead site, at least
	spreadMax = 30 * time.Minute
	waitAside = time.Minute // of mail that a site has no room for
	maxSites  = 10_000      // remembered at once, those with mail apart
)

// site is one destination: hosts that stand for one another. What it may get,
// and whether it is dead, throttle knows; what waits for it, ready.
//
// While a site is dead nobody tries in vain: all that waits is postponed, which
// is no attempt, and comes back when the site is probed or soon after.
type site struct {
	*ready.Site[*entry]
	name string
	plan delivery.Plan // of the domain that came last: all of one site may travel together

	waiting int          // postponed since it was found dead, or since it moved
	horizon time.Time    // when what was postponed for want of room may all have come
	trouble mail.Outcome // what is said to those that wait for a dead site

	running  map[*ready.Delivery[*entry]]struct{}
	troubled time.Time // when its trouble was last raised as an alert
	refused  time.Time // and that it refuses us
	seen     bool      // it had mail here when report.go last looked
}

// site returns the site of that name. The lock is held.
func (d *Dispatcher) site(name string) *site {
	s := d.sites[name]
	if s == nil {
		if len(d.sites) >= maxSites {
			d.sweepSites()
		}
		s = &site{
			name: name, Site: ready.NewSite[*entry](d.limits.Site(name, time.Now())),
			running: make(map[*ready.Delivery[*entry]]struct{}),
		}
		d.sites[name] = s
	}
	return s
}

// sweepSites forgets sites where nothing waits or runs. The lock is held.
func (d *Dispatcher) sweepSites() {
	for name, s := range d.sites {
		if s.Active() == 0 && s.Len() == 0 {
			delete(d.sites, name)
		}
	}
}

// full reports whether a site has all the mail that memory should hold for it:
// a two-hundredth of what memory takes if it does not move, once an eighth is in
// use; else a tenth of one account's. What else comes is postponed. The lock is held.
func (d *Dispatcher) full(s *site, a id.Account, now time.Time) bool {
	most := d.cfg.MaxRecipients
	if d.count > most/8 && !s.Moves(now) {
		return s.load() >= max(ready.MaxBundle, most/200)
	}
	return s.Of(a) >= max(ready.MaxBundle, most/10)
}

// load is how many recipients of a site are in memory, those under way included.
func (s *site) load() int {
	n := s.Len()
	for b := range s.running {
		n += len(b.Entries)
	}
	return n
}

// enter lets an entry wait at its site. The lock is held.
func (d *Dispatcher) enter(s *site, e *entry, plan delivery.Plan) {
	s.plan, e.site = plan, s
	m := e.letter.message
	d.ready.Push(s.Site, ready.Mail{Account: m.Account, Message: m.ID, Priority: m.Priority, Accepted: m.AcceptedAt}, e)
	d.metrics.ready.Set(float64(d.ready.Len()))
}

// next begins the delivery whose turn it is; nil when none may begin. The lock is held.
func (d *Dispatcher) next() *ready.Delivery[*entry] {
	if d.draining || len(d.unsettled) > 0 {
		return nil
	}
	now := time.Now()
	b := d.ready.Next(now)
	if b == nil {
		d.wakeAt(d.ready.Wake(), now)
		return nil
	}
	b.Entries[0].site.running[b] = struct{}{}
	d.metrics.ready.Set(float64(d.ready.Len()))
	return b
}

// wakeAt looks again at a time, for what waits for its rate. The lock is held.
func (d *Dispatcher) wakeAt(at, now time.Time) {
	if at.IsZero() || !d.waking.IsZero() && !at.Before(d.waking) {
		return
	}
	d.waking = at
	time.AfterFunc(max(time.Millisecond, min(at.Sub(now), time.Minute)), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.waking = time.Time{}
		signal(d.starts)
	})
}

// end notes what a delivery has shown of its site, and returns what is to be
// postponed now that it is dead. The lock is held.
func (d *Dispatcher) end(b *ready.Delivery[*entry], s *site, outcomes []mail.Outcome, now time.Time) []*entry {
	delete(s.running, b)
	sign, ask := signOf(outcomes)
	died := d.ready.End(b, now, sign, ask)
	if sign != throttle.None && s.Moves(now) {
		s.waiting = 0
	}
	if sign == throttle.Away {
		d.troubled(s, outcomes[0], now)
	}
	if !died {
		return nil
	}
	s.waiting, s.trouble = 0, inGeneral(outcomes[0])
	d.metrics.dead.Inc()
	return d.ready.Take(s.Site)
}

// signOf draws from the outcomes of one delivery what they say about the site:
//
//	all deferred, all of them the site's trouble    away
//	all deferred, because we send too much          busy
//	anything else                                   good
//	none at all, because the trouble is ours        nothing
//
// "Too much" is what RFC 3463 calls system congestion, not accepting messages, and
// what providers say by a security status other than x.7.1, which greylisting uses.
func signOf(outcomes []mail.Outcome) (sign throttle.Sign, ask time.Duration) {
	if len(outcomes) == 0 {
		return throttle.None, 0
	}
	sign = throttle.Away
	for _, o := range outcomes {
		switch {
		case o.Action == mail.Deferred && o.Scope == mail.ScopeSite:
			ask = max(ask, o.RetryAfter)
		case o.Action == mail.Deferred && tooMuch(o.Status):
			sign = throttle.Busy
		default:
			return throttle.Good, 0
		}
	}
	return sign, ask
}

func tooMuch(s mail.Status) bool {
	switch (mail.Status{Subject: s.Subject, Detail: s.Detail}) {
	case mail.Status{Subject: 3, Detail: 2}, mail.Status{Subject: 4, Detail: 5}:
		return true
	}
	return s.Subject == 7 && s.Detail != 1
}

// inGeneral is what others than the recipient of a troubled attempt may know of
// it. A reply, to whatever command, may speak of that mail and its sender; what
// befell the connection (RFC 3463 §3.5, and §3.8 for TLS) is said in our words.
func inGeneral(trouble mail.Outcome) mail.Outcome {
	o := mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 1},
		Diagnostic: reason.SayDead,
	}
	if subject := trouble.Status.Subject; trouble.Code == 0 && (subject == 4 || subject == 7) {
		o.Status, o.RemoteMTA, o.RemoteAddr = trouble.Status, trouble.RemoteMTA, trouble.RemoteAddr
		o.Diagnostic = mail.Diagnostic(o.Diagnostic + ": " + trouble.Diagnostic)
	}
	return o
}

// postpone reports that entries wait for a site which is dead, does not move, or
// has enough of its mail in memory. Of the first two, the first comes back when
// the site is to be probed, or after a while. The others come after, at random,
// in a time that grows with their number and with the outage: when the site is
// well again, mail flows soon, and a backlog is not written anew every few minutes
// of a long outage. At a site that moves they come back as it takes them. The
// lock is held.
func (s *site) postpone(entries []*entry, now time.Time) []report {
	if !s.Dead(now) && s.Moves(now) {
		return s.queueUp(entries, now)
	}
	since, from := s.Since(now)
	o := s.trouble
	if !s.Dead(now) {
		from, since, o = now.Add(waitAside), now, reason.Aside(reason.SaySlow)
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

// queueUp postpones entries until the site will have taken those before them.
func (s *site) queueUp(entries []*entry, now time.Time) []report {
	each := min(time.Duration(float64(time.Second)/max(s.PerSecond(now), 0.1)), waitAside)
	if first := now.Add(max(waitAside, time.Duration(s.Len())*each)); s.horizon.Before(first) || s.horizon.Sub(now) > maxHorizon {
		s.horizon = first
	}
	reports := reportsOf(entries, reason.Aside(reason.SayFull), now)
	for i := range reports {
		reports[i].due = s.horizon
		s.horizon = s.horizon.Add(each)
	}
	return reports
}

// maxHorizon is how far ahead a place in the line is given.
const maxHorizon = 4 * time.Hour
