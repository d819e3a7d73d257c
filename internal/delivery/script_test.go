package delivery

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mittente/internal/dns"
	"mittente/internal/dns/dnstest"
	"mittente/internal/mail"
	"mittente/internal/route"
)

// TestMain holds the room to leaving no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A scenario is a set of dialogues with other servers and what has to come of
// them, as testdata/README.md describes.
type scenario struct {
	name        string
	headers     map[string]string
	connections []*dialogue
	want        []string
	next        []string

	outcomes []mail.Outcome // what came of it
}

// dialogue is one connection to an address, as the server there plays it.
type dialogue struct {
	address string
	lines   []string
	refused bool
	silent  bool // the connection is never established
}

// TestDialogues plays testdata/*.txt.
func TestDialogues(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	again := newRetries(t)
	for _, file := range files {
		for _, s := range parseScenarios(t, file) {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, s.play)
				if s.next == nil {
					return
				}
				if got := again.after(t, s.outcomes); !slices.Equal(got, s.next) {
					t.Errorf("next attempts %q, want %q", got, s.next)
				}
			})
		}
	}
}

func parseScenarios(t *testing.T, file string) []*scenario {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []*scenario
	var s *scenario
	for n, line := range strings.Split(string(text), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || word == "#":
		case word == "==":
			s = &scenario{name: rest, headers: map[string]string{}}
			all = append(all, s)
		case word == "connection":
			address, how, _ := strings.Cut(rest, " ")
			s.connections = append(s.connections, &dialogue{address: address, refused: how == "refused", silent: how == "silent"})
		case word == "outcome":
			s.want = append(s.want, rest)
		case word == "next":
			s.next = append(s.next, rest)
		case word == "HELLO":
			d := s.connections[len(s.connections)-1]
			d.lines = append(d.lines, helloOf(rest)...)
		case len(s.connections) > 0:
			d := s.connections[len(s.connections)-1]
			d.lines = append(d.lines, line)
		case strings.HasSuffix(word, ":"):
			s.headers[strings.TrimSuffix(word, ":")] = rest
		default:
			t.Fatalf("%s:%d: %q", file, n+1, line)
		}
	}
	return all
}

// helloOf is the server's part up to EHLO, which offers those extensions.
func helloOf(offers string) []string {
	lines := []string{"S: 220 mx1", "C: EHLO relay.example.org"}
	words := append([]string{"mx1"}, strings.Fields(offers)...)
	for i, w := range words {
		sep := "-"
		if i == len(words)-1 {
			sep = " "
		}
		lines = append(lines, "S: 250"+sep+w)
	}
	return lines
}

func (s *scenario) header(key, otherwise string) string {
	if v, ok := s.headers[key]; ok {
		return v
	}
	return otherwise
}

func (s *scenario) play(t *testing.T) {
	p := newPeers(t, s.connections...)
	cfg := Config{Dial: p.dial, TLSRoots: p.roots}
	if s.header("trust", "yes") == "no" {
		cfg.TLSRoots = x509.NewCertPool()
	}
	var routes []route.Static
	if r := strings.Fields(s.header("route", "")); len(r) > 0 {
		way := route.Static{Domain: "*", NextHop: r[0], TLS: route.TLSPolicy(r[1])}
		if len(r) == 4 {
			way.Username, way.Password = r[2], r[3]
		}
		routes = append(routes, way)
	}
	c := courier(t, cfg, routes...)
	plan, o := c.Plan(t.Context(), mail.Domain(s.header("domain", "example.net")))
	if o != nil {
		t.Fatal(*o)
	}
	began := time.Now()
	var got []string
	for range len(strings.Fields(s.header("times", "1"))) {
		for _, o := range c.Deliver(t.Context(), plan, s.job(t)) {
			got, s.outcomes = append(got, show(o)), append(s.outcomes, o)
		}
	}
	if took := time.Since(began).String(); took != s.header("took", took) {
		t.Errorf("took %s, want %s", took, s.headers["took"])
	}
	c.Close()
	p.finish()
	if strings.Join(got, "\n") != strings.Join(s.want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(s.want, "\n"))
	}
}

func (s *scenario) job(t *testing.T) Job {
	t.Helper()
	content := strings.NewReplacer(`\n`, "\r\n", `\r`, "\r").Replace(s.header("content", `Subject: hi\n\nHello\n`))
	job := Job{
		From:     reversePath(t, s.header("from", "sender@example.org")),
		TLS:      route.TLSPolicy(s.header("demands", "")),
		EightBit: strings.Contains(s.header("needs", ""), "8bit"),
		SMTPUTF8: strings.Contains(s.header("needs", ""), "utf8"),
		Size:     int64(len(content)),
		Content: func() (io.ReadCloser, error) {
			if s.header("spool", "") == "gone" {
				return nil, errors.New("gone")
			}
			if s.header("spool", "") == "breaks" {
				return io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{})), nil
			}
			return io.NopCloser(strings.NewReader(content)), nil
		},
	}
	for to := range strings.FieldsSeq(s.header("to", "a@example.net")) {
		job.To = append(job.To, forwardPath(t, to))
	}
	if words := strings.Fields(s.header("dsn", "")); len(words) == 4 {
		job.Return, job.EnvelopeID = mail.Return(words[0]), words[1]
		notify, err := mail.ParseNotify(words[2])
		if err != nil {
			t.Fatal(err)
		}
		job.To[0].Notify, job.To[0].Original = notify, words[3]
	}
	return job
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

func reversePath(tb testing.TB, s string) mail.ReversePath {
	tb.Helper()
	p, err := mail.ParseReversePath(s)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func forwardPath(tb testing.TB, s string) mail.Rcpt {
	tb.Helper()
	p, err := mail.ParseForwardPath(s)
	if err != nil {
		tb.Fatal(err)
	}
	return mail.Rcpt{To: p}
}

// show writes an outcome as the scenarios do.
func show(o mail.Outcome) string {
	parts := []string{string(o.Action)}
	if o.Scope != "" {
		parts = append(parts, string(o.Scope))
	}
	if r := strings.TrimSpace(o.Reply()); r != "" {
		parts = append(parts, r)
	}
	if o.RemoteMTA != "" {
		parts = append(parts, "["+strings.TrimSpace(o.RemoteMTA+" "+o.RemoteAddr)+"]")
	}
	if o.TLS != "" {
		parts = append(parts, o.TLS)
	}
	if o.DSN {
		parts = append(parts, "DSN")
	}
	if o.Ours {
		parts = append(parts, "ours")
	}
	if o.RetryAfter > 0 {
		parts = append(parts, "after "+o.RetryAfter.String())
	}
	return strings.Join(parts, " ")
}

// courier is one for tests, with a resolver that knows the zone below.
func courier(tb testing.TB, cfg Config, routes ...route.Static) *Courier {
	tb.Helper()
	if cfg.Hostname == "" {
		cfg.Hostname = "relay.example.org"
	}
	resolver, err := dns.New(dns.Config{Servers: []string{"127.0.0.1:53"}, Dial: zone().Dial}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	router, err := route.New(route.Config{Hostname: cfg.Hostname, Static: routes}, resolver)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := New(cfg, router, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// zone is the DNS of all tests, by name; what is not there does not exist.
func zone() dnstest.Zone {
	return dnstest.Zone{
		"example.net.":       {"MX 20 mx2.example.net.", "MX 10 mx1.example.net."},
		"mx1.example.net.":   {"A 192.0.2.1"},
		"mx2.example.net.":   {"A 192.0.2.2"},
		"implicit.example.":  {"A 192.0.2.9"},
		"null.example.":      {"MX 0 ."},
		"fails.example.":     {"SERVFAIL"},
		"mxfails.example.":   {"MX 10 fails.example."},
		"halffails.example.": {"MX 10 fails.example.", "MX 20 mx1.example.net."},
		"self.example.":      {"MX 10 relay.example.org.", "MX 20 mx1.example.net."},
		"backup.example.":    {"MX 10 mx1.example.net.", "MX 20 Relay.Example.ORG.", "MX 20 mx2.example.net.", "MX 30 mx3.example.net."},
		"equals.example.":    {"MX 10 mx1.example.net.", "MX 10 mx2.example.net.", "MX 5 first.example."},
		"nowhere.example.":   {"MX 10 missing.example.", "MX 20 empty.example."},
		"halfgone.example.":  {"MX 10 missing.example.", "MX 20 mx1.example.net."},
		"empty.example.":     {"TXT nothing"},
		"alias.example.":     {"CNAME example.net."},
		"mxalias.example.":   {"MX 10 alias1.example."},
		"alias1.example.":    {"CNAME mx1.example.net."},
		"any.example.":       {"MX 10 zero.example."},
		"zero.example.":      {"A 0.0.0.0"},
		"dual.example.":      {"A 192.0.2.1", "A 192.0.2.3", "AAAA 2001:db8::1", "AAAA 2001:db8::2"},
		"single.example.":    {"MX 10 mx1.example.net."},
		"many.example.":      {"A 192.0.2.11", "A 192.0.2.12", "A 192.0.2.13", "A 192.0.2.14", "A 192.0.2.15", "A 192.0.2.16", "A 192.0.2.17", "A 192.0.2.18", "A 192.0.2.19", "A 192.0.2.20"},
	}
}

// peers are the servers of a test.
type peers struct {
	t       *testing.T
	roots   *x509.CertPool
	tls     *tls.Config
	mu      sync.Mutex
	scripts []*dialogue
	writes  int // by the client, over all connections
	wg      sync.WaitGroup
}

func newPeers(t *testing.T, scripts ...*dialogue) *peers {
	t.Helper()
	p := &peers{t: t, scripts: scripts, roots: x509.NewCertPool()}
	cert := certificate(t, "mx1.example.net", "127.0.0.1")
	p.roots.AddCert(cert.Leaf)
	p.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	return p
}

// certificate is one that is its own authority.
func certificate(tb testing.TB, names ...string) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// dial takes the next dialogue, which must be with that address.
func (p *peers) dial(ctx context.Context, _, address string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.scripts) == 0 {
		p.t.Errorf("unexpected connection to %s", address)
		return nil, errors.New("connection refused")
	}
	d := p.scripts[0]
	p.scripts = p.scripts[1:]
	host, _, err := net.SplitHostPort(address)
	if err != nil || d.address != host && d.address != address {
		p.t.Errorf("connection to %s, want %s", address, d.address)
	}
	if d.refused {
		return nil, errors.New("connection refused")
	}
	if d.silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	client, server := net.Pipe()
	p.wg.Go(func() {
		defer server.Close()
		(&peer{t: p.t, conn: server, r: bufio.NewReaderSize(server, 64<<10), tls: p.tls}).play(d.lines)
	})
	return &countingConn{Conn: client, p: p}, nil
}

// finish waits for all dialogues to end.
func (p *peers) finish() {
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.scripts {
		p.t.Errorf("no connection to %s", d.address)
	}
}

type countingConn struct {
	net.Conn
	p *peers
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	c.p.writes++
	c.p.mu.Unlock()
	return c.Conn.Write(b)
}

// peer is a server in one dialogue.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	tls  *tls.Config
}

func (p *peer) play(lines []string) {
	for _, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		var err error
		switch word {
		case "S:":
			_, err = fmt.Fprintf(p.conn, "%s\r\n", rest)
		case "C:":
			err = p.expect(rest)
		case "CONTENT":
			err = p.content()
		case "FLOOD":
			p.flood(rest)
			return
		case "LINES":
			err = p.lines(rest)
		case "RAW":
			// The client may have enough in the middle of it.
			_, _ = io.WriteString(p.conn, strings.ReplaceAll(rest, `\n`, "\r\n"))
		case "TLS":
			server := tls.Server(p.conn, p.tls)
			err = server.Handshake()
			p.conn, p.r = server, bufio.NewReader(server)
		case "WAIT":
			var d time.Duration
			d, err = time.ParseDuration(rest)
			time.Sleep(d)
		case "CUT":
			return
		case "SILENCE":
			_, _ = io.Copy(io.Discard, p.r)
			return
		default:
			err = fmt.Errorf("not a line of a script: %q", line)
		}
		if err != nil {
			p.t.Errorf("at %q: %v", line, err)
			return
		}
	}
	p.leave()
}

func (p *peer) content() error {
	for {
		line, err := p.r.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return err
		}
	}
}

// lines says a reply of so many lines: "550 500 text".
func (p *peer) lines(rest string) error {
	words := strings.SplitN(rest, " ", 3)
	n, err := strconv.Atoi(words[1])
	for i := range n {
		sep := "-"
		if i == n-1 {
			sep = " "
		}
		if _, err := io.WriteString(p.conn, words[0]+sep+words[2]+"\r\n"); err != nil {
			return err
		}
	}
	return err
}

func (p *peer) flood(text string) {
	text = strings.ReplaceAll(text, `\n`, "\r\n")
	for {
		if _, err := io.WriteString(p.conn, text); err != nil {
			return
		}
	}
}

func (p *peer) expect(want string) error {
	got, err := p.r.ReadString('\n')
	if err == nil && got != want+"\r\n" {
		err = fmt.Errorf("the client says %q", got)
	}
	return err
}

// leave lets the client say QUIT, or just go.
func (p *peer) leave() {
	got, err := p.r.ReadString('\n')
	if err == nil && got != "QUIT\r\n" {
		p.t.Errorf("at the end the client says %q", got)
		return
	}
	_, _ = io.WriteString(p.conn, "221 2.0.0 bye\r\n")
}
