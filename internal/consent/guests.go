package consent

import (
	"net/netip"
	"sync"
	"time"

	"mittente/internal/throttle"
)

const (
	visits    = 1200 // of one client in a minute, 20 at once
	maxGuests = 10_000
)

// guests says how often one client may come. All clients behind a proxy are one.
type guests struct {
	mu    sync.Mutex
	known map[netip.Prefix]*throttle.Pace
}

func newGuests() *guests { return &guests{known: map[netip.Prefix]*throttle.Pace{}} }

// welcome reports whether a client may come now; if not, how long it must wait.
func (g *guests) welcome(client netip.Addr, now time.Time) (wait time.Duration, ok bool) {
	client = client.Unmap().WithZone("")
	bits := 32
	if client.Is6() {
		bits = 64 // what one customer gets
	}
	network, err := client.Prefix(bits)
	if err != nil {
		network = netip.Prefix{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	pace := g.known[network]
	if pace == nil {
		if len(g.known) >= maxGuests {
			clear(g.known)
		}
		fresh := throttle.NewPace(visits, time.Minute, now)
		pace = &fresh
		g.known[network] = pace
	}
	if pace.Free(now) < 1 {
		return pace.Next(0, now).Sub(now), false
	}
	pace.Take(1, now)
	return 0, true
}
