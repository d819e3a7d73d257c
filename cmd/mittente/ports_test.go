package main

import (
	"net/netip"
	"reflect"
	"testing"

	"mittente/internal/smtpserver"
)

// TestPortReport sums up thousands of ports in a few lines.
func TestPortReport(t *testing.T) {
	at := netip.MustParseAddrPort
	got := portReport(
		[]netip.AddrPort{at("[::]:25"), at("0.0.0.0:1027"), at("0.0.0.0:25"), at("0.0.0.0:1025"), at("0.0.0.0:1026")},
		[]smtpserver.Skipped{{Addr: netip.MustParseAddr("::"), Ports: "1025-1027", Reason: "in use"}},
	)
	want := []portRange{
		{Address: "0.0.0.0", Ports: "25, 1025-1027", Count: 4, State: "bound"},
		{Address: "::", Ports: "25", Count: 1, State: "bound"},
		{Address: "::", Ports: "1025-1027", Count: 3, State: "skipped", Reason: "in use"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if n := (nodeReport{Ports: got}).bound(); n != 5 {
		t.Errorf("%d bound, want 5", n)
	}
}

// TestExplainSkipped: a port that was not permitted is told apart from one that is busy.
func TestExplainSkipped(t *testing.T) {
	skipped := []smtpserver.Skipped{
		{Ports: "25", Reason: "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE"}, {Ports: "2525", Reason: "in use"},
	}
	if got := (&relay{}).explain(skipped); !reflect.DeepEqual(got, skipped) {
		t.Errorf("got %+v", got)
	}
	got := (&relay{lowPorts: "built with cgo"}).explain(skipped)
	if got[0].Reason != "not permitted: built with cgo" || got[1].Reason != "in use" {
		t.Errorf("got %+v", got)
	}
}

// TestDoorAddress finds where to dial the running server.
func TestDoorAddress(t *testing.T) {
	r := nodeReport{Ports: []portRange{
		{Address: "192.0.2.1", Ports: "25", State: "skipped"},
		{Address: "0.0.0.0", Ports: "587, 1025-1030", State: "bound"},
		{Address: "::", Ports: "2525", State: "bound"},
		{Address: "127.0.0.9", Ports: "99", State: "bound"},
	}}
	for want, address := range map[uint16]string{
		0: "127.0.0.1:587", 1026: "127.0.0.1:1026", 2525: "[::1]:2525", 99: "127.0.0.9:99", 25: "", 1031: "",
	} {
		got, err := r.door(want)
		if got != address || (err == nil) != (address != "") {
			t.Errorf("port %d: %q, %v; want %q", want, got, err, address)
		}
	}
}
