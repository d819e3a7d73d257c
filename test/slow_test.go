package test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	silentSites = 150 // each with an address of its own, on which nothing is ever said
	waiting     = 4   // messages for each recipient at them
	probes      = 60  // messages to the good site, before and among the trouble
)

// clock notes when messages are accepted and when they arrive, by their subjects.
type clock struct {
	mu      sync.Mutex
	arrived map[string]time.Time
}

// arrive is called at a sink's final dot.
func (k *clock) arrive(m *arrived) string {
	now := time.Now()
	_, rest, _ := bytes.Cut(m.content, []byte("\r\nSubject: "))
	line, _, _ := bytes.Cut(rest, []byte("\r\n"))
	subject := string(line)
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, again := k.arrived[subject]; !again {
		k.arrived[subject] = now
	}
	return ""
}

// median sends messages one after the other, and returns the median of the times from
// the final dot's reply to the arrival.
func (k *clock) median(t *testing.T, c *client, to, name string) time.Duration {
	t.Helper()
	accepted := make(map[string]time.Time)
	for n := range probes {
		subject := fmt.Sprintf("%s-%d", name, n)
		start := time.Now()
		c.mail("250 2.0.0", fromAddr, to, simple(to, subject))
		accepted[subject] = start
		time.Sleep(10 * time.Millisecond) // a lone mail now and then
	}
	var took []time.Duration
	waitFor(t, 60*time.Second, "all messages "+name+" have arrived", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		took = took[:0]
		for subject, start := range accepted {
			if end, ok := k.arrived[subject]; ok {
				took = append(took, end.Sub(start))
			}
		}
		return len(took) == probes
	})
	slices.Sort(took)
	t.Logf("%s: median %v, slowest %v", name, took[probes/2].Round(time.Microsecond), took[probes-1].Round(time.Microsecond))
	return took[probes/2]
}

// A hundred and fifty sites that never say a word, one that takes half a minute for
// every reply, and one that sends every second connection away keep the relay busy with
// hundreds of recipients. Meanwhile mail to a good site takes about as long as before,
// and nothing of the others is lost.
func TestSitesThatMisbehaveSlowNoOther(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	d := startDNS(t)
	site := func(name, ip string, c sinkConfig) *sink {
		d.add(name + ". 300 IN MX 10 mx." + name + ".")
		d.add("mx." + name + ". 300 IN A " + ip)
		c.addr = ip + ":" + strconv.Itoa(port)
		return startSink(t, c)
	}
	k := &clock{arrived: make(map[string]time.Time)}
	site("good.test", "127.0.3.1", sinkConfig{onData: k.arrive})
	site("slow.test", "127.0.3.2", sinkConfig{delay: 30 * time.Second})
	flaky := site("flaky.test", "127.0.3.3", sinkConfig{greet: func(n int) string {
		if n%2 == 0 {
			return "421 4.7.0 Too many connections, try again later"
		}
		return "220 flaky.test ESMTP"
	}})
	var bad []string
	silent := make([]*sink, silentSites)
	for n := range silent {
		name := fmt.Sprintf("silent%d.test", n)
		silent[n] = site(name, fmt.Sprintf("127.0.4.%d", n+1), sinkConfig{greet: func(int) string { return "" }})
		bad = append(bad, "<bob@"+name+">")
	}
	for n := range 50 {
		bad = append(bad, fmt.Sprintf("<user%d@slow.test>", n), fmt.Sprintf("<user%d@flaky.test>", n))
	}
	r := startRelay(t, relayConfig{dns: d, deliveryPort: port})
	c := dialAs(t, r.smtp, r.setUp())
	before := k.median(t, c, "bob@good.test", "alone")

	for n := range waiting {
		c.submit("<"+fromAddr+">", bad, simple("all@bad.test", fmt.Sprintf("bad-%d", n)))
	}
	waitFor(t, 30*time.Second, "the relay talks to many sites that don't answer", func() bool {
		busy := 0
		for _, s := range silent {
			busy += min(s.open(), 1)
		}
		return busy >= silentSites/10
	})
	among := k.median(t, c, "bob@good.test", "among the trouble")
	if limit := 10*before + 250*time.Millisecond; among > limit {
		t.Errorf("to a good site mail takes %v among sites that misbehave, %v without them", among, before)
	}
	waitFor(t, 30*time.Second, "the site that sends connections away gets mail by others", func() bool { return len(flaky.received()) > 0 })
	states := make(map[string]int)
	var all []recipientView
	r.query(&all, "queue", "ls", "--state", "all", "--limit", "10000")
	for _, recipient := range all {
		states[recipient.State]++
	}
	if want := 2*probes + waiting*len(bad); len(all) != want || states["failed"]+states["expired"] > 0 {
		t.Errorf("recipients by state: %v; want %d in all, none failed", states, want)
	}
	t.Logf("recipients by state: %v", states)
}
