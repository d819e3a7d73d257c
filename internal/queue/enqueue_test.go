package queue

import (
	"fmt"
	"slices"
	"testing"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// However many recipients there are, each is written once, as it is, in order,
// with its event: statements of many rows and of one meet without a gap.
func TestEnqueueWritesEveryRecipient(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{true, false} {
		for _, n := range []int{1, insertRows - 1, insertRows, insertRows + 1, 3*insertRows + 2} {
			t.Run(fmt.Sprintf("direct=%v/%d", direct, n), func(t *testing.T) {
				t.Parallel()
				h := newHouse(t)
				h.Direct(direct)
				m, w := h.someMessage(id.New[id.Account]())
				m.Priority = mail.PriorityLowest
				var to []string
				for i := range n {
					to = append(to, fmt.Sprintf("r%d@d%d.example.net", i, i))
				}
				items := h.acceptMessage(m, w, to...)
				if len(items) != n {
					t.Fatalf("%d recipients", len(items))
				}
				for i, item := range items {
					if stored := h.recipient(item.Recipient.ID); stored != item.Recipient || stored.To.String() != to[i] {
						t.Errorf("%d: stored %+v, returned %+v", i, stored, item.Recipient)
					}
					domain := mail.Domain(fmt.Sprintf("d%d.example.net", i))
					if got := h.recipients(Selection{Message: m.ID, Domain: domain}); !slices.Equal(got, []id.Recipient{item.Recipient.ID}) {
						t.Errorf("%s: %v", domain, got)
					}
				}
				h.wantAccepted(items)
				if !direct && len(h.claim(n)) != n {
					t.Error("not all of them can be claimed")
				}
			})
		}
	}
}

// wantAccepted wants one event for each recipient of a message, in order.
func (h *house) wantAccepted(items []Item) {
	h.t.Helper()
	m := items[0].Message
	h.view(func(tx *db.Tx) error {
		events, err := event.OfMessage(tx, m.ID)
		var of []id.Recipient
		for _, e := range events {
			of = append(of, e.Recipient)
			if e.Kind != event.Accepted || e.Account != m.Account || !e.At.Equal(m.AcceptedAt) || e.Detail != (event.Detail{}) {
				h.t.Errorf("event %+v", e)
			}
		}
		if !slices.Equal(of, recipientsOf(items)) {
			h.t.Errorf("events of %v, want %v", of, recipientsOf(items))
		}
		return err
	})
}
