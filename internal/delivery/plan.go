package delivery

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
	"mittente/internal/mail"
)

// maxHosts bounds the mail exchangers of a domain that are considered.
const maxHosts = 20

// Plan is how the mail of a domain travels. Mail of several domains whose
// plans have the same Site may share a Job.
type Plan struct {
	// Site names the destination: the MX host names of all preferences, sorted,
	// with the port ("mx1.example.org,mx2.example.org:25"), or a route's next
	// hop ("via smtp.example.net:587").
	Site  string
	Hosts []Host // by preference; equals in no meaningful order
	TLS   TLSPolicy

	routed             bool
	username, password string
}

// String returns the site: what a plan holds beside it may be secret.
func (p Plan) String() string { return p.Site }

// Host is a server that takes the mail of a domain in.
type Host struct {
	Name       string
	Port       int
	Preference uint16 // the lowest is tried first

	addr netip.Addr // where Name is an IP address
}

// Plan returns the way to domain, or what becomes of its recipients when there
// is none: a failure, or a deferral when the DNS did not answer.
func (c *Courier) Plan(ctx context.Context, domain mail.Domain) (Plan, *mail.Outcome) {
	if r, ok := c.route(domain); ok {
		return Plan{
			Site: r.site, Hosts: []Host{r.host}, TLS: r.TLS,
			routed: true, username: r.Username, password: r.Password,
		}, nil
	}
	answer, err := c.resolver.MX(ctx, domain)
	switch {
	case errors.Is(err, dns.ErrNotFound):
		return Plan{}, failed(0, mail.Status{Class: 5, Subject: 1, Detail: 2}, "there is no domain "+string(domain))
	case err != nil:
		return Plan{}, deferred(mail.Status{Class: 4, Subject: 4, Detail: 3}, err.Error())
	case len(answer.Records) == 1 && answer.Records[0].Host == "":
		// Null MX: RFC 7505 §4.1 gives code and status.
		return Plan{}, failed(556, mail.Status{Class: 5, Subject: 1, Detail: 10}, string(domain)+" accepts no mail (null MX)")
	case len(answer.Records) == 0:
		// Implicit MX, RFC 5321 §5.1.
		answer.Records = []dns.MX{{Host: string(domain)}}
	}
	hosts := c.exchangers(answer.Records)
	if len(hosts) == 0 {
		return Plan{}, failed(0, mail.Status{Class: 5, Subject: 4, Detail: 6}, "mail for "+string(domain)+" loops back to this host by its MX records")
	}
	return Plan{Site: mxSite(hosts, c.cfg.Port), Hosts: hosts, TLS: TLSMay}, nil
}

// exchangers returns the usable hosts, the most preferred first. Our own name
// cuts the list at its preference (RFC 5321 §5.1), so that mail never comes back to us.
func (c *Courier) exchangers(records []dns.MX) []Host {
	// By preference, then by name: what is cut below must be the same each time.
	records = slices.SortedFunc(slices.Values(records), func(a, b dns.MX) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Host, b.Host))
	})
	limit := 1 << 16
	for _, mx := range records {
		if strings.EqualFold(mx.Host, c.cfg.Hostname) {
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
			hosts = append(hosts, Host{Name: mx.Host, Port: c.cfg.Port, Preference: mx.Preference})
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

// order returns the hosts as they are to be tried: by preference, in random
// order among equals (RFC 5321 §5.1).
func (p Plan) order() []Host {
	if len(p.Hosts) < 2 {
		return p.Hosts
	}
	hosts := slices.Clone(p.Hosts)
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] }) //nolint:gosec // spreads load, keeps no secret
	slices.SortStableFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Preference, b.Preference) })
	return hosts
}

// errNoAddress: the host exists without addresses, or does not exist.
var errNoAddress = errors.New("the host has no address")

// addresses returns where h can be reached: IPv4 and IPv6 in turn, IPv4 first.
func (c *Courier) addresses(ctx context.Context, h Host) ([]netip.Addr, error) {
	if h.addr.IsValid() {
		return []netip.Addr{h.addr}, nil
	}
	answer, err := c.resolver.Addrs(ctx, h.Name)
	if errors.Is(err, dns.ErrNotFound) {
		return nil, errNoAddress
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
		return nil, errNoAddress
	}
	return mixed, nil
}
