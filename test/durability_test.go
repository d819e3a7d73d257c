package test

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// The states of docs/durability.md, each by a process that is killed in it.

const (
	countMessages = "SELECT COUNT(*) FROM message"
	countContents = "SELECT COUNT(*) FROM content"
	countChunks   = "SELECT COUNT(*) FROM content_chunk"
	countOrphans  = "SELECT COUNT(*) FROM content_chunk WHERE content_id NOT IN (SELECT id FROM content)"
	countAhead    = "SELECT COUNT(*) FROM content_ahead"
)

// beginData opens a transaction up to where content follows.
func (c *client) beginData() {
	c.t.Helper()
	c.want("250", "MAIL FROM:<"+fromAddr+">")
	c.want("250", "RCPT TO:<bob@"+rcptDomain+">")
	c.want("354", "DATA")
}

func wantRows(t *testing.T, db *sql.DB, query string, want int) {
	t.Helper()
	if n := count(t, db, query); n != want {
		t.Errorf("%s: %d; want %d", query, n, want)
	}
}

// S0: a message that was not received to its final dot leaves nothing behind.
func TestS0_KilledWhileReceivingSmallContent(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	u := r.setUp()
	c := dialAs(t, r.smtp, u)
	c.beginData()
	message := simple("bob@"+rcptDomain, "half")
	if err := c.write(message[:len(message)-5]); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // let it arrive
	r.kill()
	left := r.snapshot()
	for _, query := range []string{countMessages, countContents, countChunks, countAhead} {
		wantRows(t, left, query, 0)
	}
	r.start()
	dialAs(t, r.smtp, u).mail("250", fromAddr, "bob@"+rcptDomain, simple("bob@"+rcptDomain, "whole"))
	if got := s.wait(t, 1); len(got) != 1 || !bytes.Contains(got[0].content, []byte("Subject: whole")) {
		t.Errorf("the sink has %d messages, the first:\n%s", len(got), got[0].content)
	}
}

// S0: content above 256 KiB is written ahead; nothing refers to it, and the next
// start sweeps it.
func TestS0_KilledWhileWritingAhead(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	c := dialAs(t, r.smtp, r.setUp())
	c.beginData()
	message := append(header("bob@"+rcptDomain, "ahead"), "\r\n"...)
	if err := c.write(unfinished(append(message, awkward(2<<20, 3)...))); err != nil {
		t.Fatal(err)
	}
	live := open(t, filepath.Join(r.data, "mittente.db"))
	waitFor(t, 10*time.Second, "1 MiB is written ahead", func() bool { return count(t, live, countChunks) >= 4 })
	live.Close()
	r.kill()
	left := r.snapshot()
	wantRows(t, left, countMessages, 0)
	wantRows(t, left, countContents, 0)
	if n := count(t, left, countOrphans); n < 4 {
		t.Errorf("%d chunks were left behind; want those written ahead", n)
	}
	r.start()
	live = open(t, filepath.Join(r.data, "mittente.db"))
	waitFor(t, 10*time.Second, "what was written ahead is swept", func() bool {
		return count(t, live, countChunks)+count(t, live, countAhead) == 0
	})
	if n := len(s.received()); n != 0 {
		t.Errorf("the sink has %d messages; want none", n)
	}
}

// S1: what is queued and not leased is still due after a crash, and is delivered then.
func TestS1_KilledWhileQueued(t *testing.T) {
	t.Parallel()
	var attempts atomic.Int32
	s, r := sinkRelay(t, sinkConfig{onRcpt: func(string) string {
		if attempts.Add(1) == 1 {
			return "451 4.7.1 Not yet"
		}
		return ""
	}})
	message := queuedID(t, dialAs(t, r.smtp, r.setUp()).mail("250", fromAddr, "bob@"+rcptDomain, simple("bob@"+rcptDomain, "queued")))
	before := r.state(message, "pending")
	r.kill()
	r.start()
	if after := r.state(message, "pending"); after != before {
		t.Errorf("after the crash %+v; before it %+v", after, before)
	}
	r.kill()
	// A minute passes, as far as the database can tell.
	if _, err := open(t, filepath.Join(r.data, "mittente.db")).Exec("UPDATE recipient SET due = due - 120000000"); err != nil {
		t.Fatal(err)
	}
	r.start()
	s.wait(t, 1)
	if got := r.state(message, "delivered"); got.Attempts != 2 {
		t.Errorf("%+v; want 2 attempts", got)
	}
}

// S2: a lease dies with its process. Killed between the next hop's final dot and
// its reply, the relay delivers again: this is the one case that repeats a message.
func TestS2_KilledWhileLeased(t *testing.T) {
	t.Parallel()
	dotSeen, hold := make(chan struct{}, 2), make(chan struct{})
	var attempts atomic.Int32
	s, r := sinkRelay(t, sinkConfig{onData: func(*arrived) string {
		dotSeen <- struct{}{}
		if attempts.Add(1) == 1 {
			<-hold
		}
		return ""
	}})
	t.Cleanup(func() { close(hold) })
	message := queuedID(t, dialAs(t, r.smtp, r.setUp()).mail("250", fromAddr, "bob@"+rcptDomain, simple("bob@"+rcptDomain, "leased")))
	<-dotSeen
	r.state(message, "leased")
	r.kill()
	if states := column(t, r.snapshot(), "SELECT state FROM recipient"); len(states) != 1 || states[0] != "leased" {
		t.Errorf("the crash left the recipient %v; want leased", states)
	}
	r.start()
	<-dotSeen
	r.state(message, "delivered")
	s.wait(t, 1)
}

// S3: what is settled stays settled, and its content can be read while it is kept.
func TestS3_KilledWhenSettled(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{})
	body := awkward(300<<10, 5)
	content := bytes.Join([][]byte{header("bob@"+rcptDomain, "settled"), body}, []byte("\r\n"))
	message := queuedID(t, dialAs(t, r.smtp, r.setUp()).mail("250", fromAddr, "bob@"+rcptDomain, content))
	delivered := r.state(message, "delivered")
	r.kill()
	r.start()
	if after := r.state(message, "delivered"); after != delivered {
		t.Errorf("after the crash %+v; before it %+v", after, delivered)
	}
	raw := []byte(r.run("message", "raw", message))
	intact(t, raw, header("bob@"+rcptDomain, "settled"), body)
	// Another message, taken and delivered after the restart, comes behind anything
	// that would be delivered twice.
	again := dialAs(t, r.smtp, r.addUser("--domain", fromDomain, "--active", "--require-tls=false"))
	r.state(queuedID(t, again.mail("250", fromAddr, "bob@"+rcptDomain, simple("bob@"+rcptDomain, "next"))), "delivered")
	if n := len(s.received()); n != 2 {
		t.Errorf("the sink has %d messages; want 2, each once", n)
	}
}
