package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ErrNoPort says that not one port could be bound.
var ErrNoPort = errors.New("no port could be bound")

// Skipped says which ports of an address are not listened on, and why (S7).
type Skipped struct {
	Addr   netip.Addr `json:"addr"`
	Ports  string     `json:"ports"`  // "2024", or "1025-5000" where a run of them has one reason
	Reason string     `json:"reason"` // for people
}

// String returns the text for a log.
func (s Skipped) String() string { return fmt.Sprintf("%s port %s: %s", s.Addr, s.Ports, s.Reason) }

// ParsePorts reads "25" and "1025-5000" into ports in ascending order, each
// once. "0", any free port, may only stand alone. Errors name the text at fault.
func ParsePorts(specs []string) ([]uint16, error) {
	var ports []uint16
	for _, spec := range specs {
		low, high, isRange := strings.Cut(strings.TrimSpace(spec), "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
		last, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
		if err1 != nil || err2 != nil || first > last || first == 0 && isRange {
			return nil, fmt.Errorf("port %q: want a port such as 25, or a range such as 1025-5000", spec)
		}
		for p := first; p <= last && p <= math.MaxUint16; p++ {
			ports = append(ports, uint16(p))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

func parseBind(texts []string) ([]netip.Addr, error) {
	addrs := make([]netip.Addr, 0, len(texts))
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("bind %q: want an IP address", text)
		}
		addrs = append(addrs, addr.Unmap())
	}
	return addrs, nil
}

// Listen binds every address and port. What can't be bound is skipped and
// returned with its reason, runs of ports with the same one together; the error
// is ErrNoPort, wrapped, when nothing is left.
func (v *Server) Listen(ctx context.Context) (bound []netip.AddrPort, skipped []Skipped, err error) {
	room := fileRoom()
	missed := 0
	for _, addr := range v.bind {
		runs := &runs{addr: addr}
		for i, port := range v.ports {
			l, why := v.listen(ctx, netip.AddrPortFrom(addr, port), room-len(v.listeners))
			if why.absent {
				runs.all(v.ports, why.text)
				missed += len(v.ports) - i
				break
			}
			if l == nil {
				runs.add(port, why.text)
				missed++
				continue
			}
			v.listeners = append(v.listeners, l)
			bound = append(bound, addrPort(l.Addr()))
		}
		skipped = append(skipped, runs.list...)
	}
	v.metrics.bound.Set(float64(len(bound)))
	v.metrics.skipped.Set(float64(missed))
	if len(bound) == 0 {
		return nil, skipped, fmt.Errorf("%w: %v", ErrNoPort, skipped)
	}
	return bound, skipped, nil
}

// obstacle is why a port could not be bound.
type obstacle struct {
	text   string
	absent bool // the address is not on this machine: no port of it can be bound
}

func (v *Server) listen(ctx context.Context, at netip.AddrPort, room int) (net.Listener, obstacle) {
	if v.excluded(at) {
		return nil, obstacle{text: "used by this server for something else"}
	}
	if room <= 0 {
		return nil, obstacle{text: "limit of open files reached: raise it (ulimit -n, LimitNOFILE=)"}
	}
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp6" // the net package sets IPV6_V6ONLY for it, so that 0.0.0.0 can be bound as well
	}
	// Sessions have timeouts of their own, so keep-alive would only cost four
	// system calls per connection.
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, at.String())
	if err != nil {
		return nil, explain(err)
	}
	return l, obstacle{}
}

// excluded reports whether at is another door of the house.
func (v *Server) excluded(at netip.AddrPort) bool {
	return slices.ContainsFunc(v.cfg.Exclude, func(own netip.AddrPort) bool {
		a, b := at.Addr(), own.Addr().Unmap()
		overlap := a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified()) || b.Is6() && b.IsUnspecified()
		return at.Port() == own.Port() && at.Port() != 0 && overlap
	})
}

func explain(err error) obstacle {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return obstacle{text: "in use by another program"}
	case errors.Is(err, syscall.EACCES):
		return obstacle{text: "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE"}
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
		return obstacle{text: "the address is not on this machine", absent: true}
	}
	return obstacle{text: err.Error()}
}

// fileRoom returns how many listeners may be opened so that a quarter of the
// limit of open files is left for connections and the database.
func fileRoom() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur - limit.Cur/4)
}

// runs folds skipped ports that follow one another and have the same reason.
type runs struct {
	addr  netip.Addr
	list  []Skipped
	first uint16
	last  uint16
}

func (r *runs) add(port uint16, reason string) {
	n := len(r.list) - 1
	if n >= 0 && r.list[n].Reason == reason && r.last+1 == port {
		r.last = port
		r.list[n].Ports = fmt.Sprintf("%d-%d", r.first, port)
		return
	}
	r.first, r.last = port, port
	r.list = append(r.list, Skipped{Addr: r.addr, Ports: strconv.Itoa(int(port)), Reason: reason})
}

// all says one reason for all ports, in one entry, in place of what was added.
func (r *runs) all(ports []uint16, reason string) {
	whole := &runs{addr: r.addr}
	texts := []string{}
	for _, p := range ports {
		whole.add(p, reason)
	}
	for _, s := range whole.list {
		texts = append(texts, s.Ports)
	}
	r.list = []Skipped{{Addr: r.addr, Ports: strings.Join(texts, ", "), Reason: reason}}
}

// addrPort returns the address of a TCP connection or listener; the zero value for others.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
