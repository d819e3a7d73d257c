package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// machine drives a queue at random and keeps beside it what must be true.
type machine struct {
	*house
	now     time.Time
	account []id.Account
	held    map[id.Recipient]Item // leased in the present generation
	stale   []Item                // items whose lease was lost by a restart
	state   map[id.Recipient]State
	events  map[id.Recipient]int
	message map[id.Recipient]*Message
}

// Whatever happens in whatever order: a recipient is in one state, leased once, settled with one event each time, and content is released with the last.
func TestQueueMachine(t *testing.T) {
	h := newHouse(t)
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{
			house: h, now: time.Now().UTC().Truncate(time.Microsecond),
			account: []id.Account{id.New[id.Account](), id.New[id.Account](), id.New[id.Account]()},
			held:    make(map[id.Recipient]Item),
			state:   make(map[id.Recipient]State),
			events:  make(map[id.Recipient]int),
			message: make(map[id.Recipient]*Message),
		}
		m.empty(r)
		m.deps.Jitter = rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 1)).Float64
		r.Repeat(map[string]func(*rapid.T){
			"enqueue": m.enqueue,
			"claim":   m.claim,
			"settle":  m.settleSome,
			"stale":   m.settleStale,
			"release": m.releaseSome,
			"restart": m.restart,
			"wait":    m.wait,
			"":        m.check,
		})
	})
}

const (
	emptyMessages   db.SQL = `DELETE FROM message`
	emptyRecipients db.SQL = `DELETE FROM recipient`
	allRecipients   db.SQL = `
SELECT ` + columns + ` FROM recipient`
)

func (m *machine) ok(r *rapid.T, err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (m *machine) write(r *rapid.T, do func(tx *db.Tx) error) {
	r.Helper()
	m.ok(r, m.db.Batch(context.Background(), do))
}

func (m *machine) empty(r *rapid.T) {
	m.write(r, func(tx *db.Tx) error {
		_, err := tx.Exec(emptyMessages)
		return errors.Join(err, func() error { _, err := tx.Exec(emptyRecipients); return err }())
	})
}

func (m *machine) enqueue(r *rapid.T) {
	m.Direct(rapid.Bool().Draw(r, "direct"))
	defer m.Direct(true)
	msg, w := m.someMessage(rapid.SampledFrom(m.account).Draw(r, "account"))
	msg.AcceptedAt, msg.Priority = m.now, mail.Priority(rapid.IntRange(1, 5).Draw(r, "priority"))
	var to []mail.Rcpt
	for i := range rapid.IntRange(1, 4).Draw(r, "recipients") {
		to = append(to, mail.Rcpt{To: mail.ForwardPath{Address: address(fmt.Sprintf("r%d@example.net", i))}})
	}
	var recipients []Recipient
	m.write(r, func(tx *db.Tx) (err error) {
		if err := w.Put(tx); err != nil {
			return err
		}
		recipients, err = m.Enqueue(tx, msg, to)
		return err
	})
	for _, rcpt := range recipients {
		m.state[rcpt.ID], m.events[rcpt.ID], m.message[rcpt.ID] = rcpt.State, 1, msg
		if rcpt.State == Leased {
			m.held[rcpt.ID] = Item{Message: msg, Recipient: rcpt}
		}
	}
}

func (m *machine) claim(r *rapid.T) {
	items, err := m.Claim(context.Background(), rapid.IntRange(1, 5).Draw(r, "n"), m.now)
	m.ok(r, err)
	for _, item := range items {
		rcpt := item.Recipient
		if _, twice := m.held[rcpt.ID]; twice || m.state[rcpt.ID] != Pending {
			r.Fatalf("claimed in state %s, held %v", m.state[rcpt.ID], twice)
		}
		if rcpt.Due.After(m.now) || !m.Holds(rcpt.Lease) {
			r.Fatalf("claimed with due %v at %v, lease %+v", rcpt.Due, m.now, rcpt.Lease)
		}
		m.held[rcpt.ID], m.state[rcpt.ID] = item, Leased
	}
}

// one draws an item that is held; ok is false when there is none.
func (m *machine) one(r *rapid.T) (item Item, ok bool) {
	if len(m.held) == 0 {
		return Item{}, false
	}
	ids := slices.SortedFunc(maps.Keys(m.held), id.Recipient.Compare)
	return m.held[ids[rapid.IntRange(0, len(ids)-1).Draw(r, "item")]], true
}

func (m *machine) settleSome(r *rapid.T) {
	item, ok := m.one(r)
	if !ok {
		return
	}
	o := rapid.SampledFrom([]mail.Outcome{delivered(), deferred(), failed()}).Draw(r, "outcome")
	var got Recipient
	m.write(r, func(tx *db.Tx) (err error) {
		got, err = m.Settle(tx, item, o, m.now)
		return err
	})
	old := m.now.Sub(item.Message.AcceptedAt) >= lifetime && m.now.Sub(item.Recipient.Due) <= overdue
	want := map[mail.Action]State{mail.Delivered: Delivered, mail.Failed: Failed, mail.Deferred: Pending}[o.Action]
	if want == Pending && old {
		want = Expired
	}
	if got.State != want {
		r.Fatalf("settled as %s, want %s", got.State, want)
	}
	delete(m.held, got.ID)
	m.state[got.ID] = got.State
	m.events[got.ID]++
}

func (m *machine) settleStale(r *rapid.T) {
	for _, item := range m.stale {
		m.write(r, func(tx *db.Tx) error {
			if _, err := m.Settle(tx, item, delivered(), m.now); !errors.Is(err, ErrLeaseLost) {
				return fmt.Errorf("a lost lease settles: %w", err)
			}
			return m.Release(tx, []Item{item})
		})
	}
	m.stale = nil
}

func (m *machine) releaseSome(r *rapid.T) {
	item, ok := m.one(r)
	if !ok {
		return
	}
	m.write(r, func(tx *db.Tx) error { return m.Release(tx, []Item{item}) })
	delete(m.held, item.Recipient.ID)
	m.state[item.Recipient.ID] = Pending
}

// restart forgets everything in memory, as a crash does, and starts anew.
func (m *machine) restart(r *rapid.T) {
	m.ok(r, m.Start(context.Background(), "here"))
	n, err := m.Reclaim(context.Background())
	m.ok(r, err)
	if n != len(m.held) {
		r.Fatalf("reclaimed %d of %d", n, len(m.held))
	}
	for rcpt, item := range m.held {
		m.state[rcpt] = Pending
		m.stale = append(m.stale, item)
	}
	clear(m.held)
}

func (m *machine) wait(r *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 20*3600).Draw(r, "seconds")) * time.Second)
}

// check compares all that is stored with what must be.
func (m *machine) check(r *rapid.T) {
	var stored []Recipient
	messages := make(map[id.Message]Stored)
	m.ok(r, m.db.View(context.Background(), func(tx *db.Tx) (err error) {
		stored, err = db.Collect(tx, func(row db.Scanner) (Recipient, error) { return scanRecipient(row) }, allRecipients)
		if err != nil {
			return err
		}
		for _, msg := range m.message {
			if messages[msg.ID], err = m.Message(tx, msg.ID); err != nil {
				return err
			}
			if err := m.checkMessage(tx, messages[msg.ID]); err != nil {
				return err
			}
		}
		return nil
	}))
	if len(stored) != len(m.state) {
		r.Fatalf("%d recipients, want %d", len(stored), len(m.state))
	}
	for _, rcpt := range stored {
		if rcpt.State != m.state[rcpt.ID] {
			r.Fatalf("%s is %s, want %s", rcpt.ID, rcpt.State, m.state[rcpt.ID])
		}
		if leased := rcpt.State == Leased; leased == rcpt.Lease.IsZero() || (leased && !m.Holds(rcpt.Lease)) {
			r.Fatalf("%s is %s with lease %+v", rcpt.ID, rcpt.State, rcpt.Lease)
		}
		if rcpt.State.Settled() == rcpt.SettledAt.IsZero() {
			r.Fatalf("%s is %s since %v", rcpt.ID, rcpt.State, rcpt.SettledAt)
		}
	}
}

// checkMessage compares counters, events and content of a message with its recipients.
func (m *machine) checkMessage(tx *db.Tx, s Stored) error {
	unsettled, undelivered := 0, 0
	for rcpt, msg := range m.message {
		if msg.ID != s.ID {
			continue
		}
		switch state := m.state[rcpt]; {
		case !state.Settled():
			unsettled++
		case state != Delivered:
			undelivered++
		}
	}
	if s.Unsettled != unsettled || s.Undelivered != undelivered {
		return fmt.Errorf("%s counts %d and %d, want %d and %d", s.ID, s.Unsettled, s.Undelivered, unsettled, undelivered)
	}
	var keep int64
	if err := tx.Row(keepUntil, s.Content).Scan(&keep); err != nil {
		return err
	}
	if (keep != 0) != (unsettled == 0) {
		return fmt.Errorf("%s has %d unsettled, content kept until %v", s.ID, unsettled, db.Time(keep))
	}
	events, err := event.OfMessage(tx, s.ID)
	if err != nil {
		return err
	}
	counts := make(map[id.Recipient]int)
	for _, e := range events {
		counts[e.Recipient]++
	}
	for rcpt, n := range counts {
		if n != m.events[rcpt] {
			return fmt.Errorf("%s has %d events, want %d", rcpt, n, m.events[rcpt])
		}
	}
	return nil
}
