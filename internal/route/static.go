package route

import (
	"errors"
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

// ParseTLSPolicy reads a policy; "" is TLSMay.
func ParseTLSPolicy(s string) (TLSPolicy, error) {
	switch p := TLSPolicy(s); p {
	case "":
		return TLSMay, nil
	case TLSNone, TLSMay, TLSEncrypt, TLSVerify:
		return p, nil
	default:
		return "", fmt.Errorf("tls %.40q: want none, may, encrypt or verify", s)
	}
}

// AtLeast returns the stronger of p and what is demanded besides. Only "encrypt"
// and "verify" are demands: the others leave p as it is.
func (p TLSPolicy) AtLeast(demand TLSPolicy) TLSPolicy {
	if demand == TLSVerify || demand == TLSEncrypt && p != TLSVerify {
		return demand
	}
	return p
}

// Static sends the mail of a domain to a host of one's choice.
type Static struct {
	Domain  string    // "*" for all domains without a route of their own (smarthost)
	NextHop string    // "host:port"; host is a name (its addresses are used, not its MX records) or an IP address
	TLS     TLSPolicy // "": may
	// Username and Password for AUTH; they are sent only over TLS, unless TLS is none.
	Username, Password string
}

// anyDomain is the route of domains that have none of their own.
const anyDomain = "*"

// static is a Static understood.
type static struct {
	Static
	host Host
	site string
}

func parseStatic(routes []Static) (map[string]static, error) {
	parsed := make(map[string]static, len(routes))
	for _, r := range routes {
		p, err := parseOne(r)
		if err != nil {
			return nil, fmt.Errorf("route for %q: %w", r.Domain, err)
		}
		if _, ok := parsed[p.Domain]; ok {
			return nil, fmt.Errorf("route for %q: there are two", r.Domain)
		}
		p.site = siteOf(parsed, p.Static)
		parsed[p.Domain] = p
	}
	return parsed, nil
}

func parseOne(r Static) (static, error) {
	if r.Domain != anyDomain {
		d, err := mail.ParseDomain(r.Domain)
		if err != nil {
			return static{}, err
		}
		r.Domain = string(d)
	}
	name, port, err := net.SplitHostPort(r.NextHop)
	if err != nil {
		return static{}, fmt.Errorf("next hop %q: want host:port: %w", r.NextHop, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || name == "" {
		return static{}, fmt.Errorf("next hop %q: want host:port", r.NextHop)
	}
	if r.TLS, err = ParseTLSPolicy(string(r.TLS)); err != nil {
		return static{}, err
	}
	if (r.Username == "") != (r.Password == "") {
		return static{}, errors.New("username and password go together")
	}
	host := Host{Name: name, Port: int(n)}
	if addr, err := netip.ParseAddr(name); err == nil {
		host.addr = addr
	}
	return static{Static: r, host: host}, nil
}

// siteOf names the site of a route. It is not the name an MX site may have,
// and routes share it only under the same terms: what is grouped by site may
// travel together.
func siteOf(known map[string]static, r Static) string {
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

// staticFor returns the static route that domain takes, if it takes one.
func (r *Router) staticFor(domain mail.Domain) (static, bool) {
	s, ok := r.static[string(domain)]
	if !ok {
		s, ok = r.static[anyDomain]
	}
	return s, ok
}
