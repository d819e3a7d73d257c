package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/mail"
	"mittente/internal/message"
	"mittente/internal/queue"
	"mittente/internal/report"
	"mittente/internal/spool"
)

// maxReturned is the largest message that comes back whole, in octets.
const maxReturned = 1 << 20

// report composes the DSN of a notice; nil when there is nothing to tell any more.
func (n *Notifier) report(ctx context.Context, notice queue.Notice) (*draft, error) {
	m := notice.Message
	d := report.DSN{
		Kind: report.Kind(notice.Kind), From: n.cfg.From, To: m.From.Address, MessageID: n.MessageID(), Date: time.Now(),
		Reporter: n.cfg.Hostname, EnvelopeID: m.EnvelopeID, Arrival: m.AcceptedAt, Subject: m.Subject, OriginalID: m.MessageID,
		UTF8: m.SMTPUTF8, Zone: n.cfg.Zone,
	}
	if list, err := n.deps.List(ctx, m.List); err == nil { // else in English
		d.Lang = list.Lang
	}
	var until time.Time
	err := n.deps.DB.View(ctx, func(tx *db.Tx) error {
		until = n.deps.Queue.Expires(tx, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, r := range notice.Recipients {
		if notice.Kind == queue.NoticeDelay && r.State.Settled() {
			continue
		}
		d.Recipients = append(d.Recipients, recipient(r, until))
	}
	if len(d.Recipients) == 0 {
		return nil, nil //nolint:nilnil // nothing is to be told, and that is no error
	}
	var most int64
	if m.Return == mail.ReturnFull && notice.Kind == queue.NoticeFailure { // RFC 3461 §4.3: of failures only
		most = maxReturned
	}
	if d.Header, d.Body, err = n.original(ctx, m, most); err != nil {
		return nil, err
	}
	return n.draft(Letter{Account: m.Account, List: m.List, To: mail.ForwardPath(m.From), Content: d.Bytes()})
}

// recipient is a recipient in the words of a report.
func recipient(r queue.Recipient, until time.Time) report.Recipient {
	to := report.Recipient{
		To: r.To.String(), Display: r.To.Address.Display(), Original: r.Original, LogID: r.ID.String(),
		Outcome: r.Last, RetryUntil: until, Expired: r.State == queue.Expired,
	}
	if r.RawTo != "" {
		to.To, to.Display = r.RawTo, r.RawTo
	}
	if r.Attempts > 0 {
		to.LastAttempt = r.SettledAt
	}
	return to
}

// original reads what is returned of a message: its header section, and its body
// if the whole has at most so many octets. What is past its retention is nil.
func (n *Notifier) original(ctx context.Context, m *queue.Message, most int64) (header, body []byte, err error) {
	if m.HeaderSize <= 0 || m.HeaderSize > 2*message.MaxHeader { // no message of ours
		return nil, nil, nil
	}
	r, err := n.deps.Spool.Open(ctx, m.Content)
	if errors.Is(err, spool.ErrGone) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	size := int64(m.HeaderSize)
	whole := m.Size <= most
	if whole {
		size = most
	}
	text, err := io.ReadAll(io.LimitReader(r, size))
	switch {
	case errors.Is(err, spool.ErrGone) || err == nil && len(text) < m.HeaderSize:
		return nil, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("header of %s: %w", m.ID, err)
	}
	header = text[:m.HeaderSize:m.HeaderSize]
	if whole && len(text) >= m.HeaderSize+2 {
		body = text[m.HeaderSize+2:]
	}
	return header, body, nil
}

// returned tells the operators of what nobody else can be told: mail that failed
// and has no sender, a report among it (RFC 5321 §6.1), or a letter of the house.
func (n *Notifier) returned(tx *db.Tx, notice queue.Notice) error {
	if err := n.deps.Queue.Noticed(tx, notice); err != nil {
		return err
	}
	m := notice.Message
	who := m.UserName
	if who == "" {
		who = "the relay itself"
	}
	for _, r := range notice.Recipients {
		to := recipient(r, time.Time{})
		err := alert.Raise(tx, alert.Alert{
			Account: m.Account, List: m.List, Kind: alert.Returned, Key: who + " to " + string(r.To.Address.Domain()), LastAt: r.SettledAt,
			Facts: map[string]string{
				"user": m.UserName, "message": m.ID.String(), "recipient": r.ID.String(), "to": to.Display, "from": m.HeaderFrom,
				"reverse_path": m.From.String(), "subject": m.Subject, "status": r.Last.Status.String(), "reply": r.Last.Reply(), "remote": r.Last.RemoteMTA,
			},
		})
		if err != nil {
			return err
		}
	}
	tx.OnCommit(n.metrics.reports.WithLabelValues(string(queue.NoticeDouble)).Inc)
	return nil
}
