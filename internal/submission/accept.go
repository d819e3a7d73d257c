package submission

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/message"
	"mittente/internal/queue"
	"mittente/internal/spool"
)

// draft is the message's row as far as it is known before its body is.
func (g *Gate) draft(s Session, env mail.Envelope, h message.Header, by author) *queue.Message {
	user := s.Principal.User
	m := &queue.Message{
		ID:            id.New[id.Message](),
		Account:       user.Account,
		List:          user.List,
		UserName:      user.Name,
		From:          env.From,
		SMTPUTF8:      env.SMTPUTF8,
		Return:        env.Return,
		EnvelopeID:    env.ID,
		Priority:      user.Priority,
		SigningDomain: by.grant.SigningDomain,
		HeaderFrom:    by.address.Display(),
		Subject:       h.Subject(),
		MessageID:     h.MessageID(),
		AcceptedAt:    time.Now(),
	}
	if m.MessageID == "" { // RFC 6409 §8.3
		m.MessageID = fmt.Sprintf("<%s@%s>", m.ID, g.cfg.Hostname)
	}
	return m
}

// complete returns the header section as it will leave.
func (g *Gate) complete(m *queue.Message, s Session, h message.Header) []byte {
	return h.Complete(message.Completion{
		Received: message.Trace{
			Helo:          s.Helo,
			Authenticated: true,
			SMTPUTF8:      m.SMTPUTF8,
			TLS:           s.TLS,
			ID:            m.ID.String(),
		},
		From:      m.From,
		Hostname:  g.cfg.Hostname,
		Now:       m.AcceptedAt,
		MessageID: m.MessageID,
		Priority:  m.Priority,
	})
}

// write streams the content into the spool, and notes in m what only its bytes
// tell: sizes, the body's hash, whether it is 8-bit.
func (g *Gate) write(w *spool.Writer, header []byte, body io.Reader, m *queue.Message) error {
	m.HeaderSize = len(header)
	m.EightBit = !isASCII(header)
	m.SMTPUTF8 = m.SMTPUTF8 && m.EightBit
	if _, err := w.Write(header); err != nil {
		return err
	}
	if _, err := w.Write([]byte("\r\n")); err != nil {
		return err
	}
	if err := g.writeBody(w, body, m); err != nil {
		return err
	}
	content := w.Content()
	m.Content, m.Size = content.ID, content.Size
	return nil
}

func (g *Gate) writeBody(w *spool.Writer, body io.Reader, m *queue.Message) error {
	hash := dkim.NewBodyHasher()
	buffer, _ := g.buffers.Get().(*[]byte)
	defer g.buffers.Put(buffer)
	for {
		n, err := body.Read(*buffer)
		part := (*buffer)[:n]
		m.EightBit = m.EightBit || !isASCII(part)
		_, _ = hash.Write(part) // never fails, as every hash.Hash
		if _, werr := w.Write(part); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			m.BodyHash = hash.Sum()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// commit is the moment of responsibility: content, message, recipients and
// events in one transaction, on disk when it returns. Only then does the
// dispatcher hear of the message.
func (g *Gate) commit(ctx context.Context, v visit, w *spool.Writer, m *queue.Message, share *reservation) error {
	p := v.Principal
	return g.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		if p.OneTime {
			if err := g.deps.Accounts.Spend(tx, p); err != nil {
				return &Rejection{Reason: CredentialSpent, User: m.UserName, Cause: err}
			}
		}
		if err := share.count(tx); err != nil {
			return err
		}
		if err := w.Put(tx); err != nil {
			return err
		}
		recipients, err := g.deps.Queue.Enqueue(tx, m, v.env.To)
		if err != nil {
			return err
		}
		tx.OnCommit(func() { g.deps.Ready(items(m, recipients, w.Content().Bytes)) })
		return nil
	})
}

// items are the recipients that this node holds a lease on.
func items(m *queue.Message, recipients []queue.Recipient, content []byte) []queue.Item {
	leased := make([]queue.Item, 0, len(recipients))
	for _, r := range recipients {
		if r.State == queue.Leased {
			leased = append(leased, queue.Item{Message: m, Recipient: r, Bytes: content})
		}
	}
	return leased
}

// distinct drops forward-paths given twice: each mailbox gets one copy.
func distinct(to []mail.Rcpt) []mail.Rcpt {
	seen := make(map[mail.ForwardPath]bool, len(to))
	return slices.DeleteFunc(slices.Clone(to), func(r mail.Rcpt) bool {
		twice := seen[r.To]
		seen[r.To] = true
		return twice
	})
}

// isASCII looks at eight octets at a time: the whole body passes here.
func isASCII(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
