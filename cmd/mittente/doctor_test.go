package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// zone answers for what it holds, and says of everything else that it is not there.
func zone(t *testing.T, records ...string) (server string) {
	t.Helper()
	held := map[string][]mdns.RR{}
	for _, text := range records {
		rr, err := mdns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		key := rr.Header().Name + mdns.TypeToString[rr.Header().Rrtype]
		held[key] = append(held[key], rr)
	}
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mdns.Server{PacketConn: conn, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		m.RecursionAvailable = true
		m.Answer = held[mdns.CanonicalName(q.Question[0].Name)+mdns.TypeToString[q.Question[0].Qtype]]
		if len(m.Answer) == 0 {
			m.Rcode = mdns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return conn.LocalAddr().String()
}

// greeter says one line to whoever connects.
func greeter(t *testing.T, line string) (port string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "%s\r\n", line)
			_ = conn.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func withDataDir(config, dir string) string {
	if strings.Contains(config, "data_dir") {
		return config
	}
	return fmt.Sprintf("data_dir = %q\n%s", filepath.Join(dir, "data"), config)
}

// doctored runs the doctor with a configuration and returns what it prints.
func doctored(t *testing.T, config string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "mittente.toml")
	if err := os.WriteFile(file, []byte(withDataDir(config, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, environ: nil}
	code := a.run(t.Context(), append([]string{"-c", file, "doctor", "--timeout", "5s"}, args...))
	failed := strings.Contains(out.String(), "\nfailed ") || strings.HasPrefix(out.String(), "failed ")
	if failed != (code == exitFailure) {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	return out.String()
}

func TestDoctorSeesTheNetwork(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, config string
		zone         []string
		greeting     string
		want         []string
	}{
		{
			name: "all well", config: `hostname = "mx.ours.example"`, greeting: "220 mx.theirs.example ESMTP",
			zone: []string{
				"mx.ours.example. A 192.0.2.25", "25.2.0.192.in-addr.arpa. PTR mx.ours.example.",
				"gmail.com. MX 5 mx.theirs.example.", "mx.theirs.example. A 127.0.0.1",
			},
			want: []string{
				"ok       hostname: mx.ours.example is 192.0.2.25", "ok       reverse DNS", "ok       resolver",
				"ok       outbound port: mx.theirs.example:PORT greets: 220 mx.theirs.example ESMTP",
			},
		},
		{
			name: "no name", config: `hostname = "box.localdomain"`, want: []string{"failed   hostname: box.localdomain is not a full domain name"},
		},
		{
			name: "no address", config: `hostname = "mx.ours.example"`, want: []string{
				"failed   hostname: mx.ours.example does not exist in the DNS", "skipped  reverse DNS", "failed   outbound port|skipped  outbound port",
			},
		},
		{
			name: "the way back leads elsewhere", config: `hostname = "mx.ours.example"`,
			zone: []string{"mx.ours.example. A 192.0.2.25", "25.2.0.192.in-addr.arpa. PTR host25.provider.example."},
			want: []string{"failed   reverse DNS: 192.0.2.25 leads to host25.provider.example", "set its PTR record to mx.ours.example"},
		},
		{
			name: "a firewall answers", config: `hostname = "mx.ours.example"`, greeting: "554 go away",
			zone: []string{"gmail.com. MX 5 mx.theirs.example.", "mx.theirs.example. A 127.0.0.1"},
			want: []string{"failed   outbound port: no connection to mail exchangers of gmail.com: .*554 go away", "open outgoing port 25"},
		},
		{
			name: "a smarthost is tried instead", greeting: "220 smart.example ESMTP",
			config: "hostname = \"mx.ours.example\"\n[[route]]\ndomain = \"*\"\nnext_hop = \"127.0.0.1:PORT\"",
			want:   []string{"ok       outbound port: 127.0.0.1:PORT greets: 220 smart.example"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			port := "1"
			if c.greeting != "" {
				port = greeter(t, c.greeting)
			}
			config := strings.ReplaceAll(c.config, "PORT", port) +
				fmt.Sprintf("\n[dns]\nservers = [%q]\n[delivery]\nport = %s\n", zone(t, c.zone...), port)
			saw(t, doctored(t, reordered(config)), port, c.want)
		})
	}
}

// reordered puts [[route]] at the end, where no key of another section follows it.
func reordered(config string) string {
	if head, route, ok := strings.Cut(config, "[[route]]"); ok {
		block, rest, _ := strings.Cut(route, "\n[")
		return head + "[" + rest + "\n[[route]]" + block
	}
	return config
}

func saw(t *testing.T, got, port string, all []string) {
	t.Helper()
	for _, want := range all {
		if !matches(got, strings.ReplaceAll(want, "PORT", port)) {
			t.Errorf("want %q in:\n%s", want, got)
		}
	}
}

func TestDoctorSeesTheHouse(t *testing.T) {
	t.Parallel()
	const base = "hostname = \"mx.ours.example\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n"
	t.Run("before the first start", func(t *testing.T) {
		t.Parallel()
		saw(t, doctored(t, base, "--outbound", "none"), "", []string{
			"failed   database: .*there is no database", "skipped  secret key", "skipped  certificate", "skipped  outbound port: not wanted",
		})
	})
	t.Run("certificate", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		pair := KeyPairConfig{filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")}
		if err := keepSelfSigned(pair, "other.example", time.Now()); err != nil {
			t.Fatal(err)
		}
		config := base + fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n", pair.Cert, pair.Key)
		saw(t, doctored(t, config, "--outbound", "none"), "", []string{`failed   certificate: .*c.pem is for \[other.example localhost\], not for mx.ours.example`})
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir() // a data folder that is there, before the first start
		config := fmt.Sprintf("data_dir = %q\n%s[storage]\nreserve_bytes = %d\n", dir, base, int64(1)<<50)
		saw(t, doctored(t, config, "--outbound", "none"), "", []string{"failed   disk: .*new mail is answered 452 4.3.1"})
	})
}

func matches(text, pattern string) bool {
	return regexp.MustCompile("(?m)" + pattern).MatchString(text)
}
