package account

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
)

// try authenticates from a client.
func (h *house) try(t *testing.T, name, password, client string) *AuthError {
	t.Helper()
	_, err := h.Authenticate(t.Context(), AuthAttempt{Name: name, Password: password, TLS: true, Client: netip.MustParseAddr(client)})
	var refused *AuthError
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return refused
}

// wrong is a wrong password, another for each n.
func wrong(n int) string { return fmt.Sprintf("%0*d", passwordLength, n) }

// guess lets a client guess at names until it has to wait; it returns how often it could.
func (h *house) guess(t *testing.T, client string, name func(int) string) int {
	t.Helper()
	for n := range 100 {
		switch r := h.try(t, name(n), wrong(n), client); {
		case r.Reason == TooMany:
			return n
		case r.Reason != BadCredentials:
			t.Fatalf("attempt %d: %v", n, r)
		}
	}
	t.Fatal("it never has to wait")
	return 0
}

func only(name string) func(int) string { return func(int) string { return name } }

// Guessing from one address keeps the right password out nowhere else, and there
// it recovers by itself.
func TestBruteForceLocksOutNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		u, password := h.add(t, NewUser{Active: true})
		if n := h.guess(t, "203.0.113.9", only(u.Name)); n != freeOfName+1 {
			t.Errorf("%d guesses at one name", n)
		}
		for _, client := range []string{"203.0.113.10", "2001:db8::1", "127.0.0.1"} {
			if r := h.try(t, u.Name, password, client); r != nil {
				t.Errorf("the right password from %s: %v", client, r)
			}
		}
		r := h.try(t, u.Name, password, "203.0.113.9")
		if r == nil || r.Reason != TooMany || r.Wait <= 0 || r.Wait > firstWait {
			t.Fatalf("from the guesser's address: %+v", r)
		}
		if !r.User.IsZero() {
			t.Error("the refusal tells that there is such a user")
		}
		time.Sleep(r.Wait)
		if r := h.try(t, u.Name, password, "203.0.113.9"); r != nil {
			t.Errorf("after the wait: %v", r)
		}
	})
}

// Each further guess costs twice the wait, up to a bound; with time it is forgotten.
func TestWaitsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		const client = "198.51.100.7"
		n := h.guess(t, client, func(n int) string { return fmt.Sprintf("s1_%d", n) })
		if n != freeGuesses+1 {
			t.Errorf("%d guesses at many names", n)
		}
		var waits []time.Duration
		for range 12 {
			r := h.try(t, "s9_9", wrong(n), client)
			waits = append(waits, r.Wait)
			time.Sleep(r.Wait)
			n++
			if r = h.try(t, fmt.Sprintf("s2_%d", n), wrong(n), client); r.Reason != BadCredentials {
				t.Fatalf("after the wait: %v", r)
			}
		}
		if !slices.IsSorted(waits[:8]) || waits[0] > firstWait || waits[0] < firstWait-2*refusalTime || waits[1] < 2*firstWait-2*refusalTime || slices.Max(waits) > longestWait {
			t.Errorf("waits %v", waits)
		}
		time.Sleep(2 * time.Hour)
		if got := h.guess(t, client, func(n int) string { return fmt.Sprintf("s3_%d", n) }); got != freeGuesses+1 {
			t.Errorf("after two hours: %d guesses", got)
		}
	})
}

// A program that shows the same wrong password for ever does not guess.
func TestSamePasswordOverAndOverIsOneFailure(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{Active: true})
	for n := range 3 * freeGuesses {
		r := h.try(t, u.Name, wrong(0), "203.0.113.9")
		if r.Reason != BadCredentials || r.Repeated != (n > 0) {
			t.Fatalf("attempt %d: %+v", n, r)
		}
	}
	// Its mistakes keep nobody out who shares the address.
	other, password := h.add(t, NewUser{Active: true})
	if r := h.try(t, other.Name, password, "203.0.113.9"); r != nil {
		t.Error(r)
	}
}

// SCRAM and then PLAIN with the same password, as many clients do after a 535,
// is one failure; so is the other order.
func TestOtherMechanismIsOneFailure(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{Active: true})
	scram := func() *AuthError {
		_, err := h.scram(t, u.Name, wrong(1))
		refused, _ := errors.AsType[*AuthError](err)
		return refused
	}
	plain := func() *AuthError { return h.try(t, u.Name, wrong(1), here.String()) }
	for name, order := range map[string][]func() *AuthError{"SCRAM first": {scram, plain, plain}, "PLAIN first": {plain, scram, plain}} {
		h.forgive()
		for i, do := range order {
			if r := do(); r == nil || r.Reason != BadCredentials || r.Repeated != (i > 0) {
				t.Errorf("%s, %d: %+v", name, i, r)
			}
		}
		if c := h.guard.clients[network(here)]; c.failures != 1 {
			t.Errorf("%s: %d failures", name, c.failures)
		}
	}
}

// Behind a shared address, names that were let in from there lately go on.
func TestNeighboursOfAGuesserGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		u, password := h.add(t, NewUser{Active: true})
		stranger, strangers := h.add(t, NewUser{Active: true})
		const client = "192.0.2.1"
		if r := h.try(t, u.Name, password, client); r != nil {
			t.Fatal(r)
		}
		h.guess(t, client, func(n int) string { return fmt.Sprintf("s1_1%d", n) })
		if r := h.try(t, u.Name, password, client); r != nil {
			t.Errorf("a known neighbour: %v", r)
		}
		if r := h.try(t, stranger.Name, strangers, client); r == nil || r.Reason != TooMany {
			t.Errorf("a name never seen from there: %v", r)
		}
		if n := h.guess(t, client, only(u.Name)); n != freeOfName+1 {
			t.Errorf("the neighbour's own name can be guessed at %d times", n)
		}
	})
}

// An address that crosses the limit is reported once an hour.
func TestCrossingIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		crossed, start := 0, time.Now()
		for n := range 200 {
			r := h.try(t, fmt.Sprintf("s1_%d", n), wrong(n), "2001:db8:1:2::"+fmt.Sprint(n%10+1)) // one /64
			if r.Crossed {
				crossed++
			}
			time.Sleep(r.Wait)
		}
		if most := int(time.Since(start)/quietFor) + 1; crossed == 0 || crossed > most {
			t.Errorf("said %d times in %s", crossed, time.Since(start))
		}
	})
}

// What is remembered is bounded, whoever calls.
func TestGuardIsBounded(t *testing.T) {
	h := open(t)
	for n := range maxPairs + 500 {
		client := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		h.guard.failed(guessed{client, fmt.Sprint("s1_", n)}, uint64(n), shown)
		if n < 100 { // and long names, and many passwords of one
			h.guard.failed(guessed{here, shortName(strings.Repeat("x", 1<<16) + fmt.Sprint(n))}, uint64(n), shown)
		}
	}
	if len(h.guard.pairs) > maxPairs || len(h.guard.clients) > maxClients {
		t.Errorf("%d names, %d clients", len(h.guard.pairs), len(h.guard.clients))
	}
	if p := h.guard.pairs[pair{network(here), strings.Repeat("x", 64)}]; p != nil && len(p.marks) > remembered {
		t.Errorf("%d passwords of one name", len(p.marks))
	}
}

// The same refusal in the same time for a name that is there and one that is not
// (over 1,000 tries), by PLAIN and LOGIN, which are one here, and by SCRAM.
func TestUnknownUserTakesTheSameTime(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{Active: true})
	h.do(t, func(tx *db.Tx) error { _, err := h.SetPassword(tx, u.Name, time.Hour); return err }) // two passwords
	for name, try := range map[string]func(name string, client netip.Addr) error{
		"PLAIN": func(name string, client netip.Addr) error {
			_, err := h.Authenticate(t.Context(), AuthAttempt{Name: name, Password: wrong(1), TLS: true, Client: client})
			return err
		},
		"SCRAM": func(name string, client netip.Addr) error {
			x := h.Exchange(ScramAttempt{Client: client})
			answer, _, err := x.Step(t.Context(), "n,,n="+name+",r=x")
			if err != nil {
				return err
			}
			nonce, _, _ := strings.Cut(answer, ",")
			_, _, err = x.Step(t.Context(), "c=biws,"+nonce+",p="+strings.Repeat("A", 43)+"=")
			return err
		},
	} {
		var there, not time.Duration
		for range 3 { // what one round shows may be the machine's, what all show is ours
			there, not = h.compare(t, [2]string{u.Name, "s1_99"}, try)
			t.Logf("%s: %v for a user, %v for none", name, there, not)
			if alike(there, not) {
				break
			}
		}
		if !alike(there, not) {
			t.Errorf("%s: %v for a user, %v for none", name, there, not)
		}
	}
}

func alike(a, b time.Duration) bool { return (a - b).Abs() <= max(a, b)/5 }

// compare returns the medians of what refusals of two names take, 1,000 tries in all.
func (h *house) compare(t *testing.T, names [2]string, try func(name string, client netip.Addr) error) (first, second time.Duration) {
	t.Helper()
	h.forgive()
	var took [2][]time.Duration
	for n := range 500 {
		for i := range names {
			i := (i + n) % 2 // who comes first alternates, and so does any drift
			client := netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), byte(i)})
			start := time.Now()
			err := try(names[i], client)
			took[i] = append(took[i], time.Since(start))
			if refused, ok := errors.AsType[*AuthError](err); !ok || refused.Reason != BadCredentials || !refused.User.IsZero() {
				t.Fatalf("%s: %v", names[i], err)
			}
		}
	}
	return median(took[0]), median(took[1])
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
