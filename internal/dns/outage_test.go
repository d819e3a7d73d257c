package dns

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// TestAnHourWithoutDNS: what is known lasts as long as its TTL, what is not known
// fails for now and never for good, the questions put in vain are few, and the
// first one after the outage is answered.
func TestAnHourWithoutDNS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var asked atomic.Int32
		answers := reply(t, 0, "a. 1800 IN TXT x")
		r := resolver(t, network{first: func(network string, q *mdns.Msg) [][]byte {
			asked.Add(1)
			if down.Load() {
				return nil
			}
			return answers(network, q)
		}}, first)
		if _, err := r.TXT(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		down.Store(true)
		asked.Store(0)
		known, looks := 0, 0
		for time.Since(began) < time.Hour {
			// A relay with much to do asks all the time.
			switch got, err := r.TXT(t.Context(), "a"); {
			case err == nil && got.Records[0] == "x":
				known++
			case !errors.Is(err, ErrTemporary) || errors.Is(err, ErrNotFound):
				t.Fatal(got, err)
			}
			looks++
			time.Sleep(500 * time.Millisecond)
		}
		if known < 3599 || known > 3601 {
			t.Errorf("known for %d of %d looks", known, looks)
		}
		// Two rounds of 2 s, then 5 s of peace: 200 look-ups in half an hour.
		if n := asked.Load(); n < 300 || n > 450 {
			t.Errorf("%d questions put in vain", n)
		}
		down.Store(false)
		time.Sleep(failureTTL)
		if got, err := r.TXT(t.Context(), "a"); err != nil || got.Records[0] != "x" {
			t.Error("after the outage:", got, err)
		}
	})
}
