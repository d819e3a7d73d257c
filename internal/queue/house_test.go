package queue

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/spool"
)

// house is a queue with the rooms below it, on a database of its own.
type house struct {
	t     testing.TB
	dir   string
	db    *db.DB
	spool *spool.Spool
	*Queue
}

// newHouse opens a house whose queue is started as node "here", without jitter.
func newHouse(tb testing.TB) *house {
	tb.Helper()
	h := openHouse(tb, tb.TempDir())
	h.must(h.Start(tb.Context(), "here"))
	return h
}

// openHouse opens a house in a folder, be there one already or not.
func openHouse(tb testing.TB, dir string) *house {
	tb.Helper()
	d, err := db.Open(tb.Context(), db.Config{DataDir: dir, ReserveBytes: 1}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Close() })
	h := &house{t: tb, dir: dir, db: d, spool: spool.New(d, spool.Config{}, nil)}
	h.must(d.Migrate(tb.Context(), Schema(), event.Schema(), spool.Schema()))
	h.Queue = New(Deps{DB: d, Spool: h.spool, Jitter: func() float64 { return 0.5 }}, nil)
	return h
}

// crashed opens a house with the files as they lie on the disk now: what a
// killed process would leave.
func (h *house) crashed() *house {
	h.t.Helper()
	dir := h.t.TempDir()
	for _, name := range []string{"mittente.db", "mittente.db-wal"} {
		bytes, err := os.ReadFile(filepath.Join(h.dir, name))
		h.must(err)
		h.must(os.WriteFile(filepath.Join(dir, name), bytes, 0o600))
	}
	return openHouse(h.t, dir)
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) batch(do func(tx *db.Tx) error) {
	h.t.Helper()
	h.must(h.db.Batch(h.t.Context(), do))
}

func (h *house) view(do func(tx *db.Tx) error) {
	h.t.Helper()
	h.must(h.db.View(h.t.Context(), do))
}

// someMessage is a message for Enqueue, accepted now, with content in the spool.
func (h *house) someMessage(account id.Account) (*Message, *spool.Writer) {
	w := h.spool.Create(account)
	_, err := w.Write([]byte("Subject: hello\r\n\r\nBody\r\n"))
	h.must(err)
	content := w.Content()
	return &Message{
		ID: id.New[id.Message](), Account: account, List: id.New[id.List](), UserName: "s1_1",
		From:     mail.ReversePath{Address: address("sender@example.com")},
		EightBit: true, Priority: mail.PriorityNormal, SigningDomain: "example.com",
		HeaderFrom: "sender@example.com", Subject: "hello", MessageID: "<1@example.com>",
		Size: content.Size, BodyHash: [32]byte{1, 2, 3}, HeaderSize: 16, Content: content.ID,
		AcceptedAt: time.Now().UTC().Truncate(time.Microsecond),
	}, w
}

// accept enqueues a message for each of the recipients.
func (h *house) accept(account id.Account, to ...string) []Item {
	h.t.Helper()
	m, w := h.someMessage(account)
	return h.acceptMessage(m, w, to...)
}

func (h *house) acceptMessage(m *Message, w *spool.Writer, to ...string) []Item {
	h.t.Helper()
	var paths []mail.Rcpt
	for _, a := range to {
		paths = append(paths, mail.Rcpt{To: mail.ForwardPath{Address: address(a)}})
	}
	return h.acceptRcpts(m, w, paths)
}

func (h *house) acceptRcpt(m *Message, w *spool.Writer, to mail.Rcpt) Item {
	h.t.Helper()
	return h.acceptRcpts(m, w, []mail.Rcpt{to})[0]
}

func (h *house) acceptRcpts(m *Message, w *spool.Writer, to []mail.Rcpt) []Item {
	h.t.Helper()
	var items []Item
	h.batch(func(tx *db.Tx) error {
		if err := w.Put(tx); err != nil {
			return err
		}
		recipients, err := h.Enqueue(tx, m, to)
		items = nil
		for _, r := range recipients {
			items = append(items, Item{Message: m, Recipient: r})
		}
		return err
	})
	return items
}

func (h *house) settle(item Item, o mail.Outcome) (r Recipient, err error) {
	h.t.Helper()
	err = h.db.Batch(h.t.Context(), func(tx *db.Tx) (err error) {
		r, err = h.Settle(tx, item, o, time.Now())
		return err
	})
	return r, err
}

// mustSettle settles and wants that state.
func (h *house) mustSettle(item Item, o mail.Outcome, want State) Recipient {
	h.t.Helper()
	r, err := h.settle(item, o)
	h.must(err)
	if stored := h.recipient(item.Recipient.ID); r.State != want || stored.State != want {
		h.t.Fatalf("state %s, stored %s, want %s", r.State, stored.State, want)
	}
	return r
}

func (h *house) claim(n int) []Item {
	h.t.Helper()
	items, err := h.Claim(h.t.Context(), n, time.Now())
	h.must(err)
	return items
}

// recipient reads one back.
func (h *house) recipient(r id.Recipient) (found Recipient) {
	h.t.Helper()
	h.view(func(tx *db.Tx) (err error) {
		found, err = h.Recipient(tx, r)
		return err
	})
	return found
}

// events returns the kinds of a message's events, in order, of one recipient or of all.
func (h *house) events(m id.Message, r id.Recipient) (kinds []event.Kind) {
	h.t.Helper()
	h.view(func(tx *db.Tx) error {
		events, err := event.OfMessage(tx, m)
		kinds = nil
		for _, e := range events {
			if r.IsZero() || e.Recipient == r {
				kinds = append(kinds, e.Kind)
			}
		}
		return err
	})
	return kinds
}

const keepUntil db.SQL = `SELECT COALESCE(keep_until, 0) FROM content WHERE id = $1`

// released returns until when the spool keeps a content; zero: it is still needed.
func (h *house) released(c id.Content) time.Time {
	h.t.Helper()
	var at int64
	h.view(func(tx *db.Tx) error { return tx.Row(keepUntil, c).Scan(&at) })
	return db.Time(at)
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func delivered() mail.Outcome {
	return mail.Outcome{
		Action: mail.Delivered, Scope: mail.ScopeRecipient, Code: 250, Status: mail.Status{Class: 2},
		Diagnostic: "queued", RemoteMTA: "mx.example.net", TLS: "TLS1.3",
	}
}

func deferred() mail.Outcome {
	return mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeRecipient, Code: 450,
		Status: mail.Status{Class: 4, Subject: 2, Detail: 1}, Diagnostic: "later",
	}
}

func failed() mail.Outcome {
	return mail.Outcome{
		Action: mail.Failed, Scope: mail.ScopeRecipient, Code: 550,
		Status: mail.Status{Class: 5, Subject: 1, Detail: 1}, Diagnostic: "no such user",
	}
}

// run starts Run and returns what stops it.
func (h *house) run() (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	return func() {
		h.t.Helper()
		cancel()
		h.must(<-done)
	}
}
