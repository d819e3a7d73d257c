package ready

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/throttle"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// hall is a queue with sites and a clock of its own.
type hall struct {
	*Queue[string]
	table *throttle.Table
	sites map[string]*Site[string]
	now   time.Time
	n     int
}

func newHall(tb testing.TB, deliveries, perSite int) *hall {
	tb.Helper()
	table, err := throttle.NewTable(nil, perSite)
	if err != nil {
		tb.Fatal(err)
	}
	return &hall{Queue: New[string](deliveries), table: table, sites: map[string]*Site[string]{}, now: epoch}
}

func (h *hall) site(name string) *Site[string] {
	s := h.sites[name]
	if s == nil {
		s = NewSite[string](h.table.Site(name, h.now))
		h.sites[name] = s
	}
	return s
}

func account(name string) (a id.Account) {
	copy(a[:], name)
	return a
}

// push adds n messages of one recipient each, called by their account and priority.
func (h *hall) push(site, who string, p mail.Priority, n int) {
	for range n {
		h.n++
		var m id.Message
		copy(m[:], fmt.Sprintf("%016d", h.n))
		h.Push(h.site(site), Mail{Account: account(who), Message: m, Priority: p, Accepted: h.now}, fmt.Sprintf("%s%d", who, p))
	}
}

// next begins up to n deliveries and says whose they were.
func (h *hall) next(n int) (begun []*Delivery[string], order string) {
	var names []string
	for range n {
		d := h.Next(h.now)
		if d == nil {
			break
		}
		begun = append(begun, d)
		names = append(names, d.Entries[0])
	}
	return begun, strings.Join(names, " ")
}

func (h *hall) end(ds ...*Delivery[string]) {
	for _, d := range ds {
		h.End(d, h.now, throttle.Good, 0)
	}
}

// one has the deliveries go one by one, and says whose they were.
func (h *hall) one(n int) string {
	var names []string
	for range n {
		begun, name := h.next(1)
		h.end(begun...)
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

// Accounts go in turn, however much each has waiting, and wherever.
func TestAccountsInTurn(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 20)
	for i := range 50 {
		h.push(fmt.Sprintf("mx%d.test:25", i), "a", 3, 20)
	}
	h.push("mx0.test:25", "b", 3, 2)
	h.push("other.test:25", "c", 3, 1)
	if got := h.one(8); got != "a3,b3,c3,a3,b3,a3,a3,a3" {
		t.Error(got)
	}
}

// Also at a site that takes one at a time.
func TestAccountsInTurnAtOneSite(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 1)
	h.push("mx.test:25", "a", 3, 100)
	h.push("mx.test:25", "b", 3, 3)
	h.push("mx.test:25", "c", 3, 2)
	if got := h.one(9); got != "a3,b3,c3,a3,b3,c3,a3,b3,a3" {
		t.Error(got)
	}
}

// A lone mail beside a site that is full of another's goes next when a delivery
// there ends, also when the other has work everywhere.
func TestLoneMailAtABusySite(t *testing.T) {
	t.Parallel()
	h := newHall(t, 50, 2)
	for i := range 1000 {
		h.push(fmt.Sprintf("mx%d.test:25", i), "a", 3, 5)
	}
	begun, _ := h.next(50)
	h.push(hostOf(begun[0].Site, h), "b", 3, 1)
	h.end(begun[0])
	if _, got := h.next(1); got != "b3" {
		t.Error(got)
	}
}

func hostOf(s *Site[string], h *hall) string {
	for name, other := range h.sites {
		if other == s {
			return name
		}
	}
	return ""
}

// The priorities of an account share 16:8:4:2:1: a higher one goes before, and
// nothing waits for ever.
func TestPriorities(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 1)
	for p := mail.PriorityHighest; p <= mail.PriorityLowest; p++ {
		h.push("mx.test:25", "a", p, 310)
	}
	counts := map[string]int{}
	for name := range strings.SplitSeq(h.one(310), ",") {
		counts[name]++
	}
	for p, want := range map[string]int{"a1": 160, "a2": 80, "a3": 40, "a4": 20, "a5": 10} {
		if got := counts[p]; got < want-2 || got > want+2 {
			t.Errorf("%s: %d of 310, want %d", p, got, want)
		}
	}
	h = newHall(t, 100, 1)
	for _, p := range []mail.Priority{3, 5, 3, 1, 4, 1} {
		h.push("mx.test:25", "a", p, 1)
	}
	if got := h.one(6); got != "a1,a1,a3,a3,a4,a5" {
		t.Error(got)
	}
}

// What comes late has no claim for the time when it was not there.
func TestPriorityThatComesLate(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 1)
	h.push("mx.test:25", "a", 3, 400)
	h.one(200)
	h.push("mx.test:25", "a", 5, 100)
	h.push("mx.test:25", "a", 1, 2)
	if got := h.one(8); got != "a1,a1,a3,a3,a3,a3,a5,a3" && got != "a1,a1,a3,a3,a3,a5,a3,a3" {
		t.Error(got)
	}
}

// In one priority the older mail goes first, whenever it comes.
func TestOlderFirst(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 1)
	for i, ago := range []time.Duration{0, time.Hour, time.Minute} {
		h.Push(h.site("mx.test:25"), Mail{Account: account("a"), Message: id.Message{byte(i)}, Priority: 3, Accepted: epoch.Add(-ago)}, fmt.Sprint(ago))
	}
	if got := h.one(3); got != "1h0m0s,1m0s,0s" {
		t.Error(got)
	}
}

// Recipients of one message share bundles of at most 100.
func TestBundles(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 20)
	for range 250 {
		h.Push(h.site("mx.test:25"), Mail{Account: account("a"), Message: id.Message{1}, Priority: 3, Accepted: epoch}, "x")
	}
	var sizes []int
	begun, _ := h.next(10)
	for _, d := range begun {
		sizes = append(sizes, len(d.Entries))
	}
	slices.Sort(sizes)
	if !slices.Equal(sizes, []int{50, 100, 100}) || h.Len() != 0 {
		t.Errorf("%v, %d left", sizes, h.Len())
	}
}

// The table of who may have how many of the deliveries at once.
func TestShares(t *testing.T) {
	t.Parallel()
	h := newHall(t, 80, 20)
	moving := h.site("moves.test:25")
	h.push("moves.test:25", "m", 3, 16)
	h.one(16) // its window is open, and it moves
	for i := range 12 {
		h.push(fmt.Sprintf("tar%d.test:25", i), fmt.Sprintf("t%d", i), 3, 20)
	}
	h.next(100)
	// Up to a half of all, five each; then those that have less than two.
	if all, slow := h.Active(); all != 48 && all != 40 || slow != all {
		t.Errorf("%d under way, %d of them slow", all, slow)
	}
	before, _ := h.Active()
	h.push("moves.test:25", "m", 3, 100)
	begun, _ := h.next(100)
	if len(begun) != min(20, 70-before) || begun[0].Site != moving {
		t.Errorf("%d more under way, with %d before", len(begun), before)
	}
	// In the last eighth, a site that moves has two.
	h.push("moves2.test:25", "n", 3, 1)
	if begun, _ := h.next(100); len(begun) != 1 {
		t.Errorf("%d of another account at a new site", len(begun))
	}
}

// A hundred and twenty-five sites that never answer do not fill all slots,
// whether they are of one account or of each its own: what another has for a
// site nobody knows yet goes at once.
func TestTarpits(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]func(i int) string{
		"of one account":  func(int) string { return "evil" },
		"of each its own": func(i int) string { return fmt.Sprintf("evil%d", i) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHall(t, 500, 20)
			h.push("moves.test:25", "m", 3, 16)
			h.one(16)
			h.push("idle.test:25", "quiet", 3, 1)
			h.next(1)
			for i := range 125 {
				h.push(fmt.Sprintf("tar%d.test:25", i), of(i), 3, 100)
			}
			for range 100 { // nothing of it ends
				h.next(500)
				h.now = h.now.Add(time.Second)
			}
			all, slow := h.Active()
			t.Logf("%d deliveries under way, %d slow", all, slow)
			if all > 438 || all < 200 {
				t.Errorf("%d deliveries under way", all)
			}
			h.push("new.test:25", "lone", 3, 1)
			if _, got := h.next(1); got != "lone3" {
				t.Errorf("the lone mail for a site nobody knows: %q", got)
			}
			h.now = h.now.Add(time.Second)
			d, _ := h.next(1)
			h.end(d...)
			h.push("moves.test:25", "m", 3, 1)
			if _, got := h.next(1); got != "m3" {
				t.Errorf("mail for a site that was known to move: %q", got)
			}
		})
	}
}

// Deliveries that have become slow count as such, and no longer once they have ended.
func TestSlowDeliveriesAreCounted(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 20)
	h.push("mx.test:25", "a", 3, 20)
	h.one(10)
	begun, _ := h.next(10)
	if _, slow := h.Active(); slow != 0 {
		t.Errorf("%d slow at a site that moves", slow)
	}
	h.now = h.now.Add(slowAfter)
	h.Next(h.now)
	if _, slow := h.Active(); slow != 10 {
		t.Errorf("%d slow after half a minute", slow)
	}
	h.end(begun...)
	if all, slow := h.Active(); all != 0 || slow != 0 || len(h.tenants) != 0 {
		t.Errorf("%d, %d, %d left", all, slow, len(h.tenants))
	}
}

// What a rate holds back goes when its time has come.
func TestRate(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 20)
	var err error
	if h.table, err = throttle.NewTable([]throttle.Rule{{Name: "x", Match: []string{"mx.test"}, Rate: "60/min"}}, 20); err != nil {
		t.Fatal(err)
	}
	h.push("mx.test:25", "a", 3, 3)
	h.push("mx.test:25", "b", 3, 3)
	var order []string
	for range 6 {
		begun, name := h.next(10)
		order = append(order, name)
		h.end(begun...)
		if h.Len() > 0 {
			wake := h.Wake()
			if wake.Sub(h.now).Round(time.Millisecond) != time.Second {
				t.Fatalf("wakes after %v", wake.Sub(h.now))
			}
			h.now = wake
		}
	}
	if got := strings.Join(order, ","); got != "a3,b3,a3,b3,a3,b3" {
		t.Error(got)
	}
}

// What is removed is gone, and the rest goes on.
func TestRemove(t *testing.T) {
	t.Parallel()
	h := newHall(t, 100, 2)
	h.push("mx.test:25", "a", 3, 4)
	h.push("mx.test:25", "b", 1, 4)
	begun, _ := h.next(2)
	if got := h.Remove(h.site("mx.test:25"), func(e string) bool { return e == "b1" }); len(got) != 3 {
		t.Errorf("removed %v", got)
	}
	h.push("mx.test:25", "b", 2, 1)
	h.end(begun...)
	if got := h.one(4); got != "a3,b2,a3,a3" {
		t.Error(got)
	}
	h.push("mx.test:25", "a", 3, 4)
	if got := h.Take(h.site("mx.test:25")); len(got) != 4 || h.Len() != 0 || h.site("mx.test:25").Len() != 0 || len(h.tenants) != 0 {
		t.Errorf("%v, %d left", got, h.Len())
	}
	if h.Next(h.now) != nil {
		t.Error("something goes")
	}
}

// Whatever comes, ends and is removed in whatever order: nothing is lost, bounds
// hold, and when all sites are well all of it goes.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{hall: newHall(t, 16, 3)}
		for range rapid.IntRange(1, 200).Draw(r, "steps") {
			m.step(r)
			if all, slow := m.Active(); all != len(m.running) || slow > all || all > 16 {
				r.Fatalf("%d, %d slow, and %d run", all, slow, len(m.running))
			}
			for _, s := range m.sites {
				if s.Active() > 3 || s.Active() < 0 {
					r.Fatalf("%d at once", s.Active())
				}
			}
		}
		m.finish(r)
		if m.gone != m.pushed || len(m.tenants) != 0 {
			r.Fatalf("%d of %d, %d accounts left", m.gone, m.pushed, len(m.tenants))
		}
	})
}

// machine is a hall to which anything happens.
type machine struct {
	*hall
	running      []*Delivery[string]
	pushed, gone int
}

func (m *machine) step(r *rapid.T) {
	site := fmt.Sprintf("mx%d.test:25", rapid.IntRange(0, 4).Draw(r, "site"))
	switch rapid.SampledFrom([]string{"push", "push", "next", "next", "end", "wait", "remove"}).Draw(r, "do") {
	case "push":
		n := rapid.IntRange(1, 5).Draw(r, "n")
		m.push(site, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "who"), mail.Priority(rapid.IntRange(1, 5).Draw(r, "p")), n)
		m.pushed += n
	case "next":
		begun, _ := m.next(rapid.IntRange(1, 20).Draw(r, "begin"))
		m.running = append(m.running, begun...)
	case "end":
		if len(m.running) > 0 {
			sign := rapid.SampledFrom([]throttle.Sign{throttle.None, throttle.Good, throttle.Busy, throttle.Away}).Draw(r, "sign")
			m.finishOne(rapid.IntRange(0, len(m.running)-1).Draw(r, "which"), sign)
		}
	case "wait":
		m.now = m.now.Add(time.Duration(rapid.IntRange(-100, 100).Draw(r, "seconds")) * time.Second)
	case "remove":
		m.gone += len(m.Remove(m.site(site), func(e string) bool { return e[0] == 'b' }))
	}
}

func (m *machine) finishOne(i int, sign throttle.Sign) {
	d := m.running[i]
	m.running = slices.Delete(m.running, i, i+1)
	m.gone += len(d.Entries)
	if m.End(d, m.now, sign, 0) {
		m.gone += len(m.Take(d.Site))
	}
}

// finish lets all of it go.
func (m *machine) finish(r *rapid.T) {
	for len(m.running) > 0 || m.Len() > 0 {
		begun, _ := m.next(100)
		m.running = append(m.running, begun...)
		if len(m.running) > 0 {
			m.finishOne(0, throttle.Good)
			continue
		}
		wake := m.Wake()
		if wake.IsZero() {
			r.Fatalf("%d wait and nothing goes", m.Len())
		}
		m.now = wake
	}
}

// ends is what ends when, for a simulation.
type ends []end

type end struct {
	at time.Time
	d  *Delivery[string]
}

func (e *ends) Len() int           { return len(*e) }
func (e *ends) Less(i, j int) bool { return (*e)[i].at.Before((*e)[j].at) }
func (e *ends) Swap(i, j int)      { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] }
func (e *ends) Push(x any)         { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// A hundred thousand recipients of one account wait, for few sites or for many,
// and use all deliveries they can get; each lasts up to a second. Now and then
// another account has a lone mail, for a site of those or one of its own: it is
// attempted within a second.
func TestLoneMailBesideABacklog(t *testing.T) {
	t.Parallel()
	for _, sites := range []int{5, 100, 10_000} {
		t.Run(fmt.Sprint(sites), func(t *testing.T) {
			t.Parallel()
			h := newHall(t, 500, 20)
			h.push("warm.test:25", "bulk", 3, 1)
			for i := range 100_000 {
				h.push(fmt.Sprintf("mx%d.test:25", i%sites), "bulk", 1, 1)
			}
			waits, most := h.simulate(200, sites)
			slices.Sort(waits)
			p99 := waits[len(waits)*99/100]
			t.Logf("%d sites, up to %d deliveries at once; to the first attempt: median %v, p99 %v, longest %v",
				sites, most, waits[len(waits)/2], p99, waits[len(waits)-1])
			if p99 > time.Second {
				t.Errorf("p99 to the first attempt is %v", p99)
			}
		})
	}
}

// simulate adds lone mails, ten a second, and returns how long each waited, and
// how many deliveries there were at once.
func (h *hall) simulate(n, sites int) (waits []time.Duration, most int) {
	random := rand.New(rand.NewPCG(1, 2))
	var running ends
	came := map[string]time.Time{}
	for lone, clock := 0, h.now; len(waits) < n; {
		for d := h.Next(h.now); d != nil; d = h.Next(h.now) {
			if at, ok := came[d.Entries[0]]; ok {
				waits = append(waits, h.now.Sub(at))
			}
			heap.Push(&running, end{h.now.Add(time.Duration(random.Int64N(int64(time.Second)))), d})
		}
		most = max(most, len(running))
		e := heap.Pop(&running).(end)
		h.now = e.at
		h.End(e.d, h.now, throttle.Good, 0)
		if h.now.Sub(clock) >= 100*time.Millisecond && lone < n {
			clock = h.now
			name, site := fmt.Sprintf("lone%d-", lone), fmt.Sprintf("mx%d.test:25", lone%sites)
			if lone%2 == 0 {
				site = fmt.Sprintf("own%d.test:25", lone)
			}
			came[name+"5"] = h.now
			h.push(site, name, 5, 1)
			lone++
		}
	}
	return waits, most
}

// BenchmarkQueue is a recipient's way through a queue where ten thousand wait.
func BenchmarkQueue(b *testing.B) {
	h := newHall(b, 500, 20)
	for i := range 10_000 {
		h.push(fmt.Sprintf("mx%d.test:25", i%100), fmt.Sprintf("a%d", i%50), mail.Priority(1+i%5), 1)
	}
	sites := make([]string, 100)
	for i := range sites {
		sites[i] = fmt.Sprintf("mx%d.test:25", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		h.push(sites[i%100], "a1", 3, 1)
		h.end(h.Next(h.now))
		i++
	}
}
