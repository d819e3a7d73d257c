package dns

import (
	"context"
	"net/netip"

	mdns "github.com/miekg/dns"
)

// Names returns the names that an address leads back to (PTR, RFC 1035 §3.5), without final dot.
func (r *Resolver) Names(ctx context.Context, addr netip.Addr) (Answer[string], error) {
	reverse, err := mdns.ReverseAddr(addr.Unmap().String())
	if err != nil {
		return Answer[string]{}, err
	}
	res, err := r.look(ctx, reverse, mdns.TypePTR)
	if err != nil {
		return Answer[string]{}, err
	}
	names := make([]string, 0, len(res.rrs))
	for _, rr := range res.rrs {
		if ptr, ok := rr.(*mdns.PTR); ok {
			names = append(names, plainName(ptr.Ptr))
		}
	}
	return answer(names, res), nil
}
