package submission_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/mail"
	"mittente/internal/submission"
)

// limit gives the house's user a quota, and its session the fresh user.
func (h *house) limit(t *testing.T, quota int64) {
	t.Helper()
	h.batch(t, func(tx *db.Tx) error {
		_, err := h.accounts.EditUser(tx, "s1_1", account.Edit{QuotaPerHour: &quota})
		return err
	})
	p, err := h.gate.Mail(t.Context(), h.session, reverse(t, "shop@verified.example"))
	check(t, err)
	h.session.Principal = p
}

// rcpts asks for n recipients as a door does; it returns the envelope with those
// that passed, and what was said to the first that did not.
func (h *house) rcpts(t *testing.T, n int) (mail.Envelope, *submission.Rejection) {
	t.Helper()
	env := envelope(t, "shop@verified.example")
	for i := range n {
		r := envelope(t, "", fmt.Sprintf("to%d@there.example", i)).To[0]
		err := h.gate.Rcpt(t.Context(), h.session, &env, r)
		if err != nil {
			over, _ := errors.AsType[*submission.Rejection](err)
			if over == nil {
				t.Fatal(err)
			}
			return env, over
		}
		env.To = append(env.To, r)
	}
	return env, nil
}

func (h *house) hand(t *testing.T, env mail.Envelope) error {
	t.Helper()
	_, err := h.submit(t, env, strings.NewReader("From: shop@verified.example\r\n\r\nx\r\n"))
	return err
}

// TestQuota: recipients of the last 60 minutes, refused for a while with how long
// that is, and taken again by and by without anybody's hand.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute))) // at the beginning of a minute
		h := open(t, db.Config{})
		h.limit(t, 10)
		env, over := h.rcpts(t, 6)
		if over != nil {
			t.Fatal(over)
		}
		check(t, h.hand(t, env))
		time.Sleep(20 * time.Minute)
		env, over = h.rcpts(t, 6)
		if len(env.To) != 4 || over == nil || over.Reason != submission.OverQuota || !over.Temporary() {
			t.Fatalf("%d passed, then %+v", len(env.To), over)
		}
		if over.Wait != 40*time.Minute || over.Limit != 10 {
			t.Errorf("wait %s for a quota of %d", over.Wait, over.Limit)
		}
		check(t, h.hand(t, env))
		time.Sleep(40*time.Minute - time.Second)
		if env, over = h.rcpts(t, 1); over == nil || over.Wait != time.Minute {
			t.Errorf("a second before: %+v", over)
		}
		time.Sleep(time.Second)
		if env, over = h.rcpts(t, 7); len(env.To) != 6 || over == nil || over.Wait != 20*time.Minute {
			t.Errorf("after the wait: %d passed, %+v", len(env.To), over)
		}
	})
}

// TestQuotaOutlivesARestart: what was accepted is counted in the accepting transaction.
func TestQuotaOutlivesARestart(t *testing.T) {
	h := open(t, db.Config{})
	h.limit(t, 5)
	env, _ := h.rcpts(t, 5)
	check(t, h.hand(t, env))
	h.gate = submission.New(submission.Config{Hostname: "relay.example"}, submission.Deps{
		DB: h.db, Accounts: h.accounts, Senders: h.senders, Spool: h.spool, Queue: h.queue, Ready: h.take,
	}, nil)
	if _, over := h.rcpts(t, 1); over == nil || over.Reason != submission.OverQuota {
		t.Errorf("%+v", over)
	}
}

// TestQuotaHoldsForSessionsSideBySide: however many are on their way at once, no
// more are accepted than the quota, and what was refused takes nothing of it.
func TestQuotaHoldsForSessionsSideBySide(t *testing.T) {
	h := open(t, db.Config{})
	h.limit(t, 30)
	env, over := h.rcpts(t, 4)
	if over != nil {
		t.Fatal(over)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := h.hand(t, env); err != nil && reason(t, err) != submission.OverQuota {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := h.count(t, "SELECT count(*) FROM recipient"); n != 28 {
		t.Errorf("%d recipients accepted of a quota of 30, by fours", n)
	}
	if n := h.count(t, "SELECT sum(recipients) FROM submission_quota"); n != 28 {
		t.Errorf("%d counted", n)
	}
	broken := envelope(t, "shop@verified.example", "a@there.example", "b@there.example")
	if _, err := h.submit(t, broken, strings.NewReader("From: v@elsewhere.example\r\n\r\nx\r\n")); reason(t, err) != submission.FormVisitor {
		t.Error(err)
	}
	check(t, h.hand(t, broken)) // the two that are left
	if _, over := h.rcpts(t, 1); over == nil {
		t.Error("a recipient beyond the quota")
	}
	// Over the quota for a minute is one refusal on record, however many are refused.
	if n := h.count(t, "SELECT count(*) FROM alert WHERE kind = 'sending_problem'"); n != 1 {
		t.Errorf("%d alerts", n)
	}
	h.limit(t, 0)
	if _, over := h.rcpts(t, 100); over != nil {
		t.Errorf("without a quota: %+v", over)
	}
}
