package dns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// TestServersInTurn: whatever the first server does, the second is asked, and
// the time lost is bounded.
func TestServersInTurn(t *testing.T) {
	t.Parallel()
	honest := func(q *mdns.Msg) *mdns.Msg { return message(t, q, 0, "example.org. 300 IN TXT forged") }
	for name, c := range map[string]struct {
		server responder
		lost   time.Duration
	}{
		"silence": {silence, 2 * time.Second},
		"wrong id": {func(_ string, q *mdns.Msg) [][]byte {
			m := honest(q)
			m.Id++
			return [][]byte{pack(t, m)}
		}, 2 * time.Second},
		"wrong question": {func(_ string, q *mdns.Msg) [][]byte {
			m := honest(q)
			m.Question[0].Name = "example.com."
			return [][]byte{pack(t, m)}
		}, 2 * time.Second},
		"wrong type": {func(_ string, q *mdns.Msg) [][]byte {
			m := honest(q)
			m.Question[0].Qtype = mdns.TypeMX
			return [][]byte{pack(t, m)}
		}, 2 * time.Second},
		"no question": {func(_ string, q *mdns.Msg) [][]byte {
			m := honest(q)
			m.Question = nil
			return [][]byte{pack(t, m)}
		}, 2 * time.Second},
		"the query itself": {func(_ string, q *mdns.Msg) [][]byte { return [][]byte{pack(t, q)} }, 2 * time.Second},
		"garbage":          {func(string, *mdns.Msg) [][]byte { return [][]byte{[]byte("\x00\x01garbage"), {}} }, 2 * time.Second},
		"flood of garbage": {func(string, *mdns.Msg) [][]byte {
			flood := make([][]byte, 1000)
			for i := range flood {
				flood[i] = []byte("x")
			}
			return flood
		}, 0},
		"SERVFAIL":     {reply(t, mdns.RcodeServerFailure), 0},
		"REFUSED":      {reply(t, mdns.RcodeRefused), 0},
		"unknown code": {reply(t, 13), 0},
		"referral": {func(_ string, q *mdns.Msg) [][]byte {
			m := message(t, q, 0, "ns org. 300 IN NS ns.org.")
			m.RecursionAvailable = false
			return [][]byte{pack(t, m)}
		}, 0},
		"truncated, TCP silent": {func(network string, q *mdns.Msg) [][]byte {
			if network == "tcp" {
				return nil // serveOne closes
			}
			m := honest(q)
			m.Truncated = true
			return [][]byte{pack(t, m)}
		}, 0},
		"truncated, TCP wrong id": {func(network string, q *mdns.Msg) [][]byte {
			m := honest(q)
			m.Truncated = true
			if network == "tcp" {
				m.Id++
			}
			return [][]byte{pack(t, m)}
		}, 0},
		"truncated for ever": {func(_ string, q *mdns.Msg) [][]byte {
			m := honest(q)
			m.Truncated = true
			return [][]byte{pack(t, m)}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := resolver(t, network{first: c.server, second: reply(t, 0, "example.org. 300 IN TXT true")}, first, second)
				began := time.Now()
				got, err := r.TXT(t.Context(), "example.org")
				if err != nil || len(got.Records) != 1 || got.Records[0] != "true" {
					t.Errorf("got %v, %v", got, err)
				}
				if lost := time.Since(began); lost != c.lost {
					t.Errorf("lost %v, want %v", lost, c.lost)
				}
				// The server that answered is asked first from now on.
				began = time.Now()
				if _, err := r.TXT(t.Context(), "other.example.org"); err != nil || time.Since(began) != 0 {
					t.Errorf("%v, lost %v", err, time.Since(began))
				}
			})
		})
	}
}

// TestNoServerAnswers bounds the time lost on dead servers.
func TestNoServerAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := resolver(t, network{first: silence}, first, second) // second refuses the connection
		began := time.Now()
		if _, err := r.TXT(t.Context(), "example.org"); !errors.Is(err, ErrTemporary) {
			t.Error(err)
		}
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("took %v, want two rounds of 2 s", took)
		}
	})
}

// TestResolveIsBounded: a chain told slowly, one name at a time, ends.
func TestResolveIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(_ string, q *mdns.Msg) [][]byte {
			time.Sleep(1900 * time.Millisecond)
			return [][]byte{pack(t, message(t, q, 0, q.Question[0].Name+" 300 IN CNAME x"+q.Question[0].Name))}
		}
		r, err := New(Config{Servers: []string{second, first}, Rounds: 5, Dial: network{first: slow, second: silence}.dial}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.preferred.Store(1)
		began := time.Now()
		if _, err := r.TXT(t.Context(), "a"); !errors.Is(err, ErrTemporary) || time.Since(began) > maxResolve {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestForgeriesAreReadPast: a forged datagram before the true one changes nothing.
func TestForgeriesAreReadPast(t *testing.T) {
	t.Parallel()
	server := func(_ string, q *mdns.Msg) [][]byte {
		forged := message(t, q, 0, "example.org. 300 IN TXT forged")
		forged.Id++
		return [][]byte{pack(t, forged), []byte("x"), pack(t, message(t, q, 0, "example.org. 300 IN TXT true"))}
	}
	got, err := resolver(t, network{first: server}, first).TXT(t.Context(), "example.org")
	if err != nil || got.Records[0] != "true" {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestServerWithoutEDNS asks again without OPT (RFC 6891 §7).
func TestServerWithoutEDNS(t *testing.T) {
	t.Parallel()
	server := func(_ string, q *mdns.Msg) [][]byte {
		if opt := q.IsEdns0(); opt != nil {
			if opt.UDPSize() != 1232 {
				t.Errorf("offered %d octets", opt.UDPSize())
			}
			m := new(mdns.Msg).SetRcodeFormatError(q)
			m.Question = nil
			return [][]byte{pack(t, m)}
		}
		return [][]byte{pack(t, message(t, q, 0, "example.org. 300 IN TXT old"))}
	}
	got, err := resolver(t, network{first: server}, first).TXT(t.Context(), "example.org")
	if err != nil || got.Records[0] != "old" {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestOverSockets runs the default dialer against a real server, with an
// answer that only TCP can carry.
func TestOverSockets(t *testing.T) {
	t.Parallel()
	handler := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg).SetReply(q)
		m.RecursionAvailable = true
		for i := range 100 {
			rr, err := mdns.NewRR(fmt.Sprintf("example.org. 300 IN TXT \"record %d, long enough to need TCP\"", i))
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		if _, udp := w.LocalAddr().(*net.UDPAddr); udp {
			m.Truncate(1232)
		}
		_ = w.WriteMsg(m)
	})
	address := listen(t, handler)
	r, err := New(Config{Servers: []string{address}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.TXT(t.Context(), "example.org")
	if err != nil || len(got.Records) != 100 {
		t.Errorf("%d records, %v", len(got.Records), err)
	}
}

// samePort opens one port for TCP and UDP; the first one that is free for TCP
// may be taken for UDP by another test.
func samePort(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if udp, err := net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return tcp, udp
		}
		_ = tcp.Close()
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}

// listen serves UDP and TCP on one loopback port.
func listen(t *testing.T, h mdns.Handler) string {
	t.Helper()
	tcp, udp := samePort(t)
	for _, s := range []*mdns.Server{{Listener: tcp, Handler: h}, {PacketConn: udp, Handler: h}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-ended
		})
	}
	return tcp.Addr().String()
}

// TestResolvConf notices that the file has changed.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string, at time.Time) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		write("nameserver 127.0.0.1\nnameserver 2001:db8::1\n", time.Now())
		n := network{first: reply(t, 0, "a. 1 IN TXT first", "b. 1 IN TXT first"), second: reply(t, 0, "a. 1 IN TXT second")}
		r, err := New(Config{ResolvConf: file, Dial: n.dial}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(want string) {
			t.Helper()
			got, err := r.TXT(t.Context(), "a")
			if err != nil || got.Records[0] != want {
				t.Errorf("got %v, %v; want %s", got.Records, err, want)
			}
		}
		ask("first")
		time.Sleep(6 * time.Second)
		write("nameserver 127.0.0.2\n", time.Now())
		time.Sleep(6 * time.Second)
		ask("second")
		write("# empty for a moment\n", time.Now())
		time.Sleep(6 * time.Second)
		ask("second")
	})
}

// TestNewRefuses lists configurations that cannot work.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{
		{Servers: []string{"127.0.0.1"}},
		{Servers: []string{"ns.example.org:53"}},
		{ResolvConf: empty},
		{ResolvConf: empty + "/missing"},
	} {
		if _, err := New(cfg, nil); err == nil {
			t.Errorf("%+v accepted", cfg)
		}
	}
}
