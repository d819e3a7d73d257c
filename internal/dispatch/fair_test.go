package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

const loneMails = 30

// backlog gives a message of an account n more recipients that are due, at ten
// thousand domains: as many as nobody would enqueue one by one in a test.
func (h *house) backlog(account id.Account, n int) {
	h.t.Helper()
	h.queue.Direct(false)
	item := h.accept(letterTo{to: []string{"first@d0.test"}, account: account, priority: mail.PriorityHighest, keep: true})[0]
	h.queue.Direct(true)
	h.must(h.deps.DB.Batch(h.t.Context(), func(tx *db.Tx) error {
		// Indexes are made faster than they are kept.
		indexes, err := db.Collect(tx, func(row db.Scanner) (s [2]string, err error) {
			err = row.Scan(&s[0], &s[1])
			return s, err
		}, "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'recipient' AND sql IS NOT NULL")
		for _, i := range indexes {
			if _, err := tx.Exec(db.SQL("DROP INDEX " + i[0])); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`
WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < $2)
INSERT INTO recipient (id, message_id, account_id, list_id, user_name, forward_path, domain, priority, state, due)
SELECT unhex(printf('%032x', n)), message_id, account_id, list_id, user_name, 'r' || n || '@d' || (n % 10000) || '.test',
    'd' || (n % 10000) || '.test', priority, state, due
FROM recipient, i WHERE id = $1`, item.Recipient.ID, int64(n)); err != nil {
			return err
		}
		for _, i := range indexes {
			if _, err := tx.Exec(db.SQL(i[1])); err != nil {
				return err
			}
		}
		_, err = tx.Exec("UPDATE message SET recipients = recipients + $2, unsettled = unsettled + $2 WHERE id = $1", item.Message.ID, int64(n))
		return err
	}))
	h.Wake()
}

// lone has other accounts send one mail each, and returns how long each waited
// for its first attempt. Every third was not leased at the door.
func (h *house) lone(n int, apart time.Duration) (waits []time.Duration) {
	h.t.Helper()
	came := make(map[string]time.Time)
	for i := range n {
		domain := fmt.Sprintf("own%d.test", i)
		if i%2 == 0 {
			domain = fmt.Sprintf("d%d.test", i)
		}
		to := fmt.Sprintf("lone%d@%s", i, domain)
		came[to] = time.Now()
		h.queue.Direct(i%3 != 0)
		h.accept(letterTo{to: []string{to}, priority: mail.PriorityLowest})
		h.queue.Direct(true)
		time.Sleep(apart)
	}
	for range 600 {
		waits = waits[:0]
		for _, a := range h.courier.done() {
			for _, to := range a.to {
				if at, ok := came[to]; ok {
					waits = append(waits, a.at.Sub(at))
				}
			}
		}
		if len(waits) == n {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	slices.Sort(waits)
	return waits
}

func (h *house) wantQuick(waits []time.Duration, most time.Duration) {
	h.t.Helper()
	n := len(waits)
	if n < loneMails {
		h.t.Fatalf("%d of %d lone mails were attempted", n, loneMails)
	}
	p99 := waits[len(waits)*99/100]
	h.t.Logf("%d lone mails to the first attempt: median %v, p99 %v, longest %v; %d attempts of others meanwhile", n, waits[n/2], p99, waits[n-1],
		len(slices.DeleteFunc(h.courier.done(), func(a attempt) bool { return strings.HasPrefix(a.to[0], "lone") })))
	if p99 > most {
		h.t.Errorf("p99 to the first attempt is %v, want at most %v", p99, most)
	}
}

// A million recipients of one account, marked urgent, wait for ten thousand sites,
// some of which never answer. Others' lone mails, marked as of no hurry, are
// attempted within a second.
func TestLoneMailBesideAMillion(t *testing.T) {
	t.Parallel()
	in(t, Config{Deliveries: 100, MaxRecipients: 4000}, func(h *house) {
		h.courier.set(func(ctx context.Context, site, to string) mail.Outcome {
			wait := 700 * time.Millisecond
			if !strings.HasPrefix(to, "lone") && strings.HasSuffix(site, "7.test") {
				wait = 5 * time.Minute
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			return delivered()
		})
		h.backlog(id.New[id.Account](), million)
		time.Sleep(2 * time.Second)
		h.wantQuick(h.lone(loneMails, 200*time.Millisecond), time.Second)
	})
}

// The same by the real clock, while the dispatcher settles as fast as it can. On a quiet machine p99 is below a
// second; patience is for one that is not.
func TestLoneMailLive(t *testing.T) {
	h := newHouse(t, Config{MaxRecipients: max(million/50, 1000)}) // the default, for a million
	h.courier.set(func(_ context.Context, _, to string) mail.Outcome {
		time.Sleep(20 * time.Millisecond)
		return delivered()
	})
	h.backlog(id.New[id.Account](), million)
	stop := h.run()
	time.Sleep(200 * time.Millisecond)
	h.wantQuick(h.lone(loneMails, 20*time.Millisecond), patience)
	stop()
	if got := h.states(); got[queue.Delivered] == 0 {
		t.Errorf("%v", got)
	}
}
