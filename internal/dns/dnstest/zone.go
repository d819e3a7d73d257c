// Package dnstest is a name server without a network, for tests.
package dnstest

import (
	"context"
	"net"

	mdns "github.com/miekg/dns"
)

// Zone is what the server knows: by name, with its final dot, records without
// name, TTL and class, such as "MX 10 mx.example.net.". "SERVFAIL" is a name that
// it fails to look up. What is not there does not exist.
type Zone map[string][]string

// Dial is for dns.Config: each connection answers one question.
func (z Zone) Dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		buf := make([]byte, 4096)
		n, err := server.Read(buf)
		q := new(mdns.Msg)
		if err != nil || q.Unpack(buf[:n]) != nil {
			return
		}
		if wire, err := z.answer(q).Pack(); err == nil {
			_, _ = server.Write(wire)
		}
	}()
	return client, nil
}

func (z Zone) answer(q *mdns.Msg) *mdns.Msg {
	m := new(mdns.Msg).SetReply(q)
	m.RecursionAvailable = true
	name := q.Question[0].Name
	for asked := ""; asked != name; {
		asked = name
		records, ok := z[name]
		if !ok {
			m.Rcode = mdns.RcodeNameError
		}
		for _, s := range records {
			if s == "SERVFAIL" {
				m.Rcode = mdns.RcodeServerFailure
				return m
			}
			rr, err := mdns.NewRR(name + " 300 IN " + s)
			if err != nil {
				panic(err)
			}
			if cname, ok := rr.(*mdns.CNAME); ok {
				m.Answer, name = append(m.Answer, rr), cname.Target
			} else if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	return m
}
