// Package dns is a caching resolver that says whether an answer was authenticated.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/mail"
)

// Errors of every look-up; they come wrapped. A name that exists without
// records of the type asked for is no error: Answer.Records is empty.
var (
	ErrNotFound  = errors.New("no such name")               // NXDOMAIN (RFC 2308 §2.1)
	ErrTemporary = errors.New("name look-up failed so far") // SERVFAIL, time-out, no usable answer, context done
)

// Config tunes a Resolver. The zero value is usable.
type Config struct {
	// Servers are asked in turn, "host:port" with host an IP address. Empty:
	// those of ResolvConf, read again when that file changes.
	Servers []string
	// ResolvConf is the file for empty Servers; default /etc/resolv.conf.
	ResolvConf string
	// Timeout bounds one try at one server; default 2 s.
	Timeout time.Duration
	// Rounds is how often all servers are tried in turn; default 2.
	Rounds int
	// MinTTL and MaxTTL bound how long an answer is kept; defaults 5 s and 1 h.
	MinTTL, MaxTTL time.Duration
	// MaxNegativeTTL bounds how long the absence of a name or of records is
	// kept (RFC 2308 §5); default 1 min, so that a record just published is soon seen.
	MaxNegativeTTL time.Duration
	// MaxEntries and MaxBytes bound the cache; defaults 20,000 and 16 MiB.
	MaxEntries, MaxBytes int
	// Dial opens the socket for one exchange; network is "udp" or "tcp".
	// Default: net.Dialer, a new source port each time (RFC 5452 §9.2).
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Resolver looks names up and remembers the answers. It is safe for concurrent
// use, and starts goroutines only for the duration of a look-up.
type Resolver struct {
	cfg       Config
	metrics   *metrics
	servers   serverList
	preferred atomic.Uint32 // index of the server that answered last

	mu      sync.Mutex
	cache   cache
	flights map[question]*flight
}

// Answer is what the DNS has at a name.
type Answer[T any] struct {
	Records []T
	// Authenticated: a validating resolver on this host found the whole chain
	// secure (AD bit, RFC 4035 §3.2.3). The word of any other server is not taken for it.
	Authenticated bool
	// Canonical is the name at the end of the CNAME chain, without final dot.
	Canonical string
	// TTL is how long the answer may still be used.
	TTL time.Duration
}

// MX is one mail exchanger (RFC 5321 §5.1). Host has no final dot; it is ""
// for the root, as in a null MX (RFC 7505).
type MX struct {
	Host       string
	Preference uint16
}

// New returns a Resolver; reg may be nil. It fails when Servers are not
// "host:port", or there are none and ResolvConf names none.
func New(cfg Config, reg prometheus.Registerer) (*Resolver, error) {
	cfg = cfg.withDefaults()
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	r := &Resolver{cfg: cfg, metrics: m, flights: map[question]*flight{}, cache: newCache(cfg.MaxEntries, cfg.MaxBytes)}
	if err := r.servers.init(cfg); err != nil {
		return nil, err
	}
	return r, nil
}

func (c Config) withDefaults() Config {
	orDuration := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	orInt := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	orDuration(&c.Timeout, 2*time.Second)
	orDuration(&c.MinTTL, 5*time.Second)
	orDuration(&c.MaxTTL, time.Hour)
	orDuration(&c.MaxNegativeTTL, time.Minute)
	orInt(&c.Rounds, 2)
	orInt(&c.MaxEntries, 20_000)
	orInt(&c.MaxBytes, 16<<20)
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	return c
}

// MX returns the mail exchangers of domain, in the order they came.
func (r *Resolver) MX(ctx context.Context, domain mail.Domain) (Answer[MX], error) {
	res, err := r.look(ctx, string(domain), mdns.TypeMX)
	if err != nil {
		return Answer[MX]{}, err
	}
	records := make([]MX, 0, len(res.rrs))
	for _, rr := range res.rrs {
		if mx, ok := rr.(*mdns.MX); ok {
			records = append(records, MX{Host: plainName(mx.Mx), Preference: mx.Preference})
		}
	}
	return answer(records, res), nil
}

// TXT returns the text records at name, the strings of each joined as they are
// (RFC 7208 §3.3). Octets outside ASCII come as they stand in the record.
func (r *Resolver) TXT(ctx context.Context, name string) (Answer[string], error) {
	res, err := r.look(ctx, name, mdns.TypeTXT)
	if err != nil {
		return Answer[string]{}, err
	}
	records := make([]string, 0, len(res.rrs))
	for _, rr := range res.rrs {
		if txt, ok := rr.(*mdns.TXT); ok {
			records = append(records, unescape(strings.Join(txt.Txt, "")))
		}
	}
	return answer(records, res), nil
}

// Addrs returns the addresses of host, IPv4 first. When only one of the two
// families could be looked up, its addresses are the answer. "localhost" and
// names under it are the loopback addresses (RFC 6761 §6.3).
func (r *Resolver) Addrs(ctx context.Context, host string) (Answer[netip.Addr], error) {
	name := plainName(host)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return Answer[netip.Addr]{
			Records:       []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()},
			Authenticated: true, Canonical: name, TTL: r.cfg.MaxTTL,
		}, nil
	}
	v6 := make(chan addrs, 1)
	go func() { v6 <- r.family(ctx, host, mdns.TypeAAAA) }()
	v4 := r.family(ctx, host, mdns.TypeA)
	return merge(v4, <-v6)
}

// addrs is what one address family came to.
type addrs struct {
	answer Answer[netip.Addr]
	err    error
}

func (r *Resolver) family(ctx context.Context, host string, qtype uint16) addrs {
	res, err := r.look(ctx, host, qtype)
	if err != nil {
		return addrs{err: err}
	}
	records := make([]netip.Addr, 0, len(res.rrs))
	for _, rr := range res.rrs {
		var ip net.IP
		switch rr := rr.(type) {
		case *mdns.A:
			ip = rr.A
		case *mdns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			records = append(records, a.Unmap())
		}
	}
	return addrs{answer: answer(records, res)}
}

func merge(v4, v6 addrs) (Answer[netip.Addr], error) {
	switch {
	case v4.err == nil && v6.err == nil:
		a := v4.answer
		a.Records = append(a.Records, v6.answer.Records...)
		a.Authenticated = a.Authenticated && v6.answer.Authenticated
		a.TTL = min(a.TTL, v6.answer.TTL)
		return a, nil
	case v4.err == nil && len(v4.answer.Records) > 0:
		v4.answer.Authenticated = false
		return v4.answer, nil
	case v6.err == nil && len(v6.answer.Records) > 0:
		v6.answer.Authenticated = false
		return v6.answer, nil
	case errors.Is(v6.err, ErrNotFound):
		// NXDOMAIN is said of the name, whatever the type (RFC 2308 §2.1).
		return Answer[netip.Addr]{}, v6.err
	case v4.err != nil:
		return Answer[netip.Addr]{}, v4.err
	}
	return Answer[netip.Addr]{}, v6.err
}

func answer[T any](records []T, res *result) Answer[T] {
	return Answer[T]{
		Records:       records,
		Authenticated: res.authenticated,
		Canonical:     res.canonical,
		TTL:           max(0, time.Until(res.expires)),
	}
}

// plainName is a name as the rest of the house writes it: lower case, no final dot.
func plainName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// unescape undoes the presentation form (RFC 1035 §5.1) in which the library keeps text.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			c = (s[i+1]-'0')*100 + (s[i+2]-'0')*10 + (s[i+3] - '0')
			i += 3
		} else if c == '\\' && i+1 < len(s) {
			i++
			c = s[i]
		}
		out = append(out, c)
	}
	return string(out)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// temporary wraps what kept a question from being answered.
func temporary(q question, cause error) error {
	return fmt.Errorf("%s %s: %w: %w", plainName(q.name), mdns.TypeToString[q.qtype], ErrTemporary, cause)
}
