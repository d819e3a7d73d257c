package notify

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	gomessage "github.com/emersion/go-message"
	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/db/dbtest"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/spool"
)

// house is a notifier over real rooms.
type house struct {
	*Notifier
	t     testing.TB
	sent  chan queue.Item
	ready []queue.Item // what was taken out of sent
	lists map[id.List]account.List
	disk  *dbtest.Disk
}

const (
	header = "Received: by relay.example\r\nFrom: anna@client.example\r\nSubject: Invoice 12\r\nMessage-ID: <12@client.example>\r\n"
	body   = "Hello,\r\n\r\nhere it is.\r\n"
)

func newHouse(tb testing.TB) *house {
	tb.Helper()
	h := &house{t: tb, sent: make(chan queue.Item, 1000), lists: map[id.List]account.List{}, disk: &dbtest.Disk{}}
	d, err := db.Open(tb.Context(), db.Config{DataDir: tb.TempDir(), ReserveBytes: 1, Wrap: h.disk.Wrap}, nil)
	h.must(err)
	tb.Cleanup(func() { _ = d.Close() })
	h.must(d.Migrate(tb.Context(), queue.Schema(), event.Schema(), spool.Schema(), alert.Schema()))
	content := spool.New(d, spool.Config{}, nil)
	q := queue.New(queue.Deps{
		DB: d, Spool: content, Jitter: func() float64 { return 0.5 },
		Schedule: func(_ *db.Tx, l id.List) queue.Schedule { return queue.Schedule{Lifetime: h.lists[l].Lifetime} },
	}, nil)
	h.must(q.Start(tb.Context(), "here"))
	h.Notifier = New(Config{
		Hostname: "relay.example", From: address("postmaster@relay.example"), SigningDomain: "relay.example",
	}, Deps{
		DB: d, Spool: content, Queue: q, Ready: func(items []queue.Item) {
			for _, item := range items {
				h.sent <- item
			}
		},
		List: func(_ context.Context, l id.List) (account.List, error) { return h.lists[l], nil },
	}, prometheus.NewRegistry())
	q.OnNotice(h.Wake)
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) batch(do func(tx *db.Tx) error) {
	h.t.Helper()
	h.must(h.deps.DB.Batch(h.t.Context(), do))
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func to(s string, asked mail.Notify) mail.Rcpt {
	return mail.Rcpt{To: mail.ForwardPath{Address: address(s)}, Notify: asked}
}

// mailOf is a message of a client, before it is accepted.
func (h *house) mailOf(from string) *queue.Message {
	m := &queue.Message{
		ID: id.New[id.Message](), Account: id.New[id.Account](), List: id.New[id.List](), UserName: "s1_1", Priority: mail.PriorityNormal,
		HeaderFrom: "anna@client.example", Subject: "Invoice 12", MessageID: "<12@client.example>", HeaderSize: len(header), AcceptedAt: db.Now(),
	}
	if from != "" {
		m.From.Address = address(from)
	}
	return m
}

// accept enqueues a client's message.
func (h *house) accept(m *queue.Message, recipients ...mail.Rcpt) []queue.Item {
	h.t.Helper()
	w := h.deps.Spool.Create(m.Account)
	_, err := w.Write([]byte(header + "\r\n" + body))
	h.must(err)
	m.Content, m.Size = w.Content().ID, w.Content().Size
	var items []queue.Item
	h.batch(func(tx *db.Tx) error {
		h.must(w.Put(tx))
		stored, err := h.deps.Queue.Enqueue(tx, m, recipients)
		items = nil
		for _, r := range stored {
			items = append(items, queue.Item{Message: m, Recipient: r})
		}
		return err
	})
	return items
}

func refused() mail.Outcome {
	return mail.Outcome{
		Action: mail.Failed, Scope: mail.ScopeRecipient, Code: 550, Status: mail.Status{Class: 5, Subject: 1, Detail: 1},
		Diagnostic: "no such user", RemoteMTA: "mx.b.example",
	}
}

func taken() mail.Outcome {
	return mail.Outcome{Action: mail.Delivered, Code: 250, Status: mail.Status{Class: 2}, Diagnostic: "queued", RemoteMTA: "mx.b.example"}
}

func busy() mail.Outcome {
	return mail.Outcome{Action: mail.Deferred, Scope: mail.ScopeRecipient, Code: 451, Status: mail.Status{Class: 4, Subject: 7, Detail: 1}, Diagnostic: "greylisted"}
}

// settle writes an outcome for each item.
func (h *house) settle(o mail.Outcome, items ...queue.Item) {
	h.t.Helper()
	h.batch(func(tx *db.Tx) error {
		for _, item := range items {
			if _, err := h.deps.Queue.Settle(tx, item, o, db.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// told lets the notifier work, and returns what it enqueued.
func (h *house) told() []queue.Item {
	h.t.Helper()
	h.ready = nil
	h.must(h.tell(h.t.Context()))
	return h.enqueued()
}

// enqueued returns all that was enqueued since told was called.
func (h *house) enqueued() []queue.Item {
	for {
		select {
		case item := <-h.sent:
			h.ready = append(h.ready, item)
		default:
			return h.ready
		}
	}
}

// alerts returns those that are open.
func (h *house) alerts() []alert.Alert {
	h.t.Helper()
	var all []alert.Alert
	h.must(h.deps.DB.View(h.t.Context(), func(tx *db.Tx) (err error) {
		all, err = alert.List(tx, alert.Filter{})
		return err
	}))
	return all
}

// parts reads a report by emersion/go-message: the fields of its status, and what it returns.
func (h *house) parts(raw []byte) (top gomessage.Header, status, returned string) {
	h.t.Helper()
	e, err := gomessage.Read(bytes.NewReader(raw))
	h.must(err)
	r := e.MultipartReader()
	if r == nil {
		h.t.Fatalf("no multipart: %s", raw)
	}
	var all []string
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		h.must(err)
		text, err := io.ReadAll(p.Body)
		h.must(err)
		all = append(all, string(text))
	}
	return e.Header, all[1], strings.Join(all[2:], "")
}
