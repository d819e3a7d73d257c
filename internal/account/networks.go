package account

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const maxNetworks = 100 // of one user

// ParseNetworks reads addresses and prefixes, such as "192.0.2.7 2001:db8::/32",
// separated by spaces, commas or semicolons. Errors wrap ErrInvalid.
func ParseNetworks(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n,;", r) }) {
		network, err := netip.ParsePrefix(word)
		if addr, single := netip.ParseAddr(word); single == nil {
			network, err = netip.PrefixFrom(addr.WithZone(""), addr.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w network %.60q: want an IP address, or one with its prefix length such as 192.0.2.0/24", ErrInvalid, word)
		}
		all = append(all, network)
	}
	return normalNetworks(all), nil
}

// MayComeFrom reports whether the user may be used from an address.
func (u User) MayComeFrom(client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	return len(u.Networks) == 0 || slices.ContainsFunc(u.Networks, func(n netip.Prefix) bool { return n.Contains(client) })
}

// normalNetworks brings prefixes into one form, sorted, each once: no bits set
// behind the prefix, no IPv4 written as IPv6.
func normalNetworks(networks []netip.Prefix) []netip.Prefix {
	if len(networks) == 0 {
		return nil
	}
	all := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		all[i] = n.Masked()
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}

func checkNetworks(networks []netip.Prefix) error {
	if len(networks) > maxNetworks {
		return fmt.Errorf("%w networks: %d, want at most %d", ErrInvalid, len(networks), maxNetworks)
	}
	if slices.ContainsFunc(networks, func(n netip.Prefix) bool { return !n.IsValid() }) {
		return fmt.Errorf("%w network: it has no address", ErrInvalid)
	}
	return nil
}

func formatNetworks(networks []netip.Prefix) string {
	words := make([]string, len(networks))
	for i, n := range networks {
		words[i] = n.String()
	}
	return strings.Join(words, " ")
}
