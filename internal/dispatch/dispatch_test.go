package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db/dbtest"
	"mittente/internal/dkim"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

type counts = map[queue.State]int

func many(n int, domain string) (addresses []string) {
	for i := range n {
		addresses = append(addresses, fmt.Sprintf("r%d@%s", i, domain))
	}
	return addresses
}

// Between acceptance and the first attempt lies no time but that of the work.
func TestFreshGoesAtOnce(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		start := time.Now()
		items := h.to("a@one.test", "b@two.test")
		synctest.Wait()
		if got := h.courier.done(); len(got) != 2 || !got[0].at.Equal(start) || !got[1].at.Equal(start) {
			t.Errorf("attempts %+v", got)
		}
		if got := h.courier.done()[0].content; got != content {
			t.Errorf("content %q", got)
		}
		h.wantStates(counts{queue.Delivered: 2})
		if got := h.memory(); got != (inMemory{}) {
			t.Errorf("left in memory: %+v", got)
		}
		lines := h.logged.lines(`"msg":"recipient settled"`)
		first := h.logged.lines(items[0].Message.ID.String(), items[0].Recipient.ID.String(), `"to":"a@one.test"`,
			`"state":"delivered"`, `"status":"2.0.0"`, `"remote":"mx.test"`, `"attempts":1`, `"duration":`)
		if len(lines) != 2 || len(first) != 1 {
			t.Errorf("logged %q", lines)
		}
	})
}

// Recipients of one message at one site share transactions of at most 100, also
// those of several domains.
func TestRecipientsShareTransactions(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.courier.plan = func(d mail.Domain) (string, *mail.Outcome) {
			return strings.TrimPrefix(string(d), "b."), nil
		}
		h.accept(letterTo{to: append(many(150, "shared.test"), append(many(100, "b.shared.test"), "x@other.test")...)})
		synctest.Wait()
		var sizes []int
		for _, a := range h.courier.done("shared.test") {
			sizes = append(sizes, len(a.to))
		}
		slices.Sort(sizes)
		if !slices.Equal(sizes, []int{50, 100, 100}) {
			t.Errorf("transactions of %v", sizes)
		}
		if got := h.courier.done("other.test"); len(got) != 1 {
			t.Errorf("%d attempts at the other site", len(got))
		}
		h.wantStates(counts{queue.Delivered: 251})
	})
}

// One slow site with a thousand mails waiting holds up nobody else's.
func TestSlowSiteStarvesNobody(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.courier.deliver = func(_ context.Context, site, _ string) mail.Outcome {
			if site == "slow.test" {
				time.Sleep(30 * time.Second)
			}
			return delivered()
		}
		h.to(many(1000, "slow.test")...)
		time.Sleep(10 * time.Second)
		start := time.Now()
		h.to("lone@quick.test")
		synctest.Wait()
		if got := h.courier.done("quick.test"); len(got) != 1 || !got[0].at.Equal(start) {
			t.Errorf("the lone mail: %+v", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1001})
		if n := h.courier.atOnce("slow.test"); n != 20 {
			t.Errorf("%d deliveries at once at the slow site", n)
		}
	})
}

// No more run at once than the bounds say, over all sites and at each.
func TestDeliveriesAreBounded(t *testing.T) {
	t.Parallel()
	in(t, Config{Deliveries: 7, PerSite: 3, Planners: 2}, func(h *house) {
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(time.Second)
			return delivered()
		}
		for i := range 5 {
			h.to(many(10, fmt.Sprintf("d%d.test", i))...)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 50})
		for i := range 5 {
			if most := h.courier.atOnce(fmt.Sprintf("d%d.test", i)); most > 3 {
				t.Errorf("%d deliveries at once at site %d", most, i)
			}
		}
		if most := h.courier.atOnce(""); most != 7 {
			t.Errorf("%d deliveries at once", most)
		}
	})
}

// Of one account's mail at one site the higher priority goes first, then the older.
func TestOrderWithinASite(t *testing.T) {
	t.Parallel()
	in(t, Config{PerSite: 1}, func(h *house) {
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(time.Second)
			return delivered()
		}
		account := id.New[id.Account]()
		for i, p := range []mail.Priority{3, 5, 3, 1, 4, 1} {
			h.accept(letterTo{to: []string{fmt.Sprintf("r%d@one.test", i)}, account: account, priority: p})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		var order []string
		for _, a := range h.courier.done() {
			order = append(order, a.to[0][:2])
		}
		if got := strings.Join(order, " "); got != "r0 r3 r5 r2 r4 r1" {
			t.Errorf("order %s", got)
		}
	})
}

// A deferral arms the clock itself: the next attempt comes when it is due, for
// three days, and then the recipient expires.
func TestRetries(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.courier.deliver = func(context.Context, string, string) mail.Outcome { return deferred() }
		start := time.Now()
		item := h.to("a@one.test")[0]
		synctest.Wait()
		for _, minutes := range []int{0, 1, 6, 21, 51, 111, 231, 471, 711} {
			after := time.Duration(minutes) * time.Minute
			time.Sleep(time.Until(start.Add(after + claimApart)))
			synctest.Wait()
			got := h.courier.done()
			if last := got[len(got)-1].at.Sub(start); last < after || last > after+claimApart {
				t.Fatalf("attempt %d after %v, want %v", len(got), last, after)
			}
		}
		time.Sleep(4 * 24 * time.Hour)
		synctest.Wait()
		h.wantStates(counts{queue.Expired: 1})
		if r := h.recipient(item); r.SettledAt.Sub(start) != 72*time.Hour {
			t.Errorf("expired after %v", r.SettledAt.Sub(start))
		}
	})
}

// A second attempt has the same octets as the first, read back.
func TestRetryDeliversFromTheSpool(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		tries := 0
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			if tries++; tries == 1 {
				return deferred()
			}
			return delivered()
		}
		item := h.to("a@one.test")[0]
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1})
		if got := h.courier.done(); len(got) != 2 || got[1].content != content {
			t.Errorf("attempts %+v", got)
		}
		if r := h.recipient(item); r.Attempts != 2 || r.Last != delivered() {
			t.Errorf("recipient %+v", r)
		}
	})
}

// Recipients that shared a transaction go their own ways by their outcomes.
func TestRecipientsAreSettledSeverally(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.courier.deliver = func(_ context.Context, _, to string) mail.Outcome {
			switch to[0] {
			case 'd':
				return deferred()
			case 'f':
				return refused()
			}
			return delivered()
		}
		h.accept(letterTo{to: []string{"a@one.test", "d@one.test", "f@one.test"}})
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1, queue.Pending: 1, queue.Failed: 1})
	})
}

// What waits in the database when the dispatcher starts is taken at once, what
// another process puts there by Wake.
func TestClaimsWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		h.queue.Direct(false)
		h.to(many(1200, "one.test")...)
		stop := h.run()
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1200})
		h.queue.OnDue(func() {}) // another process has a queue of its own
		for _, item := range h.accept(letterTo{to: []string{"x@one.test"}, keep: true}) {
			if item.Recipient.State != queue.Pending {
				t.Fatal("the item is leased")
			}
		}
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1200, queue.Pending: 1})
		h.Wake()
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1201})
		stop()
		h.must(h.deps.DB.Close())
	})
}

// Leases of an earlier start come back in the background and are delivered then.
func TestReclaimedLeasesAreDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		for _, a := range many(30, "one.test") {
			h.accept(letterTo{to: []string{a}, keep: true})
		}
		h.must(h.queue.Start(t.Context(), "here"))
		stop := h.run()
		synctest.Wait()
		h.wantStates(counts{queue.Leased: 30})
		_, err := h.queue.Reclaim(t.Context())
		h.must(err)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 30})
		stop()
		h.must(h.deps.DB.Close())
	})
}

// What was leased by a generation that is over is not attempted: others have it.
func TestLostLeasesAreNotAttempted(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		items := h.accept(letterTo{to: []string{"a@one.test", "b@one.test"}, keep: true})
		h.must(h.queue.Start(t.Context(), "here"))
		h.Fresh(items)
		synctest.Wait()
		if got := h.courier.done(); len(got) != 0 {
			t.Errorf("attempts %+v", got)
		}
		if got := h.memory(); got.recipients != 0 {
			t.Errorf("left in memory: %+v", got)
		}
		h.wantStates(counts{queue.Leased: 2})
	})
}

// A lease that is lost during the attempt can't be settled; it is logged, and no more.
func TestLeaseLostDuringTheAttempt(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.courier.deliver = func(context.Context, string, string) mail.Outcome {
			time.Sleep(time.Minute)
			return delivered()
		}
		h.to("a@one.test")
		time.Sleep(time.Second)
		h.must(h.queue.Start(t.Context(), "here"))
		_, err := h.queue.Reclaim(t.Context())
		h.must(err)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1}) // by the new generation
		if got := h.logged.lines("outcome came too late"); len(got) != 1 {
			t.Errorf("logged %q", got)
		}
	})
}

// A message is signed once, whoever its recipients are; one without a signing domain is not.
func TestSigning(t *testing.T) {
	t.Parallel()
	key, err := dkim.NewEd25519("example.com", "m1")
	if err != nil {
		t.Fatal(err)
	}
	in(t, Config{}, func(h *house) {
		h.signers.key = key
		h.accept(letterTo{to: []string{"a@one.test", "b@two.test", "c@three.test"}, domain: "example.com"})
		h.accept(letterTo{to: []string{"d@one.test"}, domain: "example.com", unread: true})
		h.accept(letterTo{to: []string{"e@one.test"}})
		synctest.Wait()
		for _, a := range h.courier.done() {
			signed := strings.HasPrefix(a.content, "DKIM-Signature:")
			if signed == (a.to[0] == "e@one.test") || !strings.HasSuffix(a.content, content) {
				t.Errorf("to %s: %q", a.to, a.content)
			}
		}
		if n := h.signers.asked.Load(); n != 2 {
			t.Errorf("keys were asked for %d times for 2 messages", n)
		}
		h.wantStates(counts{queue.Delivered: 5})
	})
}

// Mail that has to be signed and can't be waits: it is our fault.
func TestNoKeyNoMail(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*signers{
		"no key":  {without: "example.com"},
		"trouble": {err: dbtest.ErrDisk},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, Config{}, func(h *house) {
				h.signers.without, h.signers.err = s.without, s.err
				item := h.accept(letterTo{to: []string{"a@one.test"}, domain: "example.com"})[0]
				h.to("b@one.test")
				synctest.Wait()
				r := h.recipient(item)
				if r.State != queue.Pending || r.Last.Scope != mail.ScopeSite || r.Last.Status.String() != "4.3.0" {
					t.Errorf("recipient %+v", r)
				}
				if got := h.courier.done(); len(got) != 1 || got[0].to[0] != "b@one.test" {
					t.Errorf("attempts %+v: our fault is not the site's", got)
				}
				if got := h.logged.lines("our own fault", "signature"); len(got) != 1 {
					t.Errorf("logged %q", got)
				}
			})
		})
	}
}

// Content that can't be read is our fault, too, and not the site's.
func TestContentThatCannotBeRead(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		items := h.accept(letterTo{to: []string{"a@one.test"}, keep: true})
		gone := *items[0].Message
		gone.Content[0]++
		items[0].Message, items[0].Bytes = &gone, nil
		h.Fresh(items)
		h.to("b@one.test")
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1, queue.Pending: 1})
		if got := h.logged.lines("our own fault", "content"); len(got) != 1 {
			t.Errorf("logged %q", got)
		}
	})
}

// Where there is no way, the outcome of planning is that of the recipients, and each domain is asked about once.
func TestPlanOutcomes(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		noDomain := mail.Outcome{Action: mail.Failed, Scope: mail.ScopeRecipient, Status: mail.Status{Class: 5, Subject: 1, Detail: 2}}
		noAnswer := mail.Outcome{Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 3}}
		h.courier.plan = func(d mail.Domain) (string, *mail.Outcome) {
			time.Sleep(time.Second)
			switch d {
			case "none.test":
				return "", &noDomain
			case "silent.test":
				return "", &noAnswer
			}
			return string(d), nil
		}
		h.to(many(150, "none.test")...)
		h.to(many(3, "silent.test")...)
		h.to("a@one.test")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		h.wantStates(counts{queue.Failed: 150, queue.Pending: 3, queue.Delivered: 1})
		if got := h.courier.plans(); got != 3 {
			t.Errorf("planned %d times for 3 domains", got)
		}
		if got := h.courier.done(); len(got) != 1 {
			t.Errorf("attempts %+v", got)
		}
		// What is known is used for a while, and then asked again.
		h.to("b@one.test")
		synctest.Wait()
		time.Sleep(planFor)
		h.to("c@one.test")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := h.courier.plans(); got != 4 {
			t.Errorf("planned %d times", got)
		}
	})
}

// Slow DNS for some domains holds up the planners they need, and no others.
func TestPlannersAreBounded(t *testing.T) {
	t.Parallel()
	in(t, Config{Planners: 3}, func(h *house) {
		h.courier.plan = func(d mail.Domain) (string, *mail.Outcome) {
			time.Sleep(10 * time.Second)
			return string(d), nil
		}
		for i := range 9 {
			h.to(fmt.Sprintf("a@d%d.test", i))
		}
		for i := range 3 {
			time.Sleep(time.Second)
			synctest.Wait()
			if got := h.courier.plans(); got != 3*(i+1) {
				t.Errorf("%d planned in round %d", got, i)
			}
			time.Sleep(9 * time.Second)
		}
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 9})
		if got := h.memory(); got.planners != 0 {
			t.Errorf("%d planners left", got.planners)
		}
	})
}
