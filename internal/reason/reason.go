// Package reason says why a recipient has not been sent yet, and when it will be.
package reason

import (
	"fmt"
	"strings"
	"time"

	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/throttle"
)

// Code names a reason.
type Code string

// The reasons, in the order in which they are looked for.
const (
	Settled      Code = "settled"       // it is delivered, failed, expired, cancelled or suppressed
	Held         Code = "held"          // an operator holds it
	Paused       Code = "paused"        // its list is paused
	NoServer     Code = "no_server"     // no server runs
	Attempting   Code = "attempting"    // it is being attempted now
	Database     Code = "database"      // a server can't use the database
	Dead         Code = "dead"          // its site does not work
	AskedSite    Code = "asked_site"    // its site asked to be left alone
	SpeedUser    Code = "speed_user"    // the hourly speed of its user is used up
	SpeedAccount Code = "speed_account" // that of its account
	Slow         Code = "slow"          // its site does not move
	Full         Code = "full"          // much mail waits for its site
	Asked        Code = "asked"         // the last reply asked to wait
	Ours         Code = "ours"          // the trouble is this house's own: an operator has to act
	DNS          Code = "dns"           // the DNS does not answer
	Deferred     Code = "deferred"      // it was deferred, and its time has not come
	Scheduled    Code = "scheduled"     // it was not attempted yet, and its time has not come
	Probing      Code = "probing"       // its site was dead, and one delivery tries it
	Window       Code = "window"        // its site showed that it takes no more at once
	Connections  Code = "connections"   // the limit of connections to its site
	Provider     Code = "provider"      // the limit of connections to its provider
	Rate         Code = "rate"          // the limit of messages in a time
	Deliveries   Code = "deliveries"    // all deliveries at once are in use
	Turn         Code = "turn"          // it waits for its turn
)

// Reason is why, and what comes next. Empty fields are "not known".
type Reason struct {
	Code     Code      `json:"code"`
	Text     string    `json:"text"` // one or two sentences for an operator
	Site     string    `json:"site,omitempty"`
	Limit    string    `json:"limit,omitempty"` // of whom: a provider, a rule of the configuration
	Reply    string    `json:"reply,omitempty"` // the last, of whom is said in it
	By       string    `json:"by,omitempty"`    // who holds it
	Since    time.Time `json:"since,omitzero"`
	Next     time.Time `json:"next,omitzero"`     // when it is looked at again
	Forecast time.Time `json:"forecast,omitzero"` // when it may be attempted, by what is known now
	Node     string    `json:"node,omitempty"`    // the server that says so
	Wish     string    `json:"wish,omitempty"`    // what an operator asked of who has it: hold, cancel, retry
}

// State is a recipient as the database has it.
type State struct {
	Recipient queue.Recipient
	Site      string    // where its mail goes; empty: not known
	Paused    bool      // its list
	By        string    // who holds it, by its record
	At        time.Time // since when
}

// Why is the reason why a recipient has not been sent yet, by what the database
// and the nodes say of it. It reads nothing but its arguments.
func Why(s State, nodes []Node, now time.Time) Reason {
	w := why{State: s, now: now, r: s.Recipient}
	w.Reason = Reason{Site: s.Site, Reply: s.Recipient.Last.Reply(), Wish: string(s.Recipient.Wish)}
	w.choose(nodes)
	for _, decide := range []func(*why) bool{(*why).atRest, (*why).inHand, (*why).held, (*why).later, (*why).bound} {
		if decide(&w) {
			break
		}
	}
	return w.Reason
}

// why is one decision.
type why struct {
	Reason
	State State
	r     queue.Recipient
	now   time.Time
	node  Node
	alive bool // any node
}

// choose takes the node that matters: of those that live the one that has most to say.
func (w *why) choose(nodes []Node) {
	most := -1
	for _, n := range nodes {
		if !n.Alive {
			continue
		}
		w.alive = true
		says := 0
		for _, told := range []bool{n.Site != nil, n.User != nil, n.Account != nil, n.House != nil} {
			if told {
				says++
			}
		}
		if says > most {
			w.node, most = n, says
		}
	}
	if w.node.Site == nil {
		w.node.Site = &Site{}
	}
}

func (w *why) say(c Code, format string, args ...any) bool {
	w.Code, w.Text = c, fmt.Sprintf(format, args...)
	return true
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// atRest is for what no server would touch.
func (w *why) atRest() bool {
	switch {
	case w.r.State.Settled():
		w.Since = w.r.SettledAt
		return w.say(Settled, "It is settled: %s at %s.", w.r.State, clock(w.Since))
	case w.r.State == queue.Held:
		w.By, w.Since = w.State.By, w.State.At
		by := ""
		if w.By != "" {
			by = fmt.Sprintf(" by %s since %s", w.By, clock(w.Since))
		}
		return w.say(Held, "It is held%s. It goes on when it is released.", by)
	case w.r.State == queue.Pending && (w.State.Paused || w.r.Parked):
		return w.say(Paused, "Its list is paused. It goes on when the list is started again.")
	case !w.alive:
		return w.say(NoServer, "No server runs on this database. It is attempted when one does.")
	}
	return false
}

// inHand is for what a server has in hand, or would have if it could.
func (w *why) inHand() bool {
	w.Node = w.node.Name
	if w.r.State == queue.Leased {
		for _, run := range w.node.Site.Running {
			if run.Message == w.r.Message {
				w.Since = run.Since
				return w.say(Attempting, "It is being attempted now, since %s.", clock(run.Since))
			}
		}
	}
	if h := w.node.House; h != nil && h.Trouble != "" {
		w.Since = h.Since
		return w.say(Database, "The server can't use its database since %s (%s). It goes on by itself when that works again.", clock(h.Since), h.Trouble)
	}
	return false
}

// held is for what waits for its site to come back.
func (w *why) held() bool {
	s := w.node.Site
	if s.Binding != string(throttle.Dead) || !w.now.Before(s.Until) {
		return false
	}
	w.Since, w.Next, w.Forecast, w.Limit = s.DeadSince, s.Until, later(s.Until, w.r.Due), s.Limit
	if s.Trouble != "" {
		w.Reply = s.Trouble
	}
	if s.Asked {
		return w.say(AskedSite, "The site asked to be left alone until %s.", clock(s.Until))
	}
	return w.say(Dead, "The site does not work since %s. It is tried again at %s; this recipient follows soon after.", clock(s.DeadSince), clock(s.Until))
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// later is for what is due later, whatever its site does.
func (w *why) later() bool {
	if w.r.State != queue.Pending || !w.r.Due.After(w.now) {
		return false
	}
	last := w.r.Last
	w.Next, w.Forecast = w.r.Due, w.r.Due
	next := clock(w.r.Due)
	switch {
	case last.Diagnostic == SayPace:
		return w.say(SpeedUser, "The hourly speed of user %s is used up%s. Its turn comes at %s.", w.r.User, perHour(w.node.User), next)
	case last.Diagnostic == SaySlow:
		return w.say(Slow, "The site is slow. This recipient is looked at again at %s.", next)
	case last.Diagnostic == SayFull:
		return w.say(Full, "Much mail waits for the site. This recipient's turn comes at about %s.", next)
	case strings.HasPrefix(last.Diagnostic, SayDead):
		return w.say(Dead, "The site did not work. This recipient is attempted again at %s.", next)
	case last.Ours:
		return w.say(Ours, "The trouble is this house's own and an operator has to act. It is attempted again at %s.", next)
	case last.RetryAfter > 0:
		return w.say(Asked, "The server asked to wait for %s. The next attempt is at %s.", last.RetryAfter, next)
	case dnsFailed(last):
		return w.say(DNS, "The DNS did not answer. The next attempt is at %s.", next)
	case last.Action == mail.Deferred:
		return w.say(Deferred, "Attempt %d was deferred. The next is at %s.", w.r.Attempts, next)
	}
	return w.say(Scheduled, "It is due at %s.", next)
}

func perHour(p *Pace) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf(" (%d recipients)", p.PerHour)
}

// dnsFailed: RFC 3463 §3.5, X.4.3 is a directory server failure.
func dnsFailed(o mail.Outcome) bool {
	return o.Code == 0 && o.Status == mail.Status{Class: 4, Subject: 4, Detail: 3}
}

// bound is for what might go now and does not.
func (w *why) bound() bool {
	s := w.node.Site
	w.Limit, w.Since, w.Next = s.Limit, time.Time{}, s.Until
	w.Forecast = w.forecast()
	of := s.Limit
	if of == "" {
		of = "this house's default"
	}
	switch throttle.Binding(s.Binding) {
	case throttle.Probing:
		return w.say(Probing, "The site was dead; one delivery tries it now, and the others wait for what comes of it.")
	case throttle.Window:
		return w.say(Window, "The site takes %d deliveries at once, as it has shown; %d are under way and %d recipients wait.", s.Window, s.Active, s.Waiting)
	case throttle.Connections:
		return w.say(Connections, "The limit of %d connections to the site (%s) is used; %d recipients wait.", s.Connections, of, s.Waiting)
	case throttle.Provider:
		return w.say(Provider, "The limit of %d connections to all sites of %s is used; %d recipients wait here.", s.Together, of, s.Waiting)
	case throttle.Rate:
		return w.say(Rate, "The limit of %s to the site (%s) is used; %d recipients wait.", s.Rate, of, s.Waiting)
	case throttle.Dead, throttle.Nothing:
	}
	return w.inTurn(s)
}

// inTurn is for what no site holds up.
func (w *why) inTurn(s *Site) bool {
	switch a, u := w.node.Account, w.node.User; {
	case a != nil && a.Next.After(w.now):
		w.Next = a.Next
		return w.say(SpeedAccount, "The hourly speed of the account (%d recipients) is used up. The next recipient goes at %s.", a.PerHour, clock(a.Next))
	case u != nil && u.Next.After(w.now):
		w.Next = u.Next
		return w.say(SpeedUser, "The hourly speed of user %s%s is used up. The next recipient goes at %s.", w.r.User, perHour(u), clock(u.Next))
	case s.ServersBusy:
		return w.say(Deliveries, "All deliveries that the server makes at once are under way; accounts go in turn.")
	}
	if h := w.node.House; h != nil && h.Most > 0 && h.Memory > h.Most/4 {
		return w.say(Turn, "It waits for its turn: %d recipients are in the server's memory, and accounts go in turn.", h.Memory)
	}
	return w.say(Turn, "It is due, and goes at its turn.")
}

// forecast is when those that wait at the site will have gone, at its present speed.
func (w *why) forecast() time.Time {
	s := w.node.Site
	if s.PerSecond <= 0 || s.Waiting == 0 {
		return time.Time{}
	}
	return w.now.Add(time.Duration(float64(s.Waiting) / s.PerSecond * float64(time.Second))).Truncate(time.Second)
}
