package test

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// dnsServer is an authority for the zones under .test, over UDP and TCP on loopback.
type dnsServer struct {
	t    *testing.T
	addr string
	mu   sync.Mutex
	rrs  map[string][]dns.RR // by name, lower case, with the final dot
}

// startDNS starts a server that knows the given records, in zone file syntax.
func startDNS(t *testing.T, records ...string) *dnsServer {
	t.Helper()
	d := &dnsServer{t: t, addr: "127.0.0.1:" + strconv.Itoa(freePort(t)), rrs: make(map[string][]dns.RR)}
	for _, record := range records {
		d.add(record)
	}
	packets, err := net.ListenPacket("udp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: d}, {Listener: listener, Handler: d}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go server.ActivateAndServe()
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	return d
}

// mailDNS starts a server in which domain has one MX, at the given address.
func mailDNS(t *testing.T, domain, ip string) *dnsServer {
	t.Helper()
	return startDNS(t,
		domain+". 300 IN MX 10 mx."+domain+".",
		"mx."+domain+". 300 IN A "+ip)
}

// add adds a record, in zone file syntax.
func (d *dnsServer) add(record string) {
	d.t.Helper()
	rr, err := dns.NewRR(record)
	if err != nil {
		d.t.Fatalf("%s: %v", record, err)
	}
	d.addRR(rr)
}

func (d *dnsServer) addRR(rr dns.RR) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := strings.ToLower(rr.Header().Name)
	d.rrs[name] = append(d.rrs[name], rr)
}

// addTXT adds a text of any length, cut into strings of at most 255 octets (RFC 1035 §3.3.14).
func (d *dnsServer) addTXT(name, text string) {
	var parts []string
	for len(text) > 255 {
		parts, text = append(parts, text[:255]), text[255:]
	}
	d.addRR(&dns.TXT{
		Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1},
		Txt: append(parts, text),
	})
}

// ServeDNS answers from the records: NXDOMAIN for a name without any, no data for
// a type the name does not have.
func (d *dnsServer) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	resp := new(dns.Msg)
	resp.SetReply(req)
	resp.Authoritative = true
	d.mu.Lock()
	defer d.mu.Unlock()
	q := req.Question[0]
	name := strings.ToLower(q.Name)
	for _, rr := range d.rrs[name] {
		if rr.Header().Rrtype == q.Qtype || rr.Header().Rrtype == dns.TypeCNAME {
			resp.Answer = append(resp.Answer, rr)
		}
	}
	if len(resp.Answer) == 0 {
		if !d.exists(name) {
			resp.Rcode = dns.RcodeNameError
		}
		soa, _ := dns.NewRR("test. 1 IN SOA ns.test. root.test. 1 3600 600 86400 1")
		resp.Ns = append(resp.Ns, soa)
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if opt := req.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
			resp.SetEdns0(1232, false)
		}
		resp.Truncate(size)
	}
	w.WriteMsg(resp)
}

// exists reports whether name or one below it has records (RFC 8020).
func (d *dnsServer) exists(name string) bool {
	for known := range d.rrs {
		if known == name || strings.HasSuffix(known, "."+name) {
			return true
		}
	}
	return false
}
