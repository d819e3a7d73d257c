// Package notify sends the mail of the house itself, which no gate has to judge.
package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/message"
	"mittente/internal/queue"
	"mittente/internal/report"
	"mittente/internal/spool"
)

// Config says in whose name the house writes.
type Config struct {
	Hostname      string       // of this relay: it stands in reports and Message-IDs
	From          mail.Address // of all mail of the house
	SigningDomain mail.Domain  // whose keys sign it; empty: none do
	Zone          report.Zone  // of the times in it
}

// Deps is what a notifier works with.
type Deps struct {
	DB    *db.DB
	Spool *spool.Spool
	Queue *queue.Queue
	// Ready is given what was enqueued, once it is on disk: leased to this node
	// and ready for its first attempt. It must not block.
	Ready func([]queue.Item)
	List  func(context.Context, id.List) (account.List, error) // for the language of reports; nil: English
	Log   *slog.Logger                                         // of what Run can only note; nil: nowhere
}

// Notifier is safe for concurrent use.
type Notifier struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	wake    chan struct{} // holds one signal
}

// New returns a notifier; it starts nothing. reg may be nil.
func New(cfg Config, deps Deps, reg prometheus.Registerer) *Notifier {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.List == nil {
		deps.List = func(context.Context, id.List) (account.List, error) { return account.List{}, nil }
	}
	return &Notifier{cfg: cfg, deps: deps, metrics: newMetrics(reg), wake: make(chan struct{}, 1)}
}

// Letter is one mail of the house.
type Letter struct {
	Account id.Account       // on whose behalf
	List    id.List          // zero: of none
	From    mail.ReversePath // null for reports; the house's own tells the operators when it fails
	To      mail.ForwardPath
	Content []byte // header section and body: complete, its lines end in CRLF
}

// ErrTooLarge says that a letter has more than spool.ChunkSize octets.
var ErrTooLarge = errors.New("notify: the letter is too large")

// Enqueue puts a letter into the queue, in the transaction of what it tells of.
// Nobody's quota counts it. It may be repeated. It returns ErrTooLarge for
// content of more than spool.ChunkSize octets, and message.ErrMalformed for one
// without a header section.
func (n *Notifier) Enqueue(tx *db.Tx, l Letter) error {
	if len(l.Content) > spool.ChunkSize {
		return fmt.Errorf("%w: %d octets", ErrTooLarge, len(l.Content))
	}
	d, err := n.draft(l)
	if err != nil {
		return err
	}
	return n.put(tx, d)
}

// From returns the address in whose name the house writes.
func (n *Notifier) From() mail.Address { return n.cfg.From }

// MessageID returns a new Message-ID (RFC 5322 §3.6.4).
func (n *Notifier) MessageID() string {
	return fmt.Sprintf("<%s@%s>", id.New[id.Message](), n.cfg.Hostname)
}

// draft is a letter that is on its way into the queue.
type draft struct {
	message *queue.Message
	to      mail.ForwardPath
	content *spool.Writer
}

// draft takes a letter into the spool, as far as it is written ahead, and reads
// what the queue has to know of it.
func (n *Notifier) draft(l Letter) (*draft, error) {
	h, rest, err := message.ReadHeader(bytes.NewReader(l.Content), 0)
	if err != nil {
		return nil, fmt.Errorf("letter: %w", err)
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(rest); err != nil {
		return nil, fmt.Errorf("letter: %w", err)
	}
	hash := dkim.NewBodyHasher()
	_, _ = hash.Write(body.Bytes()) // a hash takes everything
	from, _ := h.Get("From")
	w := n.deps.Spool.Create(l.Account)
	if _, err := w.Write(l.Content); err != nil {
		w.Discard(context.Background())
		return nil, fmt.Errorf("letter: %w", err)
	}
	content := w.Content()
	eight := bytes.IndexFunc(l.Content, func(r rune) bool { return r >= 0x80 }) >= 0
	return &draft{to: l.To, content: w, message: &queue.Message{
		ID: id.New[id.Message](), Account: l.Account, List: l.List, From: l.From, Priority: mail.PriorityNormal,
		SigningDomain: n.cfg.SigningDomain, HeaderFrom: from, Subject: h.Subject(), MessageID: h.MessageID(),
		EightBit: eight, SMTPUTF8: l.To.Address.NeedsUTF8() || l.From.Address.NeedsUTF8() || !isASCII(h.Raw()),
		Size: content.Size, BodyHash: hash.Sum(), HeaderSize: len(h.Raw()), Content: content.ID,
		AcceptedAt: time.Now(),
	}}, nil
}

// put enqueues a draft, and hands it to the dispatcher after the commit.
func (n *Notifier) put(tx *db.Tx, d *draft) error {
	if err := d.content.Put(tx); err != nil {
		return err
	}
	recipients, err := n.deps.Queue.Enqueue(tx, d.message, []mail.Rcpt{{To: d.to}})
	if err != nil {
		return err
	}
	tx.OnCommit(func() {
		n.metrics.letters.Inc()
		r := recipients[0]
		if r.State == queue.Leased {
			n.deps.Ready([]queue.Item{{Message: d.message, Recipient: r, Bytes: d.content.Content().Bytes}})
		}
	})
	return nil
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
