package test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	kills   = 60
	senders = 6
)

// ledger is what the clients were promised and what the sink got.
type ledger struct {
	mu       sync.Mutex
	accepted map[string]bool // ids of content that was answered by 250
	seen     map[string]int  // ids that reached the sink, how often
	recent   map[string]int  // the same since the last kill
	bad      []string        // content that reached the sink changed
}

// Mail accepted under load while the process is killed at random moments: every id
// that got 250 arrives, unchanged. A message arrives twice only if, at a kill, the
// sink had it and the database did not yet know: RFC 5321 §6.1 wants it that way round.
func TestNothingIsLostWhenKilled(t *testing.T) {
	t.Parallel()
	l := &ledger{accepted: make(map[string]bool), seen: make(map[string]int), recent: make(map[string]int)}
	s, r := sinkRelay(t, sinkConfig{forget: true, onData: l.arrive})
	u := r.setUp()
	stop := make(chan struct{})
	var running sync.WaitGroup
	for n := range senders {
		running.Go(func() { l.load(stop, r.smtp, u, n) })
	}
	inFlight := l.killing(t, s, r)
	close(stop)
	running.Wait()
	l.settle(t, r)

	l.mu.Lock()
	defer l.mu.Unlock()
	lost, duplicates, between := 0, 0, 0
	for id := range l.accepted {
		if l.seen[id] == 0 {
			lost++
		}
	}
	for id, n := range l.seen {
		duplicates += n - 1
		between += inFlight[id]
		if n-1 > inFlight[id] {
			t.Errorf("%s arrived %d times; it was in flight at %d kills", id, n, inFlight[id])
		}
	}
	t.Logf("%d kills, %d messages accepted, %d lost, %d duplicates (at the kills %d were with the sink and not yet settled), %d arrived whose 250 a kill cut off",
		kills, len(l.accepted), lost, duplicates, between, len(l.seen)-len(l.accepted)+lost)
	if lost > 0 {
		t.Errorf("%d accepted messages were lost", lost)
	}
	if len(l.accepted) < 5*kills {
		t.Errorf("only %d messages were accepted: this was no load", len(l.accepted))
	}
	for _, what := range l.bad {
		t.Error(what)
	}
}

// killing kills the relay again and again, a sixth of the times without waiting
// until it is ready. It returns what was in flight, and at how many kills: messages
// that had reached the sink since the kill before, and whose settling was not
// committed. Each is delivered once more, and nothing else is.
func (l *ledger) killing(t *testing.T, s *sink, r *relay) (inFlight map[string]int) {
	t.Helper()
	inFlight = make(map[string]int)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for n := range kills {
		time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
		r.kill()
		waitFor(t, 10*time.Second, "the sink has read what the dead relay wrote", func() bool { return s.open() == 0 })
		left := r.snapshot()
		leased := column(t, left, "SELECT m.message_id FROM recipient r JOIN message m ON m.id = r.message_id WHERE r.state = 'leased'")
		left.Close()
		l.mu.Lock()
		for _, id := range leased {
			if l.recent[id] > 0 {
				inFlight[id]++
			}
		}
		clear(l.recent)
		l.mu.Unlock()
		if n%6 == 0 {
			r.launch()
			continue
		}
		r.start()
	}
	return inFlight
}

// settle waits until all that was accepted has arrived and nothing waits any more.
func (l *ledger) settle(t *testing.T, r *relay) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		l.mu.Lock()
		missing := 0
		for id := range l.accepted {
			if l.seen[id] == 0 {
				missing++
			}
		}
		l.mu.Unlock()
		if missing == 0 {
			break
		}
	}
	r.empty(20 * time.Second)
}

// load sends messages, one connection for a few of them, until told to stop.
func (l *ledger) load(stop chan struct{}, addr string, u user, number int) {
	random := rand.New(rand.NewPCG(uint64(number), 2))
	for serial := 0; ; {
		select {
		case <-stop:
			return
		default:
		}
		w, err := dialWire(addr)
		if err == nil && w.login(u) == nil {
			for range 1 + random.IntN(20) {
				serial++
				id := fmt.Sprintf("kill-%d-%d@client.test", number, serial)
				rep, err := w.send(fromAddr, "bob@"+rcptDomain, numbered(id, random))
				if err != nil || rep.code != 250 {
					break
				}
				l.mu.Lock()
				l.accepted[id] = true
				l.mu.Unlock()
				time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
			}
		}
		if w != nil {
			w.conn.Close()
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// numbered is a message with its id and the hash of its body: most of 2 KB, some
// of 10 KB, a few of 1 MB.
func numbered(id string, random *rand.Rand) []byte {
	size := 2 << 10
	switch n := random.IntN(100); {
	case n < 2:
		size = 1 << 20
	case n < 20:
		size = 10 << 10
	}
	body := bytes.Repeat([]byte(strconv.FormatUint(random.Uint64(), 36)+" some text of this line\r\n"), size/36)
	sum := sha256.Sum256(body)
	head := fmt.Sprintf("From: <%s>\r\nSubject: %s\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s>\r\nX-Sum: %s\r\n\r\n",
		fromAddr, id, id, hex.EncodeToString(sum[:]))
	return append([]byte(head), body...)
}

// arrive notes what reaches the sink, at its final dot.
func (l *ledger) arrive(m *arrived) string {
	head, body, _ := bytes.Cut(m.content, []byte("\r\n\r\n"))
	fields := make(map[string]string)
	for scanner := bufio.NewScanner(bytes.NewReader(head)); scanner.Scan(); {
		name, value, _ := bytes.Cut(scanner.Bytes(), []byte(": "))
		fields[string(name)] = string(bytes.Trim(value, "<>"))
	}
	sum := sha256.Sum256(body)
	l.mu.Lock()
	defer l.mu.Unlock()
	id := fields["Message-ID"]
	l.seen[id]++
	l.recent[id]++
	if fields["X-Sum"] != hex.EncodeToString(sum[:]) {
		l.bad = append(l.bad, fmt.Sprintf("%s arrived with another body, %d octets", id, len(body)))
	}
	return ""
}
