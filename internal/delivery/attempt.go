package delivery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"mittente/internal/mail"
)

// attempt is one Deliver under way. A recipient is pending while its outcome
// has no action.
type attempt struct {
	courier  *Courier
	plan     Plan
	job      Job
	outcomes []mail.Outcome
	scratch  *scratch

	last      mail.Outcome // what pending recipients get when no host is left
	noted     bool         // last is what a host said, or would not say
	addressed bool         // some host has addresses, or may have
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
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeouts.Attempt, errTooLong)
	defer cancel()
	a := &attempt{
		courier: c, plan: plan, job: job, outcomes: make([]mail.Outcome, len(job.To)),
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

// batch returns the recipients of the next transaction; it is valid until the next call.
func (a *attempt) batch() []int {
	to := a.scratch.to[:0]
	for i := range a.outcomes {
		if len(to) == a.courier.cfg.MaxRecipients {
			break
		}
		if a.pending(i) {
			to = append(to, i)
		}
	}
	a.scratch.to = to
	return to
}

// run goes through the hosts until no recipient is pending.
func (a *attempt) run(ctx context.Context) {
	if len(a.outcomes) == 0 {
		return
	}
	a.last = *deferred(mail.Status{Class: 4, Subject: 4, Detail: 1}, "no host could be tried")
	hosts := a.plan.order()
	tried := ""
	if c := a.idle(hosts); c != nil {
		switch a.use(ctx, c) {
		case finished:
			return
		case anotherWay:
			tried = c.terms.host
		case reconnect:
		}
	}
	for _, h := range hosts {
		if a.noted && ctx.Err() != nil {
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
// route is our own configuration, which fails nobody's mail.
func (a *attempt) nowhere() mail.Outcome {
	text := "no host of " + a.plan.Site + " has an address"
	if a.plan.routed {
		return *deferred(mail.Status{Class: 4, Subject: 4, Detail: 4}, text)
	}
	return *failed(0, mail.Status{Class: 5, Subject: 4, Detail: 4}, text)
}

// idle returns a waiting connection to one of the most preferred hosts.
func (a *attempt) idle(hosts []Host) *conn {
	for _, h := range hosts {
		if h.Preference != hosts[0].Preference {
			return nil
		}
		if c := a.courier.pool.get(a.courier.terms(h, a.plan)); c != nil {
			a.courier.metrics.connections.WithLabelValues("reused").Inc()
			return c
		}
	}
	return nil
}

// host tries the addresses of h, and reports whether no recipient is pending any more.
func (a *attempt) host(ctx context.Context, h Host) (done bool) {
	addrs, err := a.courier.addresses(ctx, h)
	if errors.Is(err, errNoAddress) {
		return false
	}
	a.addressed = true
	if why := interruption(ctx); why != nil {
		a.note(lost(atConnect, why))
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
		c, tr := a.courier.connect(ctx, h, addrs[i], a.plan)
		if tr != nil {
			a.note(tr.outcome)
			if !tr.dead {
				return false
			}
			i++
			continue
		}
		switch a.use(ctx, c) {
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

// note keeps o for the recipients that stay pending: what a server said says
// more than that another was silent.
func (a *attempt) note(o mail.Outcome) {
	if !a.noted || a.last.Code == 0 || o.Code != 0 {
		a.last, a.noted = o, true
	}
}

// use runs transactions over c until no recipient is pending, or c is of no more use.
func (a *attempt) use(ctx context.Context, c *conn) next {
	detach := c.attach(ctx)
	defer detach()
	for {
		to := a.batch()
		if len(to) == 0 {
			detach()
			a.keep(c)
			return finished
		}
		if c.used >= a.courier.cfg.MaxPerConnection {
			a.courier.pool.quit(c)
			return reconnect
		}
		c.used++
		t := transaction{attempt: a, conn: c, to: to}
		o := t.run()
		switch {
		case o != nil && c.reused && !t.answered && ctx.Err() == nil:
			// The server had closed it while it waited: that is no attempt.
			c.close()
			return reconnect
		case o != nil:
			a.note(c.sign(*o))
			// Where replies are still under way, a QUIT would have to wait for them all.
			c.broken = c.broken || t.awaited > 0
			a.courier.pool.quit(c)
			if len(a.batch()) == 0 {
				return finished
			}
			return anotherWay
		case c.broken && len(a.batch()) > 0:
			a.note(c.sign(*deferred(mail.Status{Class: 4, Subject: 4, Detail: 2}, "connection closed before all recipients were named")))
			c.close()
			return anotherWay
		}
	}
}

func (a *attempt) keep(c *conn) {
	if c.broken || c.used >= a.courier.cfg.MaxPerConnection {
		a.courier.pool.quit(c)
		return
	}
	if !c.quiet() {
		c.close()
		return
	}
	a.courier.pool.put(c)
}
