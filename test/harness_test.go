// Package test holds the built relay against independent peers: clients, mail servers, verifiers, a kernel's trace.
package test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	relayHost  = "mx.test.example"
	fromDomain = "sender.test"
	rcptDomain = "rcpt.test"
	fromAddr   = "alice@" + fromDomain
)

// TestMain gives all tests one folder, in which the binary is built once.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mittente-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	buildDir = dir
	m.Run() // the testing package ends the process with its result
}

var (
	buildDir string
	build    = sync.OnceValues(buildBinary)
	spawner  = sync.OnceValue(startSpawner)
	ports    = &portAllocator{}
)

// buildBinary builds the relay as `make build` does (MITTENTE_TEST_RACE=1: with the
// race detector). MITTENTE_TEST_BINARY names one that is built already.
func buildBinary() (string, error) {
	if path := os.Getenv("MITTENTE_TEST_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(buildDir, "mittente")
	args := []string{"build", "-o", path}
	env := append(os.Environ(), "CGO_ENABLED=0")
	if os.Getenv("MITTENTE_TEST_RACE") == "1" {
		args, env = append(args, "-race"), append(os.Environ(), "CGO_ENABLED=1")
	}
	cmd := exec.Command("go", append(args, "mittente/cmd/mittente")...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// need asks for a tool of the machine. Without it the test is skipped with the
// reason; with MITTENTE_TEST_ALL=1 (as in .ci/run) it fails.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if have(t, tool) {
			continue
		}
		if os.Getenv("MITTENTE_TEST_ALL") == "1" {
			t.Fatalf("this test needs %s (test/install.sh installs it)", tool)
		}
		t.Skipf("this test needs %s (test/install.sh installs it)", tool)
	}
}

func have(t *testing.T, tool string) bool {
	t.Helper()
	switch module, isModule := strings.CutPrefix(tool, "python3-"); {
	case tool == "root":
		return os.Geteuid() == 0
	case tool == "linux":
		return runtime.GOOS == "linux"
	case tool == "tmpfs":
		dir := t.TempDir()
		return exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "mittente-test", dir).Run() == nil &&
			exec.Command("umount", dir).Run() == nil
	case tool == "ptrace":
		return exec.Command("strace", "-o", "/dev/null", "true").Run() == nil
	case strings.Contains(tool, "::"):
		return exec.Command("perl", "-M"+tool, "-e1").Run() == nil
	case tool == "node-nodemailer":
		cmd := exec.Command("node", "-e", "require('nodemailer')")
		cmd.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs")
		return cmd.Run() == nil
	case tool == "php-phpmailer":
		return exec.Command("php", "-r", "require '/usr/share/php/libphp-phpmailer/autoload.php';").Run() == nil
	case tool == "exim4-daemon-light":
		_, err := os.Stat(filepath.Join(peer(tool), "usr/sbin/exim4"))
		return err == nil
	case tool == "opensmtpd":
		_, err := os.Stat(filepath.Join(peer(tool), "usr/sbin/smtpd"))
		return err == nil
	case tool == "git-send-email":
		return exec.Command("git", "send-email", "--dump-aliases").Run() == nil
	case isModule:
		return exec.Command(python(), "-c", "import "+module).Run() == nil
	default:
		_, err := exec.LookPath(tool)
		return err == nil
	}
}

// python is the distribution's own interpreter, which finds the distribution's modules.
func python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// startSpawner returns a function that starts processes which the kernel ends when
// this one dies, even by a time limit. The kernel ties them to the thread that
// started them, so one thread is kept for it.
func startSpawner() func(*exec.Cmd) error {
	requests, results := make(chan *exec.Cmd), make(chan error)
	go func() {
		runtime.LockOSThread()
		for cmd := range requests {
			tie(cmd)
			results <- cmd.Start()
		}
	}()
	var mu sync.Mutex
	return func(cmd *exec.Cmd) error {
		mu.Lock()
		defer mu.Unlock()
		requests <- cmd
		return <-results
	}
}

// portBlock is how many ports an allocator takes at once.
const portBlock = 500

// portAllocator gives out ports below the range the kernel takes for clients. It
// takes them in blocks; the first port of a block is listened on, so that another
// run of these tests takes another block.
type portAllocator struct {
	mu        sync.Mutex
	next, end int
	guards    []net.Listener
}

func freePort(t *testing.T) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for range 20 * portBlock {
		if ports.next == ports.end && !ports.block() {
			break
		}
		port := ports.next
		ports.next++
		if l, err := net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func (a *portAllocator) block() bool {
	for first := 20000; first < 32000; first += portBlock {
		if guard, err := net.Listen("tcp", fmt.Sprintf(":%d", first)); err == nil {
			a.guards = append(a.guards, guard)
			a.next, a.end = first+1, first+portBlock
			return true
		}
	}
	return false
}

// waitFor asks until the answer is yes; what is waited for is named in the failure.
func waitFor(t *testing.T, limit time.Duration, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if yes() {
			return
		}
	}
	t.Fatalf("not within %v: %s", limit, what)
}

// relayConfig says how a relay of a test differs from the usual one.
type relayConfig struct {
	dns          *dnsServer // nil: one that knows nothing
	deliveryPort int
	data         string   // empty: a fresh folder
	smtp         string   // more lines for [smtp]
	bind         string   // address to listen on; empty: 127.0.0.1
	ports        string   // TOML array; empty: one free port
	extra        string   // more tables
	wrap         []string // command that runs the relay
	env          []string // more of its environment
}

// relay is one process of the binary with its folder.
type relay struct {
	t      *testing.T
	bin    string
	wrap   []string
	env    []string
	data   string
	config string
	log    string
	smtp   string // host:port
	http   string // host:port
	cmd    *exec.Cmd
	exited chan error
}

// newRelay writes a configuration; start starts the relay.
func newRelay(t *testing.T, c relayConfig) *relay {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	r := &relay{
		t: t, bin: binary(t), wrap: c.wrap, env: c.env, data: c.data,
		config: filepath.Join(dir, "mittente.toml"),
		log:    filepath.Join(dir, "mittente.log"),
		smtp:   "127.0.0.1:" + strconv.Itoa(port),
		http:   "127.0.0.1:" + strconv.Itoa(freePort(t)),
	}
	if r.data == "" {
		r.data = filepath.Join(dir, "data")
	}
	if c.ports == "" {
		c.ports = fmt.Sprintf("[%q]", strconv.Itoa(port))
	}
	if c.dns == nil {
		c.dns = startDNS(t) // knows nothing; no question leaves the machine
	}
	if c.deliveryPort == 0 {
		c.deliveryPort = freePort(t) // nobody listens there
	}
	text := fmt.Sprintf(`hostname = %q
data_dir = %q
[smtp]
bind = [%q]
ports = %s
%s
[http]
listen = %q
[dns]
servers = [%q]
[delivery]
port = %d
%s
`, relayHost, r.data, cmp.Or(c.bind, "127.0.0.1"), c.ports, c.smtp, r.http, c.dns.addr, c.deliveryPort, c.extra)
	if err := os.WriteFile(r.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.kill()
		if log, _ := os.ReadFile(r.log); bytes.Contains(log, []byte("DATA RACE")) || bytes.Contains(log, []byte("\ngoroutine ")) || bytes.Contains(log, []byte("session failed")) {
			t.Errorf("the relay's log has a data race or a panic:\n%s", log)
		}
		if t.Failed() {
			t.Logf("end of the relay's log:\n%s", tail(r.log, 60))
		}
	})
	return r
}

// in is the relay for a part of the test: what goes wrong fails that part.
func (r *relay) in(t *testing.T) *relay {
	t.Helper()
	part := *r
	part.t = t
	return &part
}

// startRelay starts a relay and waits until it is ready.
func startRelay(t *testing.T, c relayConfig) *relay {
	t.Helper()
	r := newRelay(t, c)
	r.start()
	return r
}

// launch starts the process and does not wait for it.
func (r *relay) launch() {
	r.t.Helper()
	out, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	args := append(append([]string{}, r.wrap...), r.bin, "-c", r.config, "serve")
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.Env = append(os.Environ(), r.env...)
	r.cmd.Stdout, r.cmd.Stderr = out, out
	if err := spawner()(r.cmd); err != nil {
		r.t.Fatal(err)
	}
	exited := make(chan error, 1)
	r.exited = exited
	go func(cmd *exec.Cmd) { exited <- cmd.Wait() }(r.cmd)
}

// start starts the process and waits until it is ready.
func (r *relay) start() {
	r.t.Helper()
	r.launch()
	exited := r.exited
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	waitFor(r.t, 30*time.Second, "/readyz answers 200", func() bool {
		select {
		case err := <-exited:
			exited <- err
			r.t.Fatalf("the relay ended: %v\n%s", err, tail(r.log, 20))
		default:
		}
		resp, err := client.Get("http://" + r.http + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// kill ends the relay by SIGKILL, as a power cut would end the process.
func (r *relay) kill() {
	if r.cmd == nil {
		return
	}
	r.cmd.Process.Kill()
	<-r.exited
	r.cmd = nil
}

// stop ends the relay as an init system does, and asserts that it ends well.
func (r *relay) stop() {
	r.t.Helper()
	r.signal(syscall.SIGTERM)
	select {
	case err := <-r.exited:
		r.cmd = nil
		if err != nil {
			r.t.Fatalf("the relay ended with %v after SIGTERM", err)
		}
	case <-time.After(30 * time.Second):
		r.t.Fatal("the relay did not end within 30 s of SIGTERM")
	}
}

func (r *relay) signal(s os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// cli runs a subcommand and returns what it printed.
func (r *relay) cli(args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.bin, append([]string{"-c", r.config}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// run runs a subcommand that must succeed.
func (r *relay) run(args ...string) string {
	r.t.Helper()
	stdout, stderr, err := r.cli(args...)
	if err != nil {
		r.t.Fatalf("mittente %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

// query runs a subcommand with --output json and decodes what it printed.
func (r *relay) query(into any, args ...string) {
	r.t.Helper()
	out := r.run(append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		r.t.Fatalf("mittente %s --output json: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// user is what `user add` and `user password` print once.
type user struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// verified adds a domain and verifies it by the owner's override.
func (r *relay) verified(domain string) {
	r.t.Helper()
	r.run("domain", "add", domain)
	r.run("domain", "verify", domain, "--override", "--reason", "test")
}

// addUser adds a user of list 1.
func (r *relay) addUser(args ...string) user {
	r.t.Helper()
	var u user
	r.query(&u, append([]string{"user", "add", "--list", "1"}, args...)...)
	if u.Username == "" || u.Password == "" {
		r.t.Fatalf("user add printed no name or no password: %+v", u)
	}
	return u
}

// setUp makes the usual sender: a verified domain and an active user who may
// authenticate in clear.
func (r *relay) setUp() user {
	r.t.Helper()
	r.verified(fromDomain)
	return r.addUser("--domain", fromDomain, "--active", "--require-tls=false")
}

// record is one line of `domain records`.
type record struct{ Purpose, Type, Name, Value string }

func (r *relay) records(domain string) []record {
	r.t.Helper()
	var records []record
	r.query(&records, "domain", "records", domain)
	return records
}

// logged returns all the relay has logged so far.
func (r *relay) logged() string {
	r.t.Helper()
	b, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// queuedID takes the message's id from the reply to the final dot.
func queuedID(t *testing.T, rep reply) string {
	t.Helper()
	m := regexp.MustCompile(`^2\.0\.0 Queued as (msg_[0-9a-v]{26})$`).FindStringSubmatch(rep.text)
	if rep.code != 250 || m == nil {
		t.Fatalf("reply to the final dot: %v; want 250 2.0.0 Queued as msg_…", rep)
	}
	return m[1]
}

// tail returns the last lines of a file.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
