package smtpserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
)

func TestParsePorts(t *testing.T) {
	for _, tt := range []struct {
		specs []string
		want  string
	}{
		{[]string{"25"}, "[25]"},
		{[]string{"1025-1028", "25", "1026"}, "[25 1025 1026 1027 1028]"},
		{[]string{" 25 ", " 30 - 31 "}, "[25 30 31]"},
		{[]string{"65534-65535"}, "[65534 65535]"},
		{[]string{"0"}, "[0]"},
		{nil, "[]"},
	} {
		got, err := ParsePorts(tt.specs)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%q: %v, %v; want %s", tt.specs, got, err, tt.want)
		}
	}
	for _, spec := range []string{"", "-", "x", "25-", "-25", "30-25", "65536", "0-5", "1-65536", "25,26", "+25"} {
		if got, err := ParsePorts([]string{spec}); err == nil {
			t.Errorf("%q: %v", spec, got)
		}
	}
	all, err := ParsePorts([]string{"25", "1025-5000"})
	if err != nil || len(all) != 3977 { // S7
		t.Errorf("%v ports, %v", len(all), err)
	}
}

// A port that is busy, or ours, is skipped with its reason; nothing is fatal unless no port is left (S7).
func TestListenSkips(t *testing.T) {
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).AddrPort().Port()

	cfg := testConfig()
	cfg.Bind, cfg.Ports = []string{"127.0.0.1"}, []string{strconv.Itoa(int(port))}
	v := testServer(t, cfg, &fake{})
	bound, skipped, err := v.Listen(t.Context())
	want := fmt.Sprintf("[127.0.0.1 port %d: in use by another program]", port)
	if !errors.Is(err, ErrNoPort) || len(bound) != 0 || fmt.Sprint(skipped) != want {
		t.Errorf("busy: bound %v, skipped %v: %v", bound, skipped, err)
	}

	cfg.Exclude = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), port)}
	_, skipped, _ = testServer(t, cfg, &fake{}).Listen(t.Context())
	want = fmt.Sprintf("[127.0.0.1 port %d: used by this server for something else]", port)
	if fmt.Sprint(skipped) != want {
		t.Errorf("own: skipped %v", skipped)
	}

	// TEST-NET-1 is on no machine: all its ports are one entry.
	cfg = testConfig()
	cfg.Bind, cfg.Ports = []string{"192.0.2.1", "127.0.0.1"}, []string{"0"}
	v = testServer(t, cfg, &fake{})
	bound, skipped, err = v.Listen(t.Context())
	if err != nil || len(bound) != 1 || fmt.Sprint(skipped) != "[192.0.2.1 port 0: the address is not on this machine]" {
		t.Errorf("absent: bound %v, skipped %v: %v", bound, skipped, err)
	}
	for _, l := range v.listeners {
		_ = l.Close()
	}
}

func TestExcluded(t *testing.T) {
	for _, tt := range []struct {
		own, at string
		want    bool
	}{
		{"127.0.0.1:8025", "0.0.0.0:8025", true},
		{"127.0.0.1:8025", "127.0.0.1:8025", true},
		{"127.0.0.1:8025", "127.0.0.2:8025", false},
		{"127.0.0.1:8025", "[::]:8025", false},
		{"127.0.0.1:8025", "0.0.0.0:8026", false},
		{"[::]:8025", "0.0.0.0:8025", true}, // it may take IPv4 as well
		{"[::1]:8025", "[::]:8025", true},
		{"0.0.0.0:8025", "127.0.0.1:8025", true},
	} {
		cfg := testConfig()
		cfg.Exclude = []netip.AddrPort{netip.MustParseAddrPort(tt.own)}
		if got := testServer(t, cfg, &fake{}).excluded(netip.MustParseAddrPort(tt.at)); got != tt.want {
			t.Errorf("own %s, bind %s: %v", tt.own, tt.at, got)
		}
	}
}

func TestRunsAreFolded(t *testing.T) {
	r := &runs{addr: netip.MustParseAddr("::")}
	for _, p := range []uint16{25, 1025, 1026, 1027, 1030} {
		r.add(p, "busy")
	}
	r.add(1031, "forbidden")
	r.add(1032, "forbidden")
	if got := fmt.Sprint(r.list); got != "[:: port 25: busy :: port 1025-1027: busy :: port 1030: busy :: port 1031-1032: forbidden]" {
		t.Error(got)
	}
	r.all([]uint16{25, 1025, 1026}, "absent")
	if got := fmt.Sprint(r.list); got != "[:: port 25, 1025-1026: absent]" {
		t.Error(got)
	}
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want obstacle
	}{
		{syscall.EADDRINUSE, obstacle{text: "in use by another program"}},
		{syscall.EACCES, obstacle{text: "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE"}},
		{syscall.EAFNOSUPPORT, obstacle{text: "the address is not on this machine", absent: true}},
		{errors.New("odd"), obstacle{text: "odd"}},
	} {
		if got := explain(&net.OpError{Op: "listen", Err: tt.err}); got.absent != tt.want.absent || tt.want.text != got.text && tt.want.text != "odd" {
			t.Errorf("%v: %+v", tt.err, got)
		}
	}
}

// IPv4 and IPv6 of one port are two listeners.
func TestBothFamilies(t *testing.T) {
	cfg := testConfig()
	cfg.Bind, cfg.Ports = []string{"127.0.0.1"}, []string{"0"}
	v := testServer(t, cfg, &fake{})
	bound, _, err := v.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Bind, cfg.Ports = []string{"::1"}, []string{strconv.Itoa(int(bound[0].Port()))}
	six := testServer(t, cfg, &fake{})
	_, skipped, err := six.Listen(t.Context())
	absent := len(skipped) == 1 && skipped[0].Reason == "the address is not on this machine"
	if err != nil && !absent {
		t.Errorf("skipped %v: %v", skipped, err)
	}
	for _, l := range append(v.listeners, six.listeners...) {
		_ = l.Close()
	}
}
