// Package ready keeps the mail that may be attempted now, telling whose turn it is.
//
// # Whose turn it is
//
// First come the accounts, in turn: each gets one delivery, whatever it has
// waiting. Of an account come its lanes in turn, a lane being its mail for one
// site. In a lane the priorities share 16:8:4:2:1, the older mail first. A lane
// that may not go now stands aside at its site, in a line in which the accounts
// are again in turn, until a delivery there ends.
//
//	account ──► lane ──► priority ──► bundle
//	            │    ▲
//	            ▼    │ a delivery ended there
//	          beside the site
//
// # Who may have how many of the deliveries at once
//
// Servers that answer slowly or never (RFC 5321 §4.5.3.2 has us wait for minutes)
// must not keep the others' mail waiting. A delivery is slow when its site does
// not move as it begins, or when it has taken 30 s:
//
//	deliveries under way     to a site that moves   to one that does not
//	up to a half of all      its window             its window
//	up to seven eighths      its window             2
//	more                     2                      2
//
// Slow ones together have seven eighths, and of them an account no more than it
// leaves to others: one alone gets a half, two get a third each. While nobody
// else has mail here, an account gets three quarters of all.
package ready

import (
	"container/list"
	"time"

	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/throttle"
)

const (
	// MaxBundle is how many recipients share a transaction (RFC 5321 §4.5.3.1.8
	// lets every server take 100).
	MaxBundle = 100

	slowAfter  = 30 * time.Second
	slowSite   = 2 // deliveries at once where nothing moves
	lookAside  = 4 // lanes that stood aside for want of deliveries are looked at again when one ends
	priorities = 5
)

// Mail is what the order of a recipient depends on.
type Mail struct {
	Account  id.Account
	Message  id.Message // those of one message share bundles
	Priority mail.Priority
	Accepted time.Time
}

// Queue is all mail that may be attempted, of all sites. E stands for a
// recipient. It is not safe for concurrent use.
type Queue[E any] struct {
	total  int // deliveries at once
	active int
	count  int

	tenants map[id.Account]*tenant[E]
	turn    fifo[*tenant[E]]

	slow  int                    // deliveries
	young list.List              // of *Delivery, not yet 30 s old, the oldest first
	aside fifo[*Site[E]]         // with lanes that wait for deliveries elsewhere to end
	timed map[*Site[E]]time.Time // with lanes that wait for a time
}

// Site is a destination with what waits for it.
type Site[E any] struct {
	*throttle.Site

	lanes      map[id.Account]*lane[E]
	parked     fifo[*lane[E]]
	count      int
	isAside    bool
	throughput throttle.Meter
}

// tenant is an account that has mail here.
type tenant[E any] struct {
	account id.Account
	lanes   fifo[*lane[E]] // those that may go, as far as is known
	inTurn  bool
	held    int // lanes with mail, or deliveries under way
	slow    int // deliveries
}

// Delivery is a bundle under way.
type Delivery[E any] struct {
	Site    *Site[E]
	Entries []E // of one message
	Began   time.Time

	tenant *tenant[E]
	slow   bool
	young  *list.Element
}

// New returns an empty queue for so many deliveries at once.
func New[E any](deliveries int) *Queue[E] {
	return &Queue[E]{
		total: deliveries, tenants: make(map[id.Account]*tenant[E]), timed: make(map[*Site[E]]time.Time),
	}
}

// NewSite returns a site where nothing waits.
func NewSite[E any](s *throttle.Site) *Site[E] {
	return &Site[E]{Site: s, lanes: make(map[id.Account]*lane[E])}
}

// Len returns how many recipients wait.
func (q *Queue[E]) Len() int { return q.count }

// Active returns how many deliveries are under way, and how many of them are slow.
func (q *Queue[E]) Active() (all, slow int) { return q.active, q.slow }

// Len returns how many recipients wait for the site.
func (s *Site[E]) Len() int { return s.count }

// Of returns how many of an account wait for the site.
func (s *Site[E]) Of(a id.Account) int {
	if l := s.lanes[a]; l != nil {
		return l.count
	}
	return 0
}

// PerSecond returns how many recipients' deliveries end there in a second.
func (s *Site[E]) PerSecond(now time.Time) float64 { return s.throughput.PerSecond(now) }

// Push adds a recipient's mail to a site.
func (q *Queue[E]) Push(s *Site[E], m Mail, e E) {
	l := s.lanes[m.Account]
	if l == nil {
		l = &lane[E]{site: s, tenant: q.tenant(m.Account)}
		l.tenant.held++
		s.lanes[m.Account] = l
	}
	l.push(m, e)
	s.count++
	q.count++
	if l.where == nowhere {
		l.where = inLine
		l.tenant.lanes.push(l)
	}
	q.line(l.tenant)
}

func (q *Queue[E]) tenant(a id.Account) *tenant[E] {
	t := q.tenants[a]
	if t == nil {
		t = &tenant[E]{account: a}
		q.tenants[a] = t
	}
	return t
}

// line gives an account its turn, if it has a lane that may go.
func (q *Queue[E]) line(t *tenant[E]) {
	if !t.inTurn && t.lanes.len() > 0 {
		t.inTurn = true
		q.turn.push(t)
	}
}

// release forgets an account that has nothing here any more.
func (q *Queue[E]) release(t *tenant[E]) {
	if t.held--; t.held == 0 {
		delete(q.tenants, t.account)
	}
}

// Next begins the delivery whose turn it is; nil when none may begin.
func (q *Queue[E]) Next(now time.Time) *Delivery[E] {
	q.age(now)
	q.wake(now)
	if q.active >= q.total {
		return nil
	}
	for q.turn.len() > 0 {
		t := q.turn.pop()
		t.inTurn = false
		l := q.pick(t, now)
		if l == nil {
			continue
		}
		d := q.begin(l, now)
		q.line(t)
		return d
	}
	return nil
}

// pick takes the next lane of an account that may go; the others stand aside.
func (q *Queue[E]) pick(t *tenant[E], now time.Time) *lane[E] {
	for t.lanes.len() > 0 {
		l := t.lanes.pop()
		l.where = nowhere
		if l.count == 0 {
			continue
		}
		binding, at := l.site.Check(now)
		if binding == throttle.Nothing && q.mayHave(l, now) {
			return l
		}
		l.where = beside
		l.site.parked.push(l)
		switch {
		case !at.IsZero():
			q.timed[l.site] = at
		case binding == throttle.Nothing, binding == throttle.Provider:
			q.putAside(l.site)
		}
	}
	return nil
}

// mayHave says by the table above whether a lane may have one more of the deliveries.
func (q *Queue[E]) mayHave(l *lane[E], now time.Time) bool {
	moves, most := l.site.Moves(now), q.total-q.total/8
	switch {
	case q.active >= most && l.site.Active() >= slowSite:
		return false
	case moves:
		return true
	case q.active >= q.total/2 && l.site.Active() >= slowSite, q.slow >= most:
		return false
	case l.tenant.slow < most-q.slow:
		return true
	}
	return len(q.tenants) == 1 && q.slow < q.total-q.total/4
}

func (q *Queue[E]) putAside(s *Site[E]) {
	if !s.isAside {
		s.isAside = true
		q.aside.push(s)
	}
}

func (q *Queue[E]) begin(l *lane[E], now time.Time) *Delivery[E] {
	d := &Delivery[E]{Site: l.site, Entries: l.pop(), Began: now, tenant: l.tenant, slow: !l.site.Moves(now)}
	l.site.count -= len(d.Entries)
	q.count -= len(d.Entries)
	l.tenant.held++
	if d.slow {
		q.slow++
		l.tenant.slow++
	}
	q.active++
	l.site.Begin(now)
	d.young = q.young.PushBack(d)
	q.keep(l)
	return d
}

// keep puts a lane in line again, or forgets it when it is empty.
func (q *Queue[E]) keep(l *lane[E]) {
	if l.count > 0 {
		l.where = inLine
		l.tenant.lanes.push(l)
		return
	}
	delete(l.site.lanes, l.tenant.account)
	q.release(l.tenant)
}

// End ends a delivery with what it has shown of its site (throttle.Site.End).
func (q *Queue[E]) End(d *Delivery[E], now time.Time, sign throttle.Sign, ask time.Duration) (died bool) {
	q.young.Remove(d.young)
	q.active--
	if d.slow {
		q.slow--
		d.tenant.slow--
	}
	if sign != throttle.None {
		d.Site.throughput.Add(len(d.Entries), now)
	}
	died = d.Site.End(d.Began, now, sign, ask)
	q.release(d.tenant)
	q.unpark(d.Site, max(1, d.Site.Window()-d.Site.Active()))
	for range min(lookAside, q.aside.len()) {
		s := q.aside.pop()
		s.isAside = false
		q.unpark(s, 1)
		if s.parked.len() > 0 {
			q.putAside(s)
		}
	}
	return died
}

// unpark lets up to n lanes that stand beside a site go before the others of
// their accounts.
func (q *Queue[E]) unpark(s *Site[E], n int) {
	for ; n > 0 && s.parked.len() > 0; n-- {
		l := s.parked.pop()
		if l.where != beside || l.count == 0 {
			n++
			l.where = nowhere
			continue
		}
		l.where = inLine
		l.tenant.lanes.unshift(l)
		q.line(l.tenant)
	}
}

// age notes deliveries that have become slow. The clock may have jumped: what
// began in the future is of no age.
func (q *Queue[E]) age(now time.Time) {
	for e := q.young.Front(); e != nil; e = q.young.Front() {
		d := e.Value.(*Delivery[E]) //nolint:forcetypeassert // the list has nothing else
		if now.Sub(d.Began) < slowAfter {
			return
		}
		q.young.Remove(e)
		if !d.slow {
			d.slow = true
			q.slow++
			d.tenant.slow++
		}
	}
}

// wake lets go what has waited for its time.
func (q *Queue[E]) wake(now time.Time) {
	for s, at := range q.timed {
		if !at.After(now) {
			delete(q.timed, s)
			q.unpark(s, s.parked.len())
		}
	}
}

// Wake returns when Next may find something that it does not find now; zero:
// when a delivery ends, or something comes.
func (q *Queue[E]) Wake() time.Time {
	var first time.Time
	for _, at := range q.timed {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// Take removes what waits at a site, and returns it.
func (q *Queue[E]) Take(s *Site[E]) []E { return q.Remove(s, func(E) bool { return true }) }

// Remove removes from a site what is gone, as a function says, and returns it.
func (q *Queue[E]) Remove(s *Site[E], gone func(E) bool) (taken []E) {
	for account, l := range s.lanes {
		taken = append(taken, l.filter(gone)...)
		if l.count == 0 {
			delete(s.lanes, account)
			q.release(l.tenant)
		}
	}
	s.count -= len(taken)
	q.count -= len(taken)
	return taken
}
