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

// retries is a queue that says when recipients are tried again.
type retries struct {
	db    *db.DB
	queue *queue.Queue
	spool *spool.Spool
}

func newRetries(t *testing.T) *retries {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{DataDir: t.TempDir(), ReserveBytes: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.Migrate(t.Context(), queue.Schema(), event.Schema(), spool.Schema()); err != nil {
		t.Fatal(err)
	}
	r := &retries{db: d, spool: spool.New(d, spool.Config{}, nil)}
	r.queue = queue.New(queue.Deps{DB: d, Spool: r.spool, Jitter: func() float64 { return 0.5 }}, nil)
	if err := r.queue.Start(t.Context(), "here"); err != nil {
		t.Fatal(err)
	}
	return r
}

// after has the queue settle outcomes, each of a first attempt, and returns after
// how long it has the recipients tried again; a recipient's state where it has not.
func (r *retries) after(t *testing.T, outcomes []mail.Outcome) []string {
	t.Helper()
	account := id.New[id.Account]()
	w := r.spool.Create(account)
	if _, err := w.Write([]byte("Subject: hi\r\n\r\nHello\r\n")); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	m := &queue.Message{ID: id.New[id.Message](), Account: account, Priority: mail.PriorityNormal, Content: w.Content().ID, AcceptedAt: now}
	to := make([]mail.Rcpt, len(outcomes))
	for i := range to {
		to[i] = forwardPath(t, "a@example.net")
	}
	next := make([]string, len(outcomes))
	err := r.db.Batch(t.Context(), func(tx *db.Tx) error {
		if err := w.Put(tx); err != nil {
			return err
		}
		recipients, err := r.queue.Enqueue(tx, m, to)
		for i, recipient := range recipients {
			settled, err := r.queue.Settle(tx, queue.Item{Message: m, Recipient: recipient}, outcomes[i], now)
			if err != nil {
				return err
			}
			if next[i] = string(settled.State); settled.State == queue.Pending {
				next[i] = settled.Due.Sub(now).Round(time.Second).String()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return next
}
