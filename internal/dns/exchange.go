package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
)

// udpSize is the EDNS0 payload size offered: what passes without fragments
// (RFC 9715 and the DNS flag day of 2020).
const udpSize = 1232

// maxDatagrams bounds how many foreign or broken datagrams are read while
// waiting for the right one.
const maxDatagrams = 64

var (
	errNoServer = errors.New("no name server")
	errLame     = errors.New("the server does not look up names for us")
	errMismatch = errors.New("the reply does not belong to the question")
)

// ask puts q to the servers in turn until one gives a usable answer. trusted
// says whether that server's AD bit may be believed.
func (r *Resolver) ask(ctx context.Context, q question) (reply *mdns.Msg, trusted bool, err error) {
	servers := r.servers.get()
	err = errNoServer
	first := int(r.preferred.Load())
	for i := range r.cfg.Rounds * len(servers) {
		at := (first + i) % len(servers)
		reply, err = r.exchange(ctx, servers[at], q)
		if err == nil {
			if at != first {
				r.preferred.Store(uint32(at)) //nolint:gosec // a handful of servers
			}
			return reply, servers[at].trusted, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, false, err
}

// exchange asks one server once, by TCP when UDP was too small (RFC 7766 §5).
func (r *Resolver) exchange(ctx context.Context, s server, q question) (*mdns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	query := newQuery(q)
	reply, err := r.over(ctx, "udp", s, query)
	if err == nil && reply.Truncated {
		reply, err = r.over(ctx, "tcp", s, query)
	}
	if err == nil && (reply.Rcode == mdns.RcodeFormatError || reply.Rcode == mdns.RcodeNotImplemented) && reply.IsEdns0() == nil {
		// A server older than EDNS (RFC 6891 §7).
		query.Extra = nil
		reply, err = r.over(ctx, "udp", s, query)
		if err == nil && reply.Truncated {
			reply, err = r.over(ctx, "tcp", s, query)
		}
	}
	if err == nil {
		err = usable(reply)
	}
	r.metrics.exchanges.WithLabelValues(verdict(reply, err)).Inc()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.address, err)
	}
	return reply, nil
}

func newQuery(q question) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetQuestion(q.name, q.qtype)
	m.AuthenticatedData = true // RFC 6840 §5.7: we understand the AD bit
	m.SetEdns0(udpSize, false)
	return m
}

// usable returns an error for a reply that another server may do better.
func usable(reply *mdns.Msg) error {
	switch {
	case reply.Truncated:
		return errors.New("truncated, by TCP too")
	case reply.Rcode != mdns.RcodeSuccess && reply.Rcode != mdns.RcodeNameError:
		return fmt.Errorf("%s", rcode(reply.Rcode))
	case !reply.RecursionAvailable && !reply.Authoritative && len(reply.Answer) == 0:
		return errLame
	}
	return nil
}

func rcode(code int) string {
	if s, ok := mdns.RcodeToString[code]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", code)
}

// over sends the query through a socket of its own and waits for its reply.
func (r *Resolver) over(ctx context.Context, network string, s server, query *mdns.Msg) (*mdns.Msg, error) {
	query.Id = mdns.Id()
	wire, err := query.Pack()
	if err != nil {
		return nil, err
	}
	conn, err := r.cfg.Dial(ctx, network, s.address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		_ = conn.Close()
	}()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if network == "tcp" {
		return stream(conn, query, wire)
	}
	return datagram(conn, query, wire)
}

// datagram reads on past what is no reply to the query: it may be forged, and
// the true one still to come (RFC 5452 §9.1).
func datagram(conn net.Conn, query *mdns.Msg, wire []byte) (*mdns.Msg, error) {
	if _, err := conn.Write(wire); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for range maxDatagrams {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		reply := new(mdns.Msg)
		err = reply.Unpack(buf[:n])
		if reply.Id == query.Id && reply.Response && reply.Truncated {
			return reply, nil // whatever could be read of it: TCP decides
		}
		if err == nil && belongs(query, reply) {
			return reply, nil
		}
	}
	return nil, errMismatch
}

func stream(conn net.Conn, query *mdns.Msg, wire []byte) (*mdns.Msg, error) {
	c := &mdns.Conn{Conn: streamConn{conn}}
	if _, err := c.Write(wire); err != nil {
		return nil, err
	}
	reply, err := c.ReadMsg()
	if err != nil {
		return nil, err
	}
	if !belongs(query, reply) {
		return nil, errMismatch
	}
	return reply, nil
}

// streamConn hides from the library what kind of connection it is, so that it
// always writes the length first (RFC 1035 §4.2.2).
type streamConn struct{ net.Conn }

// belongs checks id and question (RFC 5452 §9.1). A server that cannot read
// the question may leave it out.
func belongs(query, reply *mdns.Msg) bool {
	if reply.Id != query.Id || !reply.Response || reply.Opcode != mdns.OpcodeQuery {
		return false
	}
	if len(reply.Question) == 0 {
		return reply.Rcode == mdns.RcodeFormatError || reply.Rcode == mdns.RcodeNotImplemented
	}
	asked, got := query.Question[0], reply.Question[0]
	return len(reply.Question) == 1 && asked.Qtype == got.Qtype && asked.Qclass == got.Qclass && strings.EqualFold(asked.Name, got.Name)
}
