package delivery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"mittente/internal/mail"
	"mittente/internal/route"
	"mittente/internal/smtpclient"
)

// attempt is one Deliver under way. A recipient is pending while its outcome
// has no action.
type attempt struct {
	courier  *Courier
	plan     Plan
	policy   route.TLSPolicy // of plan and job, the stronger
	job      Job
	outcomes []mail.Outcome
	scratch  *scratch

	last      mail.Outcome // what pending recipients get when no host is left
	noted     bool         // last is what a host said, or would not say
	addressed bool         // some host has addresses, or may have
	looped    bool         // less preferred hosts would only bring the mail back
	dials     int          // still allowed
}

// next says how it goes on after a connection was used.
type next int

const (
	finished   next = iota // no recipient is pending
	reconnect              // the same host, another connection
	anotherWay             // another host
)

// Deliver tries to hand the job to the hosts of the plan, and returns one
// outcome per recipient, in the order of job.To. When ctx ends before the
// final dot the attempt is given up; after it the reply is waited for, but
// only for Timeouts.Grace. Recipients cut short so are deferred with 4.3.2.
func (c *Courier) Deliver(ctx context.Context, plan Plan, job Job) []mail.Outcome {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.AttemptTimeout, errTooLong)
	defer cancel()
	a := &attempt{
		courier: c, plan: plan, policy: plan.TLS.AtLeast(job.TLS), job: job, outcomes: make([]mail.Outcome, len(job.To)),
		scratch: c.scratch.get(), dials: c.cfg.MaxAddresses,
	}
	defer c.scratch.put(a.scratch)
	a.run(ctx)
	for i := range a.outcomes {
		if a.pending(i) {
			a.outcomes[i] = a.last
		}
	}
	c.metrics.duration.Observe(time.Since(began).Seconds())
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.LogAttrs(ctx, slog.LevelDebug, "attempt made", slog.String("site", plan.Site),
			slog.Int("recipients", len(job.To)), slog.Duration("took", time.Since(began)))
	}
	return a.outcomes
}

func (a *attempt) pending(i int) bool { return a.outcomes[i].Action == "" }

// batch returns the recipients of the next transaction, as many as we and the
// server have in one; it is valid until the next call.
func (a *attempt) batch(ext *smtpclient.Extensions) []int {
	limit := lesser(a.courier.cfg.MaxRecipients, ext.Recipients)
	to := a.scratch.to[:0]
	var domains []mail.Domain // told apart only where the server counts them (RFC 9422)
	for i := range a.outcomes {
		if len(to) == limit {
			break
		}
		if !a.pending(i) {
			continue
		}
		if ext.Domains > 0 {
			d := a.job.To[i].To.Address.Domain()
			switch {
			case slices.Contains(domains, d):
			case len(domains) == ext.Domains:
				continue
			default:
				domains = append(domains, d)
			}
		}
		to = append(to, i)
	}
	a.scratch.to = to
	return to
}

// lesser is ours, or what the server says if that is less; 0 says nothing.
func lesser(ours, theirs int) int {
	if theirs > 0 {
		return min(ours, theirs)
	}
	return ours
}

// done reports whether no recipient is pending.
func (a *attempt) done() bool {
	return !slices.ContainsFunc(a.outcomes, func(o mail.Outcome) bool { return o.Action == "" })
}

// run goes through the hosts until no recipient is pending.
func (a *attempt) run(ctx context.Context) {
	if len(a.outcomes) == 0 {
		return
	}
	a.last = *deferred(mail.Status{Class: 4, Subject: 4, Detail: 1}, "no host could be tried")
	hosts := a.plan.Order()
	tried := ""
	if l := a.idle(hosts); l != nil {
		switch a.use(ctx, l) {
		case finished:
			return
		case anotherWay:
			tried = l.to.host
		case reconnect:
		}
	}
	for _, h := range hosts {
		if a.looped || a.noted && ctx.Err() != nil {
			return
		}
		if h.Name != tried && a.host(ctx, h) {
			return
		}
	}
	if !a.addressed && len(hosts) > 0 && tried == "" {
		a.last = a.nowhere()
	}
}

// nowhere is the outcome when not one host has an address (RFC 5321 §5.1). A
// static route is our own configuration, which fails nobody's mail.
func (a *attempt) nowhere() mail.Outcome {
	text := "no host of " + a.plan.Site + " has an address"
	if a.plan.Static() {
		return ours(mail.Status{Class: 4, Subject: 4, Detail: 4}, text).outcome
	}
	return *failed(0, mail.Status{Class: 5, Subject: 4, Detail: 4}, text)
}

// idle returns a waiting connection to one of the most preferred hosts.
func (a *attempt) idle(hosts []route.Host) *link {
	for _, h := range hosts {
		if h.Preference != hosts[0].Preference {
			return nil
		}
		if l := a.courier.pool.get(termsOf(h, a.plan, a.policy)); l != nil {
			a.courier.metrics.connections.WithLabelValues("reused").Inc()
			return l
		}
	}
	return nil
}

// host tries the addresses of h, and reports whether no recipient is pending any more.
func (a *attempt) host(ctx context.Context, h route.Host) (done bool) {
	addrs, err := a.courier.router.Addresses(ctx, h)
	if errors.Is(err, route.ErrNoAddress) {
		return false
	}
	a.addressed = true
	if why := smtpclient.Interruption(ctx); why != nil {
		a.note(lost(smtpclient.AtConnect, why))
		return false
	}
	if err != nil {
		o := deferred(mail.Status{Class: 4, Subject: 4, Detail: 3}, err.Error())
		o.RemoteMTA = h.Name
		a.note(*o)
		return false
	}
	for i := 0; i < len(addrs) && a.dials > 0 && ctx.Err() == nil; {
		a.dials--
		l, tr := a.connect(ctx, h, addrs[i])
		if tr != nil {
			a.trouble(h, tr)
			if !tr.dead {
				return false
			}
			i++
			continue
		}
		switch a.use(ctx, l) {
		case finished:
			return true
		case anotherWay:
			return false
		case reconnect:
			a.dials++ // it took mail: not a try in vain
		}
	}
	return false
}

// trouble notes why h could not be used. Where the server is this one, only
// hosts that are preferred to it remain (RFC 5321 §5.1); there are none before
// the first.
func (a *attempt) trouble(h route.Host, tr *trouble) {
	switch {
	case !tr.ourselves:
		a.note(tr.outcome)
	case h.Preference == a.plan.Hosts[0].Preference:
		a.last, a.noted, a.looped = tr.outcome, true, true
	default:
		a.looped = true
	}
}

// note keeps o for the recipients that stay pending: what a server said says
// more than that another was silent.
func (a *attempt) note(o mail.Outcome) {
	if !a.noted || a.last.Code == 0 || o.Code != 0 {
		a.last, a.noted = o, true
	}
}

// use runs transactions over l until no recipient is pending, or l is of no more use.
func (a *attempt) use(ctx context.Context, l *link) next {
	detach := l.Attach(ctx)
	defer detach()
	limit := lesser(lesser(a.courier.cfg.MaxPerConnection, a.job.PerConnection), l.Extensions().Transactions)
	for {
		to := a.batch(l.Extensions())
		if len(to) == 0 {
			detach()
			a.keep(l, limit)
			return finished
		}
		if l.used >= limit {
			a.courier.pool.quit(l)
			return reconnect
		}
		l.used++
		t := transaction{attempt: a, link: l, to: to}
		o := t.run()
		switch {
		case o != nil && l.reused && !t.answered() && ctx.Err() == nil:
			// The server had closed it while it waited: that is no attempt.
			l.Close()
			return reconnect
		case t.outOfStep:
			a.courier.pool.quit(l)
			return reconnect
		case o != nil:
			a.note(l.sign(*o))
			a.courier.pool.quit(l)
			if a.done() {
				return finished
			}
			return anotherWay
		case l.Broken() && !a.done():
			a.note(l.sign(*deferred(mail.Status{Class: 4, Subject: 4, Detail: 2}, "connection closed before all recipients were named")))
			l.Close()
			return anotherWay
		}
	}
}

func (a *attempt) keep(l *link, limit int) {
	if l.Broken() || l.used >= limit {
		a.courier.pool.quit(l)
		return
	}
	if !l.Quiet() {
		l.Close()
		return
	}
	a.courier.pool.put(l)
}
