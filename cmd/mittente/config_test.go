package main

import (
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDefaultFile wants every key of the struct in the file, and documented: a
// comment stands above each key, or above the section of those that need none.
func TestDefaultFile(t *testing.T) {
	var c Config
	if err := decode([]byte(defaultFile), &c); err != nil {
		t.Fatalf("the default file is not valid: %v", err)
	}
	lines := keyLines([]byte(defaultFile))
	for _, s := range settings(&c) {
		if lines[s.key] == 0 {
			t.Errorf("%s is not in the default file", s.key)
		}
	}
	for _, s := range settings(&Config{Routes: make([]RouteConfig, 1)}) {
		name, ok := strings.CutPrefix(s.key, "route.1.")
		if ok && !strings.Contains(defaultFile, "# "+name+" = ") {
			t.Errorf("%s of a route is not in the default file", name)
		}
	}
	text := strings.Split(defaultFile, "\n")
	for key, line := range lines {
		if _, ok := findSetting(&c, key); ok && strings.TrimSpace(text[line-2]) == "" && !strings.HasPrefix(key, "tls.") {
			t.Errorf("line %d: %s has no comment above it", line, key)
		}
	}
}

// TestFixedKeys holds the defaults that other tools rely on.
func TestFixedKeys(t *testing.T) {
	var c Config
	if err := decode([]byte(defaultFile), &c); err != nil {
		t.Fatal(err)
	}
	want := Config{
		SMTP: SMTPConfig{
			Bind: []string{"0.0.0.0", "::"}, Ports: []string{"25", "1025-5000"}, PlaintextAuth: "allow",
			MaxMessageBytes: 52428800, MaxRecipients: 1000,
			BareNewlines: "repair", LongLines: "keep", MaxConnections: 10_000, MaxPerClient: 1000, MaxPerConn: 100_000,
		},
		HTTP: HTTPConfig{
			Listen: "127.0.0.1:8025", PublicURL: "http://localhost:8025", MetricsAllow: []string{"127.0.0.0/8", "::1"},
		},
		DNS:       DNSConfig{Servers: []string{}},
		Delivery:  DeliveryConfig{Port: 25},
		Storage:   StorageConfig{ReserveBytes: 256 << 20},
		Retention: RetentionConfig{Delivered: "24h", Failed: "3d", Events: "90d"},
		Log:       LogConfig{Level: "info", Format: "text"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("defaults\n got %+v\nwant %+v", c, want)
	}
}

// TestPrintRoundTrip reads again what was printed: it means the same, but for its secrets.
func TestPrintRoundTrip(t *testing.T) {
	const text = `hostname = "mail.example.com"
data_dir = "/srv/\"quoted\"\\and\u0001"
[smtp]
ports = ["587", "2525-2530"]
[dns]
servers = ["192.0.2.1:53", "[2001:db8::1]:53"]
[[route]]
domain = "example.net"
next_hop = "a.example.net:25"
[[route]]
domain = "*"
next_hop = "b.example.net:587"
tls = "verify"
username = "me"
password = "hunter2"
`
	first, err := load("-", strings.NewReader(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	if err := printConfig(&printed, &first.Config); err != nil {
		t.Fatal(err)
	}
	second, err := load("-", strings.NewReader(printed.String()), nil)
	if err != nil {
		t.Fatalf("what was printed is not valid: %v\n%s", err, printed.String())
	}
	if second.Routes[1].Password != masked {
		t.Errorf("password printed as %q", second.Routes[1].Password)
	}
	second.Routes[1].Password = first.Routes[1].Password
	if !reflect.DeepEqual(first.Config, second.Config) {
		t.Errorf("printed and read again\n got %+v\nwant %+v", second.Config, first.Config)
	}
}

// TestMask hides secrets, and nothing else.
func TestMask(t *testing.T) {
	for _, c := range []struct{ text, secret, want string }{
		{"plain", "", "plain"},
		{"", "yes", ""},
		{"hunter2", "yes", masked},
		{"postgres://u:hunter2@db/x", "url", "postgres://u:%2A%2A%2A%2A%2A%2A%2A%2A@db/x"},
		{"postgres://db/x", "url", "postgres://db/x"},
		{"postgres://u:p%zz@db", "url", masked},
	} {
		if got := mask(c.text, c.secret); got != c.want {
			t.Errorf("mask(%q, %q) = %q, want %q", c.text, c.secret, got, c.want)
		}
	}
}

// TestDuration reads days as well as Go's units, and nothing out of range.
func TestDuration(t *testing.T) {
	for text, want := range map[Duration]time.Duration{
		"30s": 30 * time.Second, "15m": 15 * time.Minute, "1h30m": 90 * time.Minute, "90d": 90 * day, "0s": 0, "0d": 0, "36500d": 36_500 * day,
	} {
		if got, err := text.Parse(); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []Duration{"", "d", "3", "1.5d", "-1d", "-1s", "36501d", "99999999d", "1d2h", "x"} {
		if got, err := text.Parse(); err == nil {
			t.Errorf("%s: got %v, want an error", text, got)
		}
	}
}

// TestEnvironment sets every key from the environment.
func TestEnvironment(t *testing.T) {
	l, err := load("-", strings.NewReader(""), []string{
		"MITTENTE_HOSTNAME=relay.example.org", "MITTENTE_DATA_DIR=/srv/m", "MITTENTE_SMTP_BIND=127.0.0.1,::1",
		"MITTENTE_SMTP_MAX_MESSAGE_BYTES=2048", "MITTENTE_RETENTION_FAILED=5d", "MITTENTE_HTTP_METRICS_ALLOW=10.0.0.0/8",
		"MITTENTE_ROUTE_1_DOMAIN=*", "MITTENTE_ROUTE_1_NEXT_HOP=h.example:25", "MITTENTE_DNS_SERVERS=", "OTHER=x",
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		l.Hostname, l.DataDir, l.SMTP.Bind, l.SMTP.MaxMessageBytes, l.Retention.Failed, l.HTTP.MetricsAllow, l.Routes, l.DNS.Servers,
	}
	want := []any{
		"relay.example.org", "/srv/m",
		[]string{"127.0.0.1", "::1"},
		int64(2048), Duration("5d"),
		[]string{"10.0.0.0/8"},
		[]RouteConfig{{Domain: "*", NextHop: "h.example:25", TLS: "may"}},
		[]string{},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := load("-", strings.NewReader(""), []string{"MITTENTE_HOSTNAME_FILE=/does/not/exist"}); err == nil {
		t.Error("a secret's file that is missing is no error")
	}
}

// TestNearest proposes the key that was probably meant.
func TestNearest(t *testing.T) {
	for key, want := range map[string]string{
		"hostnam": "hostname", "smtp.prots": "smtp.ports", "ports": "smtp.ports", "smtp.port": "smtp.ports",
		"route.nexthop": "route.next_hop", "something.else": "",
	} {
		if got := nearest(key); got != want {
			t.Errorf("nearest(%s) = %q, want %q", key, got, want)
		}
	}
}

// FuzzLoad feeds whatever text: it is read, or every fault has a place and a text.
func FuzzLoad(f *testing.F) {
	f.Add(defaultFile)
	f.Add("hostname = \"a.b\"\n[smtp]\nports = [\"1-2\"]\n[[route]]\ndomain = \"*\"\n")
	f.Add("a = 1\n[a]\n")
	f.Add("smtp.ports = [1]\nroute = [{domain = 3}]\n")
	place := regexp.MustCompile(`^standard input(:[0-9]+)?$`)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := load("-", strings.NewReader(text), nil)
		if err == nil {
			return
		}
		faults, ok := errors.AsType[configError](err)
		if !ok {
			t.Fatalf("%T %v", err, err)
		}
		for _, fault := range faults {
			if fault.Where != "" && !place.MatchString(fault.Where) || fault.Text == "" {
				t.Errorf("fault %+v", fault)
			}
		}
	})
}
