package dispatch

import (
	"context"
	"time"

	"mittente/internal/delivery"
	"mittente/internal/mail"
)

const (
	planFor    = 30 * time.Second // a way that was found is used for this long without asking again
	noWayFor   = 5 * time.Second  // and one that was not found
	maxDomains = 10_000           // remembered at once, those with mail waiting apart
)

// domain is what is known of the way to a domain.
//
//	idle ──► in line ──► planning ──► idle, until the plan is too old
type domain struct {
	name    mail.Domain
	busy    bool // in line for a planner, or with one
	plan    *delivery.Plan
	outcome *mail.Outcome // there is no way
	until   time.Time     // when plan or outcome is too old
	waiting []*entry
}

// place puts an entry where it waits next: at its site, when the way is known
// and nothing speaks against going it, else for a planner. The lock is held.
func (d *Dispatcher) place(e *entry) {
	name := e.recipient.To.Address.Domain()
	dom := d.domains[name]
	if dom == nil {
		if len(d.domains) >= maxDomains {
			d.sweepDomains()
		}
		dom = &domain{name: name}
		d.domains[name] = dom
	}
	now := time.Now()
	if dom.plan != nil && now.Before(dom.until) {
		if s := d.site(dom.plan.Site); !s.Dead(now) && !d.full(s, e.letter.message.Account, now) {
			d.enter(s, e, *dom.plan)
			return
		}
	}
	dom.waiting = append(dom.waiting, e)
	if !dom.busy {
		dom.busy = true
		d.unplanned = append(d.unplanned, dom)
	}
}

// sweepDomains forgets domains nobody waits for. The lock is held.
func (d *Dispatcher) sweepDomains() {
	for name, dom := range d.domains {
		if !dom.busy && len(dom.waiting) == 0 {
			delete(d.domains, name)
		}
	}
}

// startPlanners starts planners while domains are in line. The lock is held.
func (d *Dispatcher) startPlanners(ctx context.Context) {
	for d.planners < min(d.cfg.Planners, d.planners+len(d.unplanned)) {
		dom := d.nextDomain()
		if dom == nil {
			return
		}
		d.planners++
		d.tasks.Go(func() { d.planAll(ctx, dom) })
	}
}

// nextDomain takes the first of the line. The lock is held.
func (d *Dispatcher) nextDomain() *domain {
	if d.draining || len(d.unsettled) > 0 || len(d.unplanned) == 0 {
		return nil
	}
	dom := d.unplanned[0]
	d.unplanned = d.unplanned[1:]
	return dom
}

// planAll plans one domain after the other until none is in line.
func (d *Dispatcher) planAll(ctx context.Context, dom *domain) {
	for dom != nil {
		d.planOne(ctx, dom)
		d.mu.Lock()
		if dom = d.nextDomain(); dom == nil {
			d.planners--
		}
		d.mu.Unlock()
	}
}

// planOne finds the way to a domain and sends on what waits for it.
func (d *Dispatcher) planOne(ctx context.Context, dom *domain) {
	d.mu.Lock()
	known := (dom.plan != nil || dom.outcome != nil) && time.Now().Before(dom.until)
	d.mu.Unlock()
	var plan delivery.Plan
	var noWay *mail.Outcome
	if !known {
		plan, noWay = d.deps.Courier.Plan(ctx, dom.name)
	}
	d.mu.Lock()
	dom.busy = false
	if ctx.Err() != nil { // says nothing about the domain; what waits is given back
		d.mu.Unlock()
		return
	}
	if !known {
		d.learn(dom, plan, noWay)
	}
	waiting := dom.waiting
	dom.waiting = nil
	reports := d.proceed(dom, waiting)
	d.startWorkers(ctx)
	d.mu.Unlock()
	d.settle(ctx, reports)
}

// learn remembers the way to a domain. The lock is held.
func (d *Dispatcher) learn(dom *domain, plan delivery.Plan, noWay *mail.Outcome) {
	d.answered(dom.name, noWay, time.Now())
	if dom.outcome = noWay; noWay != nil {
		dom.plan, dom.until = nil, time.Now().Add(noWayFor)
		return
	}
	dom.plan, dom.until = &plan, time.Now().Add(planFor)
}

// proceed lets entries enter their site, or reports why they stay away: there
// is no way, the site is dead, or has enough of its mail here. The lock is held.
func (d *Dispatcher) proceed(dom *domain, waiting []*entry) []report {
	now := time.Now()
	if dom.outcome != nil {
		return reportsOf(waiting, *dom.outcome, now)
	}
	s := d.site(dom.plan.Site)
	for _, e := range waiting {
		e.site = s
	}
	if s.Dead(now) {
		return s.postpone(waiting, now)
	}
	var none []*entry
	for _, e := range waiting {
		if d.full(s, e.letter.message.Account, now) {
			none = append(none, e)
			continue
		}
		d.enter(s, e, *dom.plan)
	}
	return s.postpone(none, now)
}
