package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

const laterDomain = "later.test"

// A backup is taken while mail comes in and goes out. Restored elsewhere, with the
// secret key beside it, it delivers what was pending, each once, signed.
func TestBackupUnderLoadIsRestoredElsewhere(t *testing.T) {
	t.Parallel()
	l := &ledger{accepted: make(map[string]bool), seen: make(map[string]int), recent: make(map[string]int)}
	port := freePort(t)
	startSink(t, sinkConfig{addr: "127.0.0.2:" + strconv.Itoa(port), forget: true, onData: l.arrive})
	here := mailDNS(t, rcptDomain, "127.0.0.2")
	here.add(laterDomain + ". 300 IN MX 10 mx." + laterDomain + ".")
	here.add("mx." + laterDomain + ". 300 IN A 127.0.0.3") // nobody listens there
	old := startRelay(t, relayConfig{dns: here, deliveryPort: port})
	u := old.setUp()
	pending := map[string]bool{}
	for n := range 25 {
		id := fmt.Sprintf("later-%d@client.test", n)
		sendNumbered(t, old.smtp, u, "bob@"+laterDomain, id)
		pending[id] = true
	}

	stop := make(chan struct{})
	var running sync.WaitGroup
	for n := range senders {
		running.Go(func() { l.load(stop, old.smtp, u, n) })
	}
	waitFor(t, 20*time.Second, "there is load", func() bool { return l.arrivals() > 50 })
	before := l.arrivals()
	file := filepath.Join(t.TempDir(), "backup.db")
	old.run("backup", file)
	went := l.arrivals() - before
	close(stop)
	running.Wait()
	old.kill() // what was in the backup as waiting must not be delivered by both

	fresh := t.TempDir()
	secret, err := os.ReadFile(filepath.Join(old.data, "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fresh, "secret.key"), secret, 0o600); err != nil {
		t.Fatal(err)
	}
	port = freePort(t)
	second := startSink(t, sinkConfig{addr: "127.0.0.2:" + strconv.Itoa(port)})
	there := mailDNS(t, laterDomain, "127.0.0.2")
	moved := newRelay(t, relayConfig{dns: there, deliveryPort: port, data: fresh})
	moved.run("restore", file)
	moved.start()
	moved.run("queue", "retry", "--all")
	got := map[string]int{}
	for _, m := range second.wait(t, len(pending)) {
		if len(m.to) == 1 && m.to[0] == "bob@"+laterDomain {
			got[parse(t, m).Get("Message-Id")]++
			if parse(t, m).Get("Dkim-Signature") == "" {
				t.Error("a restored message left unsigned")
			}
		}
	}
	for id := range pending {
		if got["<"+id+">"] != 1 {
			t.Errorf("%s arrived %d times", id, got["<"+id+">"])
		}
	}
	waitFor(t, 10*time.Second, "nothing waits for that domain", func() bool {
		var waiting []recipientView
		moved.query(&waiting, "queue", "ls", "--domain", laterDomain)
		return len(waiting) == 0
	})
	t.Logf("%d messages had arrived when the backup began, %d more while it was taken", before, went)
}

// arrivals is how many messages have reached the sink.
func (l *ledger) arrivals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

func sendNumbered(t *testing.T, addr string, u user, to, id string) {
	t.Helper()
	w, err := dialWire(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer w.conn.Close()
	if err := w.login(u); err != nil {
		t.Fatal(err)
	}
	content := fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: waits\r\nMessage-ID: <%s>\r\n\r\nwaits\r\n", fromAddr, to, id)
	if rep, err := w.send(fromAddr, to, []byte(content)); err != nil || rep.code != 250 {
		t.Fatal(rep, err)
	}
}

// A server that was restored over does not lose what stood there, and a damaged
// file is refused.
func TestRestoreRefusesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	_, r := sinkRelay(t, sinkConfig{})
	r.setUp()
	file := filepath.Join(t.TempDir(), "backup.db")
	r.run("backup", file)
	r.stop()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.db")
	if err := os.WriteFile(bad, text[:len(text)/3], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := r.cli("restore", bad, "--yes"); err == nil {
		t.Errorf("a file that is cut off was restored: %s", stderr)
	}
	var users []struct{ Username string }
	r.query(&users, "user", "ls")
	if len(users) != 1 {
		t.Errorf("after a refused restore there are %d users", len(users))
	}
}
