package test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	diskSize    = 160 << 20
	diskReserve = 32 << 20
)

// smallDisk mounts a file system of diskSize.
func smallDisk(t *testing.T) string {
	t.Helper()
	need(t, "linux", "root", "tmpfs")
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=0700", diskSize), "mittente-test", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// gate is a sink's answer that can be held back.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
	held int
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func (g *gate) pass(*arrived) string {
	g.mu.Lock()
	open := g.open
	g.held++
	g.mu.Unlock()
	<-open
	return ""
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// subjects counts what a sink got by its subject.
func subjects(t *testing.T, s *sink) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for _, m := range s.received() {
		n[parse(t, m).Get("Subject")]++
	}
	return n
}

// A disk that fills up: new mail is refused by 452 4.3.1 while the reserve keeps
// settling possible; with not one octet left, 4xx still; nothing accepted is lost;
// and once there is room mail flows again by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	g := newGate()
	port := freePort(t)
	s := startSink(t, sinkConfig{addr: "127.0.0.2:" + strconv.Itoa(port), onData: g.pass})
	t.Cleanup(g.lift)
	r := startRelay(t, relayConfig{
		dns: mailDNS(t, rcptDomain, "127.0.0.2"), deliveryPort: port, data: filepath.Join(dir, "data"),
		extra: fmt.Sprintf("[storage]\nreserve_bytes = %d\n", diskReserve),
	})
	u := r.setUp()
	var accepted []string
	send := func(subject string, size int) reply {
		t.Helper()
		c := dialAs(t, r.smtp, u)
		rep, err := c.send(fromAddr, "bob@"+rcptDomain, append(simple("bob@"+rcptDomain, subject), awkward(size, 1)...))
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		if rep.code == 250 {
			accepted = append(accepted, subject)
		}
		return rep
	}
	wantCode := func(subject, want string, size int) {
		t.Helper()
		if rep := send(subject, size); !strings.HasPrefix(rep.String(), want) {
			t.Errorf("%s: %v; want %s", subject, rep, want)
		}
	}
	flows := func(subject string) {
		t.Helper()
		waitFor(t, 5*time.Second, "mail is accepted again", func() bool { return send(subject, 100).code == 250 })
	}

	wantCode("before", "250", 1<<20)
	g.shut()
	wantCode("held", "250", 1000)
	waitFor(t, 10*time.Second, "the sink holds a message", func() bool { return g.waiting() >= 2 })

	fill(t, dir, diskReserve-(1<<20))  // into the reserve
	time.Sleep(500 * time.Millisecond) // how long the relay may believe its last look at the disk
	wantCode("in the reserve", "452 4.3.1", 1000)
	fill(t, dir, diskReserve+(40<<20))
	flows("after the reserve")

	// Full to the last octet while a message is arriving and another is being delivered.
	c := dialAs(t, r.smtp, u)
	c.beginData()
	if err := c.write(unfinished(append(simple("bob@"+rcptDomain, "cut"), awkward(2<<20, 2)...))); err != nil {
		t.Fatal(err)
	}
	fill(t, dir, 0)
	if err := c.write(stuff(awkward(20<<20, 2))); err != nil {
		t.Fatal(err)
	}
	if rep, err := c.read(); err != nil || rep.code/100 != 4 {
		t.Errorf("content that found the disk full: %v, %v; want 4xx", rep, err)
	}
	wantCode("full", "452 4.3.1", 1000)
	g.lift() // the next hop answers, and there is no room to note it
	time.Sleep(time.Second)
	fill(t, dir, diskReserve+(40<<20))
	flows("after the full disk")
	r.empty(30 * time.Second)
	got := subjects(t, s)
	for _, subject := range accepted {
		if got[subject] == 0 {
			t.Errorf("%q was accepted and lost", subject)
		}
	}
	for _, subject := range []string{"in the reserve", "cut", "full"} {
		if got[subject] > 0 {
			t.Errorf("%q was refused and delivered", subject)
		}
	}
	t.Logf("accepted %q; the sink has %v", accepted, got)
}

// Another process holds the database's write lock for longer than our busy_timeout
// of 5 s: 451 4.3.0, nothing lost, and all goes on once it lets go.
func TestLockedDatabase(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	g := newGate()
	s, r := sinkRelay(t, sinkConfig{onData: g.pass})
	t.Cleanup(g.lift)
	u := r.setUp()
	to := "bob@" + rcptDomain
	g.shut()
	held := queuedID(t, dialAs(t, r.smtp, u).mail("250", fromAddr, to, simple(to, "held")))
	waitFor(t, 10*time.Second, "the sink holds a message", func() bool { return g.waiting() == 1 })

	unlock := lock(t, filepath.Join(r.data, "mittente.db"))
	g.lift() // the next hop answers, and it can't be noted
	start := time.Now()
	c := dialAs(t, r.smtp, u)
	c.mail("451 4.3.0", fromAddr, to, simple(to, "refused"))
	// Its own timeout, and before it that of the settling it may have to queue behind.
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("451 after %v; want at most twice the timeout of 5 s", took)
	}
	unlock()

	var next string
	waitFor(t, 3*time.Second, "mail is accepted again", func() bool {
		rep, err := c.send(fromAddr, to, simple(to, "next"))
		if err != nil || rep.code/100 != 2 && rep.code/100 != 4 {
			t.Fatal(rep, err)
		}
		if rep.code == 250 {
			next = queuedID(t, rep)
		}
		return next != ""
	})
	r.state(next, "delivered")
	r.state(held, "delivered")
	r.empty(20 * time.Second)
	if got := subjects(t, s); got["held"] != 1 || got["next"] != 1 || got["refused"] != 0 {
		t.Errorf("the sink has %v; want held and next, each once", got)
	}
}

// lock takes the write lock of a database in another process; the function it
// returns gives it back.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	cmd := exec.Command(python(), "testdata/lock.py", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := spawner()(cmd); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil && err != io.EOF || line != "locked\n" {
		t.Fatalf("lock.py: %q, %v", line, err)
	}
	unlock = sync.OnceFunc(func() {
		stdin.Close()
		cmd.Wait()
	})
	t.Cleanup(unlock)
	return unlock
}
