package dns

import (
	"fmt"
	"time"

	mdns "github.com/miekg/dns"
)

// maxRecords bounds what is kept of one answer.
const maxRecords = 256

// chain is the way from a name by CNAME records (RFC 1034 §3.6.2) to its records.
type chain struct {
	name          string // where it stands now
	hops          int
	authenticated bool
	ttl           time.Duration // least of all records used
	rrs           []mdns.RR
	notFound      bool
}

// follow goes through one reply. end is false when the chain goes on at a name
// for which the server gave nothing: then that name is the next question.
func (c *chain) follow(reply *mdns.Msg, qtype uint16) (end bool, err error) {
	from := c.name
	for next, ttl, ok := alias(reply, c.name); ok; next, ttl, ok = alias(reply, c.name) {
		if c.hops++; c.hops > maxChain {
			return false, errChain
		}
		c.name, c.ttl = next, min(c.ttl, ttl)
	}
	for _, rr := range reply.Answer {
		h := rr.Header()
		if h.Rrtype == qtype && h.Class == mdns.ClassINET && mdns.CanonicalName(h.Name) == c.name && len(c.rrs) < maxRecords {
			c.rrs = append(c.rrs, rr)
			c.ttl = min(c.ttl, seconds(h.Ttl))
		}
	}
	if len(c.rrs) > 0 {
		return true, nil
	}
	negative, known := negativeTTL(reply)
	// The code is that of the last name in the chain (RFC 6604 §3).
	c.notFound = reply.Rcode == mdns.RcodeNameError
	if !c.notFound && !known && c.name != from {
		return false, nil
	}
	c.ttl = min(c.ttl, negative)
	return true, nil
}

// alias returns the target of the CNAME record at name.
func alias(reply *mdns.Msg, name string) (target string, ttl time.Duration, ok bool) {
	for _, rr := range reply.Answer {
		if cname, is := rr.(*mdns.CNAME); is && mdns.CanonicalName(cname.Hdr.Name) == name {
			return mdns.CanonicalName(cname.Target), seconds(cname.Hdr.Ttl), true
		}
	}
	return "", 0, false
}

// negativeTTL is the lesser of the SOA's own TTL and its MINIMUM (RFC 2308
// §5); without a SOA the absence is not to be kept.
func negativeTTL(reply *mdns.Msg) (ttl time.Duration, known bool) {
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*mdns.SOA); ok {
			return seconds(min(soa.Hdr.Ttl, soa.Minttl)), true
		}
	}
	return 0, false
}

func (c *chain) result(q question, cfg Config) *result {
	ttl := max(c.ttl, cfg.MinTTL)
	if len(c.rrs) == 0 {
		ttl = min(ttl, cfg.MaxNegativeTTL)
	}
	res := &result{
		rrs:           c.rrs,
		authenticated: c.authenticated,
		canonical:     plainName(c.name),
		expires:       time.Now().Add(ttl),
	}
	if c.notFound {
		res.err = fmt.Errorf("%s: %w", plainName(q.name), ErrNotFound)
	}
	return res
}

func seconds(n uint32) time.Duration {
	// RFC 2181 §8: a TTL with the top bit set counts as zero.
	if n > 1<<31-1 {
		return 0
	}
	return time.Duration(n) * time.Second
}
