package dispatch

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/delivery"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/ready"
	"mittente/internal/throttle"
)

// twoParts delivers to the first recipient in one transaction; before the second
// one the content is gone.
type twoParts struct {
	*courier
	message *queue.Message
}

func (c *twoParts) Deliver(_ context.Context, _ delivery.Plan, job delivery.Job) []mail.Outcome {
	if _, err := read(job.Content); err != nil {
		panic(err)
	}
	c.message.Content[0]++
	defer func() { c.message.Content[0]-- }()
	_, err := read(job.Content)
	unread := deferred()
	unread.Scope, unread.Diagnostic = mail.ScopeMessage, fmt.Sprint(err)
	return []mail.Outcome{delivered(), unread, refused()}
}

// Content that can't be read again takes nothing back: those who have the
// message do not get it a second time.
func TestContentGoneBetweenTransactions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		items := h.accept(letterTo{to: []string{"a@one.test", "b@one.test", "c@one.test"}, unread: true, keep: true})
		h.deps.Courier = &twoParts{h.courier, items[0].Message}
		stop := h.run()
		h.Fresh(items)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 1, queue.Pending: 1, queue.Failed: 1})
		if r := h.recipient(items[0]); r.State != queue.Delivered {
			t.Errorf("the first is %s", r.State)
		}
		if got := h.logged.lines("our own fault", "content"); len(got) != 1 {
			t.Errorf("logged %q", got)
		}
		stop()
		h.must(h.deps.DB.Close())
	})
}

// Those that wait for a dead site are told nothing that was said of another's
// mail, keep their attempts, and are delivered soon after it is back.
func TestWaitingForADeadSite(t *testing.T) {
	t.Parallel()
	in(t, Config{PerSite: 1}, func(h *house) {
		var up atomic.Bool
		h.courier.set(func(context.Context, string, string) mail.Outcome {
			if up.Load() {
				return delivered()
			}
			time.Sleep(time.Second)
			o := unreachable()
			o.Code, o.Status, o.Diagnostic = 421, mail.Status{Class: 4, Subject: 7}, "a.example sends too much"
			return o
		})
		items := h.to(many(20, "one.test")...)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		least := 0
		for _, item := range items {
			r := h.recipient(item)
			if r.Attempts == 0 && (strings.Contains(r.Last.Reply(), "a.example") || r.Last.Code != 0) {
				t.Fatalf("knows too much: %+v", r.Last)
			}
			if r.Attempts <= 2 {
				least++
			}
		}
		if least == 0 {
			t.Error("all have been attempted again and again")
		}
		up.Store(true)
		time.Sleep(5*time.Minute + spreadMax)
		synctest.Wait()
		if got := h.states(); got[queue.Delivered] < 10 {
			t.Errorf("%v half an hour after the site is back", got)
		}
	})
}

// What a trouble lets others know.
func TestInGeneral(t *testing.T) {
	t.Parallel()
	const plain = "4.4.1 the destination is not answering; waiting with the others"
	for _, c := range []struct {
		trouble mail.Outcome
		want    string
	}{
		{unreachable(), plain + ": connection refused"},
		{mail.Outcome{Status: mail.Status{Class: 4, Subject: 7, Detail: 5}, Diagnostic: "TLS: EOF"}, strings.Replace(plain, "4.4.1", "4.7.5", 1) + ": TLS: EOF"},
		{mail.Outcome{Code: 421, Status: mail.Status{Class: 4, Subject: 4, Detail: 5}, Diagnostic: "a.example"}, plain},
		{mail.Outcome{Code: 450, Status: mail.Status{Class: 4, Subject: 7, Detail: 1}, Diagnostic: "a.example"}, plain},
		{mail.Outcome{Status: mail.Status{Class: 4, Subject: 5}, Diagnostic: "MAIL: not an SMTP reply: a.example"}, plain},
	} {
		if got := inGeneral(c.trouble).Reply(); got != c.want {
			t.Errorf("%+v: %s", c.trouble, got)
		}
	}
}

// deadSite is one that is dead since a time, and has just failed.
func deadSite(since, now time.Time) *site {
	s := &site{Site: ready.NewSite[*entry](throttle.NewSite(throttle.Limit{Connections: 20}, nil, since))}
	for _, at := range []time.Time{since, now} {
		s.Begin(at)
		s.End(at, at, throttle.Away, 0)
	}
	return s
}

// What has no place at a site that moves comes back as the site takes it, and
// never further ahead than some hours.
func TestQueueUp(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := &site{Site: ready.NewSite[*entry](throttle.NewSite(throttle.Limit{Connections: 20}, nil, now))}
	q := ready.New[*entry](100)
	for range 100 { // ten a second
		q.Push(s.Site, ready.Mail{Message: id.New[id.Message]()}, &entry{})
		q.End(q.Next(now), now, throttle.Good, 0)
	}
	reports := s.postpone(make([]*entry, 600), now)
	first, last := reports[0].due.Sub(now), reports[599].due.Sub(now)
	if first != waitAside || last < waitAside+50*time.Second || last > waitAside+70*time.Second {
		t.Errorf("they come after %v to %v", first, last)
	}
	for range 40 {
		reports = s.postpone(make([]*entry, 10_000), now)
	}
	if last := reports[len(reports)-1].due.Sub(now); last > maxHorizon+time.Hour {
		t.Errorf("the last comes after %v", last)
	}
}

// The first to wait probes; the others come after it, further apart the more
// they are and the longer it takes.
func TestPostponeSpreads(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		outage, window time.Duration
		n              int
	}{
		{0, 5 * time.Second, 500},
		{time.Hour, 450 * time.Second, 500},
		{48 * time.Hour, spreadMax, 500},
		{0, spreadMax, 1_000_000},
	} {
		s := deadSite(now.Add(-c.outage), now)
		_, until := s.Since(now)
		var last time.Duration
		for i, r := range s.postpone(make([]*entry, c.n), now) {
			after := r.due.Sub(until)
			if after < 0 || i == 0 && after != 0 {
				t.Fatalf("the %d. comes %v after the probe", i, after)
			}
			last = max(last, after)
		}
		if last > c.window || last < c.window*3/4 {
			t.Errorf("%d, dead for %v: spread over %v, want about %v", c.n, c.outage, last, c.window)
		}
	}
}

// poison has the database refuse some outcomes.
func (h *house) poison(condition string) {
	h.t.Helper()
	h.must(h.deps.DB.Batch(h.t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(db.SQL("CREATE TRIGGER poison BEFORE UPDATE ON recipient WHEN " + condition +
			" BEGIN SELECT RAISE(ABORT, 'poison'); END"))
		return err
	}))
}

func (h *house) cure() {
	h.t.Helper()
	h.must(h.deps.DB.Batch(h.t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec("DROP TRIGGER poison")
		return err
	}))
}

// A delivery whose text can't be written stands without it: no second copy.
func TestOutcomeIsWrittenWithoutItsText(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.poison("NEW.outcome LIKE '%mx.test%'")
		item := h.to("a@one.test")[0]
		time.Sleep(time.Second)
		synctest.Wait()
		if r := h.recipient(item); r.State != queue.Delivered || r.Last.Code != 250 || r.Last.RemoteMTA != "" {
			t.Errorf("recipient %+v", r)
		}
	})
}

// A recipient that can't even be postponed stays leased, in memory, and stops
// nobody; it is settled when that works again.
func TestRecipientThatCannotBePostponed(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.poison("NEW.outcome <> ''")
		h.to("a@one.test")
		time.Sleep(time.Second)
		synctest.Wait()
		h.wantStates(counts{queue.Leased: 1})
		if got := h.memory(); got.recipients != 1 || got.unsettled != 0 {
			t.Errorf("in memory: %+v", got)
		}
		h.cure()
		h.to("b@one.test")
		synctest.Wait()
		h.wantStates(counts{queue.Leased: 1, queue.Delivered: 1})
		time.Sleep(putOff + time.Second)
		synctest.Wait()
		h.wantStates(counts{queue.Delivered: 2})
		if got := len(h.courier.done()); got != 2 {
			t.Errorf("%d attempts", got)
		}
	})
}

// Claims that fail show at once in the metric, after a while as trouble, and no
// more when one works.
func TestClaimTrouble(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		want := func(failing float64, trouble bool) {
			t.Helper()
			synctest.Wait()
			if got := h.gauge("mittente_dispatch_claim_failing"); got != failing {
				t.Errorf("metric %v", got)
			}
			if err := h.Trouble(); (err != nil) != trouble {
				t.Errorf("trouble: %v", err)
			}
		}
		want(0, false)
		h.accept(letterTo{to: []string{"a@one.test"}, keep: true})
		h.queue.Direct(false)
		h.poison("NEW.state = 'leased'")
		h.to("b@one.test")
		want(1, false)
		time.Sleep(troubleAfter + time.Second)
		want(1, true)
		h.cure()
		time.Sleep(2 * claimRetry)
		want(0, false)
		h.wantStates(counts{queue.Leased: 1, queue.Delivered: 1})
	})
}

// Servers that never answer have their share of the deliveries and of the
// memory, and no more: mail for another is attempted at once, and that site may
// use its window.
func TestTarpits(t *testing.T) {
	t.Parallel()
	in(t, Config{}, func(h *house) {
		h.courier.set(func(ctx context.Context, site, _ string) mail.Outcome {
			wait := 2 * time.Hour
			if site == "well.test" {
				wait = time.Second
			}
			select {
			case <-ctx.Done():
				return deferred()
			case <-time.After(wait):
				return delivered()
			}
		})
		for i := range 125 {
			tarpit := fmt.Sprintf("tar%d.test", i)
			letters := 3
			if i < 30 {
				letters = 12
			}
			for range letters {
				h.accept(letterTo{to: many(30, tarpit)})
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if got := h.memory(); got.recipients > 14_000 || h.roomOf(id.New[id.Account]()) < 1000 {
			t.Errorf("in memory: %+v", got)
		}
		if got := h.courier.atOnce(""); got < 250 || got > 438 {
			t.Errorf("%d deliveries under way", got)
		}
		began := time.Now()
		h.to("a@well.test")
		synctest.Wait()
		if got := h.courier.done("well.test"); len(got) != 1 || got[0].at.Sub(began) > time.Second {
			t.Errorf("the lone mail: %+v", got)
		}
		time.Sleep(2 * time.Second)
		h.to(many(400, "well.test")...)
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if got := len(h.courier.done("well.test")); got != 401 {
			t.Errorf("%d attempts at the good site", got)
		}
		if got := h.courier.atOnce("well.test"); got != 20 {
			t.Errorf("%d deliveries at once at the good site", got)
		}
	})
}
