package delivery

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"mittente/internal/mail"
)

// TLSPolicy says what a connection must be like for mail to go over it.
type TLSPolicy string

// The policies, the weakest first.
const (
	TLSNone    TLSPolicy = "none"    // in clear, even where STARTTLS is offered
	TLSMay     TLSPolicy = "may"     // encrypted if possible, whoever it is; else in clear
	TLSEncrypt TLSPolicy = "encrypt" // encrypted, whoever it is
	TLSVerify  TLSPolicy = "verify"  // encrypted, the certificate verified for the host's name
)

// Route sends the mail of a domain to a host of one's choice.
type Route struct {
	Domain  string    // "*" for all domains without a route of their own (smarthost)
	NextHop string    // "host:port"; host is a name (its addresses are used, not its MX records) or an IP address
	TLS     TLSPolicy // "": may
	// Username and Password for AUTH; they are sent only over TLS, unless TLS is none.
	Username, Password string
}

// anyDomain is the route of domains that have none of their own.
const anyDomain = "*"

// route is a Route understood.
type route struct {
	Route
	host Host
	site string
}

func parseRoutes(routes []Route) (map[string]route, error) {
	parsed := make(map[string]route, len(routes))
	for _, r := range routes {
		p, err := parseRoute(r)
		if err != nil {
			return nil, fmt.Errorf("route for %q: %w", r.Domain, err)
		}
		if _, ok := parsed[p.Domain]; ok {
			return nil, fmt.Errorf("route for %q: there are two", r.Domain)
		}
		p.site = siteOf(parsed, p.Route)
		parsed[p.Domain] = p
	}
	return parsed, nil
}

func parseRoute(r Route) (route, error) {
	if r.Domain != anyDomain {
		d, err := mail.ParseDomain(r.Domain)
		if err != nil {
			return route{}, err
		}
		r.Domain = string(d)
	}
	name, port, err := net.SplitHostPort(r.NextHop)
	if err != nil {
		return route{}, fmt.Errorf("next hop %q: want host:port: %w", r.NextHop, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || name == "" {
		return route{}, fmt.Errorf("next hop %q: want host:port", r.NextHop)
	}
	switch r.TLS {
	case "":
		r.TLS = TLSMay
	case TLSNone, TLSMay, TLSEncrypt, TLSVerify:
	default:
		return route{}, fmt.Errorf("tls %q: want none, may, encrypt or verify", r.TLS)
	}
	if (r.Username == "") != (r.Password == "") {
		return route{}, fmt.Errorf("username and password go together")
	}
	host := Host{Name: name, Port: int(n)}
	if addr, err := netip.ParseAddr(name); err == nil {
		host.addr = addr
	}
	return route{Route: r, host: host}, nil
}

// siteOf names the site of a route. It is not the name an MX site may have,
// and routes share it only under the same terms: what is grouped by site may
// travel together.
func siteOf(known map[string]route, r Route) string {
	clashes := 0
	for _, other := range known {
		if other.NextHop != r.NextHop {
			continue
		}
		if other.TLS == r.TLS && other.Username == r.Username && other.Password == r.Password {
			return other.site
		}
		clashes++
	}
	site := "via " + r.NextHop
	if clashes > 0 {
		site += " (" + r.Domain + ")"
	}
	return site
}

// route returns the route that domain takes, if it takes one.
func (c *Courier) route(domain mail.Domain) (route, bool) {
	r, ok := c.routes[string(domain)]
	if !ok {
		r, ok = c.routes[anyDomain]
	}
	return r, ok
}
