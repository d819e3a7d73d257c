package delivery

import (
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/spool"
)

// nextAttempts has a queue settle outcomes, each of a first attempt, and returns
// after how long it has the recipients tried again; a recipient's state where it
// has not.
func nextAttempts(t *testing.T, outcomes []mail.Outcome) []string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := db.Open(t.Context(), db.Config{DataDir: t.TempDir(), ReserveBytes: 1}, nil)
	must(err)
	defer d.Close()
	must(d.Migrate(t.Context(), queue.Schema(), event.Schema(), spool.Schema()))
	content := spool.New(d, spool.Config{}, nil)
	q := queue.New(queue.Deps{DB: d, Spool: content, Jitter: func() float64 { return 0.5 }}, nil)
	must(q.Start(t.Context(), "here"))
	account := id.New[id.Account]()
	w := content.Create(account)
	_, err = w.Write([]byte("Subject: hi\r\n\r\nHello\r\n"))
	must(err)
	now := time.Now()
	m := &queue.Message{ID: id.New[id.Message](), Account: account, Priority: mail.PriorityNormal, Content: w.Content().ID, AcceptedAt: now}
	to := make([]mail.Rcpt, len(outcomes))
	for i := range to {
		to[i] = forwardPath(t, "a@example.net")
	}
	next := make([]string, len(outcomes))
	must(d.Batch(t.Context(), func(tx *db.Tx) error {
		if err := w.Put(tx); err != nil {
			return err
		}
		recipients, err := q.Enqueue(tx, m, to)
		for i, r := range recipients {
			settled, err := q.Settle(tx, queue.Item{Message: m, Recipient: r}, outcomes[i], now)
			if err != nil {
				return err
			}
			if next[i] = string(settled.State); settled.State == queue.Pending {
				next[i] = settled.Due.Sub(now).Round(time.Second).String()
			}
		}
		return err
	}))
	return next
}
