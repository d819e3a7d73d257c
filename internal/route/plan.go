package route

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mittente/internal/dns"
)

// maxHosts bounds the mail exchangers of a domain that are considered.
const maxHosts = 20

// Plan is how the mail of a domain travels. Mail of several domains whose
// plans have the same Site may travel together.
type Plan struct {
	// Site names the destination: the MX host names of all preferences, sorted,
	// with the port ("mx1.example.org,mx2.example.org:25"), or a static route's
	// next hop ("via smtp.example.net:587").
	Site  string
	Hosts []Host // by preference; equals in no meaningful order
	TLS   TLSPolicy

	static             bool
	username, password string
}

// String returns the site: what a plan holds beside it may be secret.
func (p Plan) String() string { return p.Site }

// Static reports whether the way is of our own choice, by a static route. What
// is wrong with it is our configuration, which fails nobody's mail.
func (p Plan) Static() bool { return p.static }

// Credentials returns what to sign in with; username is "" for no AUTH.
func (p Plan) Credentials() (username, password string) { return p.username, p.password }

// Host is a server that takes the mail of a domain in.
type Host struct {
	Name       string
	Port       int
	Preference uint16 // the lowest is tried first

	addr netip.Addr // where Name is an IP address
}

// exchangers returns the usable hosts, the most preferred first. Our own name
// cuts the list at its preference (RFC 5321 §5.1), so that mail never comes back to us.
func (r *Router) exchangers(records []dns.MX) []Host {
	// By preference, then by name: what is cut below must be the same each time.
	records = slices.SortedFunc(slices.Values(records), func(a, b dns.MX) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Host, b.Host))
	})
	limit := 1 << 16
	for _, mx := range records {
		if strings.EqualFold(mx.Host, r.cfg.Hostname) {
			limit = int(mx.Preference)
			break
		}
	}
	hosts := make([]Host, 0, min(len(records), maxHosts))
	for _, mx := range records {
		known := func(h Host) bool { return h.Name == mx.Host }
		if int(mx.Preference) >= limit || len(hosts) == maxHosts {
			break
		}
		if mx.Host != "" && !slices.ContainsFunc(hosts, known) {
			hosts = append(hosts, Host{Name: mx.Host, Port: r.cfg.Port, Preference: mx.Preference})
		}
	}
	return hosts
}

func mxSite(hosts []Host, port int) string {
	names := make([]string, 0, len(hosts))
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ",") + ":" + strconv.Itoa(port)
}

// Order returns the hosts as they are to be tried: by preference, in random
// order among equals (RFC 5321 §5.1).
func (p Plan) Order() []Host {
	if len(p.Hosts) < 2 {
		return p.Hosts
	}
	hosts := slices.Clone(p.Hosts)
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] }) //nolint:gosec // spreads load, keeps no secret
	slices.SortStableFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Preference, b.Preference) })
	return hosts
}

// ErrNoAddress says that a host exists without addresses, or does not exist.
var ErrNoAddress = errors.New("the host has no address")

// Addresses returns where h can be reached: IPv4 and IPv6 in turn, IPv4 first.
// It returns ErrNoAddress, or what kept the DNS from answering.
func (r *Router) Addresses(ctx context.Context, h Host) ([]netip.Addr, error) {
	if h.addr.IsValid() {
		return []netip.Addr{h.addr}, nil
	}
	answer, err := r.resolver.Addrs(ctx, h.Name)
	if errors.Is(err, dns.ErrNotFound) {
		return nil, ErrNoAddress
	}
	if err != nil {
		return nil, err
	}
	var v4, v6 []netip.Addr
	for i, a := range answer.Records {
		switch {
		case slices.Contains(answer.Records[:i], a):
		case a.IsUnspecified() || a.IsMulticast(): // no host: 0.0.0.0 would be ourselves
		case a.Is4():
			v4 = append(v4, a)
		default:
			v6 = append(v6, a)
		}
	}
	mixed := make([]netip.Addr, 0, len(v4)+len(v6))
	for i := range max(len(v4), len(v6)) {
		if i < len(v4) {
			mixed = append(mixed, v4[i])
		}
		if i < len(v6) {
			mixed = append(mixed, v6[i])
		}
	}
	if len(mixed) == 0 {
		return nil, ErrNoAddress
	}
	return mixed, nil
}
