package dispatch

import (
	"context"
	"time"

	"mittente/internal/id"
	"mittente/internal/queue"
	"mittente/internal/throttle"
)

const (
	maxPaces    = 10_000           // remembered at once
	paceRefresh = 10 * time.Second // after so long, speeds are asked for again
)

// Speed is how many recipients of an account and of one of its users may be
// attempted in an hour (requirement M10); 0: no bound. It paces, and refuses nothing.
type Speed struct{ Account, User int64 }

// pace is an hourly speed in use.
type pace struct {
	throttle.Pace
	speed   int64
	horizon time.Time // when what was postponed for it may all have come
}

// paces are the hourly speeds of those who have one.
//
// That of an account is kept by taking in no more of its mail than may go: what
// waits, waits in the table, in the order of its priorities. That of a user, who
// shares the table's order with others of the account, is kept by postponing.
type paces struct {
	account map[id.Account]*pace
	user    map[string]*pace
}

func newPaces() paces {
	return paces{account: make(map[id.Account]*pace), user: make(map[string]*pace)}
}

// learnSpeeds asks for the speeds that hold for items. The lock is not held.
func (d *Dispatcher) learnSpeeds(ctx context.Context, items []queue.Item) {
	if d.deps.Speed == nil {
		return
	}
	type who struct {
		account id.Account
		user    string
	}
	speeds := make(map[who]Speed, 1)
	for _, item := range items {
		w := who{item.Message.Account, item.Message.UserName}
		if _, known := speeds[w]; !known {
			speeds[w] = d.deps.Speed(ctx, w.account, w.user)
		}
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for w, s := range speeds {
		set(d.paces.account, w.account, s.Account, now)
		set(d.paces.user, w.user, s.User, now)
	}
}

// set gives somebody a speed, or takes it away. What has a bound is remembered;
// when that is too much, anything is forgotten.
func set[K comparable](paces map[K]*pace, who K, speed int64, now time.Time) {
	p := paces[who]
	switch {
	case p == nil && speed == 0:
		return
	case speed == 0:
		delete(paces, who)
		return
	case p == nil:
		if len(paces) >= maxPaces {
			for k := range paces {
				delete(paces, k)
				break
			}
		}
		p = &pace{}
		paces[who] = p
	}
	if p.speed != speed {
		p.speed, p.horizon = speed, time.Time{}
		p.Set(speed, time.Hour, now)
	}
}

// refreshSpeeds asks again for the speeds of accounts that have one, now and
// then, and after a change: an account whose speed is used up has no mail that
// comes in and has it asked for.
func (d *Dispatcher) refreshSpeeds(ctx context.Context) {
	if d.deps.Speed == nil {
		return
	}
	now := time.Now()
	d.mu.Lock()
	if since := now.Sub(d.refreshed); since >= 0 && since < paceRefresh {
		d.mu.Unlock()
		return
	}
	d.refreshed = now
	accounts := make([]id.Account, 0, len(d.paces.account))
	for a := range d.paces.account {
		accounts = append(accounts, a)
	}
	d.mu.Unlock()
	for _, a := range accounts {
		speed := d.deps.Speed(ctx, a, "")
		d.mu.Lock()
		set(d.paces.account, a, speed.Account, now)
		d.mu.Unlock()
	}
}

// usedUp reports whether the speed of an account is. Its mail comes in all the
// same when the first of it tells that there is a speed. The lock is held.
func (d *Dispatcher) usedUp(a id.Account, now time.Time) bool {
	p := d.paces.account[a]
	return p != nil && p.Free(now) < 1
}

// takePace takes an entry's place in the speeds that hold for it. When that of
// the user is used up, it returns when the entry's turn comes. The lock is held.
func (d *Dispatcher) takePace(e *entry, now time.Time) (later time.Time) {
	m := e.letter.message
	if p := d.paces.user[m.UserName]; p != nil {
		if p.Free(now) < 1 {
			return p.queueUp(now)
		}
		p.Take(1, now)
	}
	if p := d.paces.account[m.Account]; p != nil {
		p.Take(1, now)
	}
	e.paced = true
	return time.Time{}
}

// queueUp returns when the turn comes of who stands in line after all others.
func (p *pace) queueUp(now time.Time) time.Time {
	each := time.Hour / time.Duration(p.speed)
	if first := p.Next(0, now); p.horizon.Before(first) || p.horizon.Sub(now) > maxHorizon {
		p.horizon = first
	}
	at := p.horizon
	p.horizon = at.Add(each)
	return at
}

// givePaceBack returns the place of an entry that was not attempted. The lock is held.
func (d *Dispatcher) givePaceBack(e *entry) {
	if !e.paced {
		return
	}
	e.paced = false
	if p := d.paces.user[e.letter.message.UserName]; p != nil {
		p.GiveBack(1)
	}
	if p := d.paces.account[e.letter.message.Account]; p != nil {
		p.GiveBack(1)
	}
}
