package reason

import (
	"strings"
	"testing"
	"time"

	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

var (
	now     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	soon    = now.Add(10 * time.Minute)
	ago     = now.Add(-time.Hour)
	message = id.New[id.Message]()
)

func recipient(s queue.State, due time.Time, last mail.Outcome) State {
	return State{Site: "mx.test:25", Recipient: queue.Recipient{
		State: s, Due: due, Last: last, Message: message, Attempts: 2, User: "s1_1", SettledAt: ago,
	}}
}

func deferred(text string) mail.Outcome {
	return mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeRecipient, Code: 450, Status: mail.Status{Class: 4, Subject: 2, Detail: 1}, Diagnostic: text,
	}
}

// up is a node that lives, with what it tells of the site.
func up(s *Site) []Node { return []Node{{Name: "one", Alive: true, Site: s}} }

// TestWhy is the table of reasons: for each state, what is said.
func TestWhy(t *testing.T) {
	t.Parallel()
	due, waits := recipient(queue.Pending, ago, mail.Outcome{}), recipient(queue.Pending, soon, deferred("mailbox busy"))
	asked := deferred("come back in 10 minutes")
	asked.RetryAfter = 10 * time.Minute
	ours := deferred("our address is blocked")
	ours.Ours = true
	noDNS := mail.Outcome{Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 3}, Diagnostic: "SERVFAIL"}
	held := recipient(queue.Held, ago, mail.Outcome{})
	held.By, held.At = "ada", ago
	paused, parked := due, due
	paused.Paused, parked.Recipient.Parked = true, true
	leased := recipient(queue.Leased, ago, mail.Outcome{})
	pausedButRunning := leased
	pausedButRunning.Paused = true
	down := []Node{{Name: "one"}}
	dead := &Site{Binding: "dead", Until: soon, DeadSince: ago, Trouble: "4.4.1 connection refused"}
	rest := &Site{Binding: "dead", Until: soon, DeadSince: ago, Asked: true}
	running := &Site{Running: []Running{{message, ago}}}

	for name, c := range map[string]struct {
		state State
		nodes []Node
		code  Code
		text  string // stands in it
		next  time.Time
	}{
		"settled":                   {recipient(queue.Delivered, ago, mail.Outcome{}), up(nil), Settled, "delivered", time.Time{}},
		"expired":                   {recipient(queue.Expired, ago, mail.Outcome{}), down, Settled, "expired", time.Time{}},
		"held by an operator":       {held, up(dead), Held, "by ada since 2026-03-01 11:00:00 UTC", time.Time{}},
		"list paused":               {paused, up(nil), Paused, "list is paused", time.Time{}},
		"list paused, set aside":    {parked, up(nil), Paused, "list is paused", time.Time{}},
		"no server running":         {due, down, NoServer, "No server", time.Time{}},
		"no server ever":            {due, nil, NoServer, "No server", time.Time{}},
		"being attempted":           {leased, up(running), Attempting, "since 2026-03-01 11:00:00 UTC", time.Time{}},
		"attempted, list paused":    {pausedButRunning, up(running), Attempting, "attempted now", time.Time{}},
		"database full":             {due, []Node{{Alive: true, House: &House{Trouble: "disk full", Since: ago}}}, Database, "disk full", time.Time{}},
		"site dead":                 {due, up(dead), Dead, "does not work since 2026-03-01 11:00:00 UTC", soon},
		"site dead, due later":      {recipient(queue.Pending, soon.Add(time.Minute), Aside(SayDead)), up(dead), Dead, "tried again", soon},
		"site was dead":             {recipient(queue.Pending, soon, deadly()), up(nil), Dead, "did not work", soon},
		"site asked for rest":       {leased, up(rest), AskedSite, "asked to be left alone until 2026-03-01 12:10:00", soon},
		"site probed":               {leased, up(&Site{Binding: "probing"}), Probing, "one delivery tries", time.Time{}},
		"deferred":                  {waits, up(nil), Deferred, "Attempt 2 was deferred", soon},
		"the reply asked to wait":   {recipient(queue.Pending, soon, asked), up(nil), Asked, "for 10m0s", soon},
		"our own fault":             {recipient(queue.Pending, soon, ours), up(nil), Ours, "operator has to act", soon},
		"DNS failure":               {recipient(queue.Pending, soon, noDNS), up(nil), DNS, "DNS", soon},
		"scheduled":                 {recipient(queue.Pending, soon, mail.Outcome{}), up(nil), Scheduled, "due at", soon},
		"site slow":                 {recipient(queue.Pending, soon, Aside(SaySlow)), up(nil), Slow, "slow", soon},
		"much waits for the site":   {recipient(queue.Pending, soon, Aside(SayFull)), up(nil), Full, "Much mail", soon},
		"speed of the user":         {recipient(queue.Pending, soon, Aside(SayPace)), []Node{{Alive: true, User: &Pace{PerHour: 60}}}, SpeedUser, "s1_1 is used up (60 recipients)", soon},
		"speed of the user, due":    {due, []Node{{Alive: true, User: &Pace{PerHour: 60, Next: soon}}}, SpeedUser, "60 recipients", soon},
		"speed of the account":      {due, []Node{{Alive: true, Account: &Pace{PerHour: 90, Next: soon}}}, SpeedAccount, "90 recipients", soon},
		"window of the site":        {leased, up(&Site{Binding: "window", Window: 3, Active: 3, Waiting: 9}), Window, "takes 3 deliveries", time.Time{}},
		"limit of the provider":     {leased, up(&Site{Binding: "connections", Connections: 5, Limit: "Exchange Online"}), Connections, "5 connections to the site (Exchange Online)", time.Time{}},
		"limit of our own":          {leased, up(&Site{Binding: "connections", Connections: 20}), Connections, "this house's default", time.Time{}},
		"limit of all its sites":    {leased, up(&Site{Binding: "provider", Together: 40, Limit: "Google"}), Provider, "40 connections to all sites of Google", time.Time{}},
		"rate of the site":          {leased, up(&Site{Binding: "rate", Rate: "60 messages in 1m0s", Until: soon}), Rate, "60 messages in 1m0s", soon},
		"all deliveries in use":     {leased, up(&Site{ServersBusy: true}), Deliveries, "All deliveries", time.Time{}},
		"memory full of others":     {due, []Node{{Alive: true, House: &House{Memory: 15_000, Most: 20_000}}}, Turn, "15000 recipients", time.Time{}},
		"its turn":                  {due, up(nil), Turn, "goes at its turn", time.Time{}},
		"dead once, another server": {due, append(down, up(nil)...), Turn, "goes at its turn", time.Time{}},
	} {
		got := Why(c.state, c.nodes, now)
		if got.Code != c.code || !strings.Contains(got.Text, c.text) || !got.Next.Equal(c.next) {
			t.Errorf("%s: %s, next %v: %s\nwant %s, next %v: … %s …", name, got.Code, got.Next, got.Text, c.code, c.next, c.text)
		}
		if strings.Contains(got.Text, "%!") {
			t.Errorf("%s: %s", name, got.Text)
		}
	}
}

func deadly() mail.Outcome {
	o := Aside(SayDead)
	o.Diagnostic += ": connection refused"
	return o
}

// The forecast is by the speed of those that wait; of a dead site, its probe.
func TestForecast(t *testing.T) {
	t.Parallel()
	leased := recipient(queue.Leased, ago, mail.Outcome{})
	if got := Why(leased, up(&Site{Binding: "connections", Waiting: 600, PerSecond: 10}), now).Forecast; !got.Equal(now.Add(time.Minute)) {
		t.Error(got)
	}
	if got := Why(leased, up(&Site{Binding: "connections", Waiting: 600}), now).Forecast; !got.IsZero() {
		t.Errorf("by nothing: %v", got)
	}
	late := recipient(queue.Pending, soon.Add(time.Hour), deadly())
	if got := Why(late, up(&Site{Binding: "dead", Until: soon}), now).Forecast; !got.Equal(soon.Add(time.Hour)) {
		t.Error(got)
	}
}

// What somebody asked of who has a recipient is said whatever the reason is.
func TestWish(t *testing.T) {
	t.Parallel()
	s := recipient(queue.Leased, ago, mail.Outcome{})
	s.Recipient.Wish = queue.Hold
	if got := Why(s, up(&Site{Running: []Running{{message, ago}}}), now); got.Wish != "hold" || got.Code != Attempting {
		t.Errorf("%+v", got)
	}
}
