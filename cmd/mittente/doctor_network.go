package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mittente/internal/dns"
	"mittente/internal/mail"
)

// seesHostname looks whether the server's name is one that other servers accept,
// and leads somewhere.
func (d *doctor) seesHostname(ctx context.Context) finding {
	name := d.cfg.Hostname
	if !strings.Contains(name, ".") || strings.HasSuffix(name, ".localdomain") || strings.HasSuffix(name, ".local") {
		return failure("Set hostname to a full name that belongs to you, such as smtp.example.com.",
			"%s is not a full domain name: many servers refuse mail from it", name)
	}
	addrs, err := d.resolver.Addrs(ctx, name)
	if f, bad := lookedUp(name, err); bad {
		return f
	}
	if len(addrs.Records) == 0 {
		return failure("Publish an A record (and AAAA, if you send by IPv6) for it.", "%s has no address", name)
	}
	return fine("%s is %s", name, joinAddrs(addrs.Records))
}

// seesReverse looks whether each address of the name leads back to it, which is
// what receivers want of a server that sends to them.
func (d *doctor) seesReverse(ctx context.Context) finding {
	addrs, err := d.resolver.Addrs(ctx, d.cfg.Hostname)
	if err != nil || len(addrs.Records) == 0 {
		return skipped("%s has no address to look back from", d.cfg.Hostname)
	}
	var wrong []string
	for _, addr := range addrs.Records {
		if addr.IsLoopback() || addr.IsPrivate() {
			continue
		}
		names, err := d.resolver.Names(ctx, addr)
		if err != nil || !slices.Contains(names.Records, d.cfg.Hostname) {
			wrong = append(wrong, fmt.Sprintf("%s leads to %s", addr, cmp.Or(strings.Join(names.Records, " "), "no name")))
		}
	}
	if len(wrong) > 0 {
		return failure("Ask whoever gave you the address (the hosting provider) to set its PTR record to "+d.cfg.Hostname+".",
			"%s", strings.Join(wrong, "; "))
	}
	return fine("every public address of %s leads back to it", d.cfg.Hostname)
}

// seesResolver looks whether names can be looked up at all, and whether answers
// are validated.
func (d *doctor) seesResolver(ctx context.Context) finding {
	servers := cmp.Or(strings.Join(d.cfg.DNS.Servers, " "), "those of /etc/resolv.conf")
	probe := mail.Domain(cmp.Or(strings.TrimSuffix(d.outbound, "none"), "example.com"))
	got, err := d.resolver.MX(ctx, probe)
	if err != nil && !isAny(err, dns.ErrNotFound) {
		return failure("Set [dns] servers to name servers that answer this machine; a validating one on 127.0.0.1 (unbound) is best.",
			"%s do not answer for %s: %v", servers, probe, err)
	}
	if !got.Authenticated {
		return fine("%s answer; answers are not validated (DNSSEC), which nothing depends on yet", servers)
	}
	return fine("%s answer, and validate", servers)
}

// seesSigning looks for the records of the server's own key, which signs what no
// domain of an account can.
func (d *doctor) seesSigning(ctx context.Context) finding {
	if d.house == nil {
		return skipped("there is no database yet")
	}
	found, err := d.house.hostRecords(ctx)
	switch {
	case err != nil:
		return skipped("%v", err)
	case len(found) == 0:
		return skipped("the server has no key yet: it is made at the first start")
	}
	var missing []string
	for _, r := range found {
		got, err := d.resolver.TXT(ctx, r.Name)
		if err != nil || !slices.Contains(got.Records, r.Value) {
			missing = append(missing, r.Name)
		}
	}
	if len(missing) > 0 {
		return warning("Publish what this shows: mittente domain records "+d.cfg.Hostname,
			"mail authorised by an address alone, and the house's own, is signed with a key that is not in the DNS: %s", strings.Join(missing, " "))
	}
	return fine("the key of %s is published", d.cfg.Hostname)
}

// seesOutbound opens a connection as a delivery would: many providers block it.
func (d *doctor) seesOutbound(ctx context.Context) finding {
	if d.outbound == "none" {
		return skipped("not wanted")
	}
	for _, r := range d.cfg.Routes {
		if r.Domain == "*" {
			return d.greets(ctx, []string{r.NextHop}, "the smarthost")
		}
	}
	exchangers, err := d.resolver.MX(ctx, mail.Domain(d.outbound))
	if f, bad := lookedUp("MX of "+d.outbound, err); bad {
		return f
	}
	slices.SortFunc(exchangers.Records, func(a, b dns.MX) int { return cmp.Compare(a.Preference, b.Preference) })
	var hosts []string
	for _, mx := range exchangers.Records {
		hosts = append(hosts, net.JoinHostPort(mx.Host, strconv.Itoa(d.cfg.Delivery.Port)))
	}
	if len(hosts) == 0 {
		hosts = []string{net.JoinHostPort(d.outbound, strconv.Itoa(d.cfg.Delivery.Port))}
	}
	return d.greets(ctx, hosts[:min(len(hosts), 3)], "mail exchangers of "+d.outbound)
}

// greets tries the hosts in turn until one greets as a mail server.
func (d *doctor) greets(ctx context.Context, hosts []string, who string) finding {
	var last error
	for _, host := range hosts {
		greeting, err := d.greeting(ctx, host)
		if err == nil {
			return fine("%s greets: %s", host, oneLine(greeting, 120))
		}
		last = err
	}
	return failure("Ask the hosting provider to open outgoing port 25, or send through a smarthost: [[route]] with domain \"*\".",
		"no connection to %s: %v", who, last)
}

// greeting returns the first line of a server. Only a greeting counts: there are
// firewalls that take every connection and say nothing.
func (d *doctor) greeting(ctx context.Context, hostPort string) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", err
	}
	addrs := []netip.Addr{}
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, literal)
	} else {
		found, err := d.resolver.Addrs(ctx, host)
		if err != nil {
			return "", err
		}
		addrs = found.Records
	}
	last := fmt.Errorf("%s has no address", host)
	for _, addr := range addrs[:min(len(addrs), 2)] {
		line, err := firstLine(ctx, net.JoinHostPort(addr.String(), port))
		if err == nil {
			return line, nil
		}
		last = err
	}
	return "", last
}

func firstLine(ctx context.Context, at string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReaderSize(conn, 512).ReadSlice('\n')
	if err != nil {
		return "", fmt.Errorf("%s: %w", at, err)
	}
	text := strings.TrimSpace(string(line))
	if !strings.HasPrefix(text, "220") {
		return "", fmt.Errorf("%s says %s", at, oneLine(text, 120))
	}
	_, _ = fmt.Fprintf(conn, "QUIT\r\n") // politeness; the answer is of no interest
	return text, nil
}

func joinAddrs(addrs []netip.Addr) string {
	texts := convert(addrs, netip.Addr.String)
	return strings.Join(texts, " ")
}
