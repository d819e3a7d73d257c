package account

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The guard against guessing. It counts failures per client (an IPv4 address, an
// IPv6 /64), and per name as tried by a client; who fails more often than that
// waits longer and longer. Two things it does not do:
//
//   - Failures from one client never keep another out: whoever wants to lock a
//     user out would only have to guess badly.
//   - A program that shows the same wrong password over and over does not guess;
//     it counts once. So it keeps nobody out who shares its address.
//
// And where a name was let in from a client lately, that name is held to its own
// failures alone: one guesser behind a shared address does not stop the others.
const (
	freeGuesses  = 10 // different failures of a client before it has to wait
	freeOfName   = 5  // the same of one name from one client
	firstWait    = 5 * time.Second
	longestWait  = 15 * time.Minute
	forgiveEvery = time.Minute    // one failure less
	trusted      = 24 * time.Hour // a name from a client, since it was last let in
	quietFor     = time.Hour      // a client that crosses the limit again meanwhile is not reported again
	mergeWithin  = time.Minute    // SCRAM and then PLAIN with the same password is one failure

	maxClients = 10_000
	maxPairs   = 20_000
	remembered = 8  // last different failures of a name from a client
	sampled    = 16 // entries that are looked at for the one to give up
)

// guessed is who tried what; the name is short already.
type guessed struct {
	client netip.Addr
	name   string
}

// way is how a password was shown.
type way uint8

const (
	shown  way = 1 + iota // PLAIN, LOGIN: it is known
	proven                // SCRAM: only that it is wrong is known
)

type guard struct {
	seed maphash.Seed
	size *prometheus.GaugeVec
	now  func() time.Time

	mu      sync.Mutex
	clients map[netip.Prefix]*tally
	pairs   map[pair]*tally
}

type pair struct {
	client netip.Prefix
	name   string
}

// tally is what is remembered of a client, or of a name from a client.
type tally struct {
	failures int
	last     time.Time // the last failure, or when one was last forgiven
	seen     time.Time // anything
	until    time.Time // it waits until then
	told     time.Time // that it crossed the limit
	passed   time.Time // a right password
	way      way       // of the last failure that was counted; 0: both ways of it have come
	marks    []uint64  // of the last different failures
}

func newGuard(size *prometheus.GaugeVec) *guard {
	return &guard{
		seed: maphash.MakeSeed(), size: size, now: time.Now,
		clients: map[netip.Prefix]*tally{}, pairs: map[pair]*tally{},
	}
}

// network is what counts as one client.
func network(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := 64 // what one customer gets at least (RFC 6177)
	if client.Is4() {
		bits = 32
	}
	p, _ := client.Prefix(bits) // the zero prefix for no address
	return p
}

// mark stands for a password in this process's memory.
func (g *guard) mark(password string) uint64 { return maphash.String(g.seed, password) }

// wait returns how long the client has to wait before it may try again; 0: not at all.
func (g *guard) wait(who guessed) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, client := g.now(), network(who.client)
	p := g.pairs[pair{client, who.name}]
	if p != nil {
		if d := p.until.Sub(now); d > 0 {
			return d
		}
		if !p.passed.IsZero() && now.Sub(p.passed) < trusted {
			return 0
		}
	}
	if c := g.clients[client]; c != nil {
		return max(0, c.until.Sub(now))
	}
	return 0
}

// passed notes a right password. It clears the name's failures from there, not
// the client's: a guesser may have a user of its own.
func (g *guard) passed(who guessed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := entry(g, g.pairs, pair{network(who.client), who.name}, maxPairs)
	now := g.now()
	*p = tally{seen: now, passed: now}
	g.measure()
}

// failed notes a wrong password, and returns what to say of it.
func (g *guard) failed(who guessed, mark uint64, by way) *AuthError {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, client := g.now(), network(who.client)
	refused := &AuthError{Reason: BadCredentials, Name: who.name}
	p := entry(g, g.pairs, pair{client, who.name}, maxPairs)
	p.seen = now
	if p.repeats(mark, by, now) {
		refused.Repeated = true
		return refused
	}
	p.way = by
	p.fail(now, freeOfName)
	c := entry(g, g.clients, client, maxClients)
	c.seen = now
	if c.fail(now, freeGuesses) && (c.told.IsZero() || now.Sub(c.told) >= quietFor) {
		c.told, refused.Crossed = now, true
	}
	g.measure()
	return refused
}

// repeats reports whether a failure is one that was counted already, and keeps
// its mark. What SCRAM shows can't be compared with a password, so the first
// failure by the other way within a minute is taken for the same.
func (t *tally) repeats(mark uint64, by way, now time.Time) bool {
	if by == shown && slices.Contains(t.marks, mark) {
		return true
	}
	same := t.way != 0 && t.way != by && now.Sub(t.last) < mergeWithin
	if same {
		t.way = 0
	}
	if by == shown {
		t.marks = append(t.marks, mark)
		t.marks = t.marks[max(0, len(t.marks)-remembered):]
	}
	return same
}

// fail counts a failure, and reports whether the client has to wait now.
func (t *tally) fail(now time.Time, free int) bool {
	forgiven := int(now.Sub(t.last) / forgiveEvery)
	t.failures = max(0, t.failures-max(0, forgiven)) + 1
	t.last = now
	over := t.failures - free
	if over <= 0 {
		return false
	}
	t.until = now.Add(min(longestWait, firstWait<<min(over-1, 16)))
	return true
}

// entry returns what is kept under key, or a fresh tally; of a full map one of
// those that were not seen for long is given up.
func entry[K comparable](g *guard, kept map[K]*tally, key K, most int) *tally {
	if t, known := kept[key]; known {
		return t
	}
	if len(kept) >= most {
		var oldest K
		var at time.Time
		n := 0
		for k, t := range kept {
			if n == 0 || t.seen.Before(at) {
				oldest, at = k, t.seen
			}
			if n++; n == sampled {
				break
			}
		}
		delete(kept, oldest)
	}
	t := &tally{last: g.now()}
	kept[key] = t
	return t
}

func (g *guard) measure() {
	g.size.WithLabelValues("clients").Set(float64(len(g.clients)))
	g.size.WithLabelValues("names").Set(float64(len(g.pairs)))
}
