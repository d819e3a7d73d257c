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
	wish    map[id.Recipient]Operation
	list    []id.List
	paused  map[id.List]bool
}

// Whatever happens in whatever order: a recipient is in one state, leased once, settled with one event each time, and content is released with the last.
// What is wished for a leased one is done when it is let go, and no mail of a paused list is claimed.
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
			wish:    make(map[id.Recipient]Operation),
			list:    []id.List{id.New[id.List](), id.New[id.List]()},
			paused:  make(map[id.List]bool),
		}
		m.deps.Paused = func(_ *db.Tx, l id.List) bool { return m.paused[l] }
		m.empty(r)
		m.deps.Jitter = rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 1)).Float64
		r.Repeat(map[string]func(*rapid.T){
			"enqueue": m.enqueue,
			"claim":   m.claim,
			"settle":  m.settleSome,
			"stale":   m.settleStale,
			"release": m.releaseSome,
			"operate": m.operateOnSome,
			"pause":   m.pauseOne,
			"restart": m.restart,
			"wait":    m.wait,
			"":        m.check,
		})
	})
}

const (
	emptyMessages   db.SQL = `DELETE FROM message`
	emptyRecipients db.SQL = `DELETE FROM recipient`
	emptyNotices    db.SQL = `DELETE FROM dsn_due`
	allNotices      db.SQL = `SELECT recipient_id, kind FROM dsn_due ORDER BY recipient_id`
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
		if err == nil {
			_, err = tx.Exec(emptyRecipients)
		}
		if err == nil {
			_, err = tx.Exec(emptyNotices)
		}
		return err
	})
}

func (m *machine) enqueue(r *rapid.T) {
	m.Direct(rapid.Bool().Draw(r, "direct"))
	defer m.Direct(true)
	msg, w := m.someMessage(rapid.SampledFrom(m.account).Draw(r, "account"))
	msg.List = rapid.SampledFrom(m.list).Draw(r, "list")
	msg.AcceptedAt, msg.Priority = m.now, mail.Priority(rapid.IntRange(1, 5).Draw(r, "priority"))
	var to []mail.Rcpt
	for i := range rapid.IntRange(1, 4).Draw(r, "recipients") {
		to = append(to, mail.Rcpt{
			To:     mail.ForwardPath{Address: address(fmt.Sprintf("r%d@example.net", i))},
			Notify: rapid.SampledFrom([]mail.Notify{0, mail.NotifyNever, mail.NotifySuccess, mail.NotifyFailure}).Draw(r, "notify"),
		})
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
		if rcpt.Parked != m.paused[msg.List] || rcpt.Parked && rcpt.State != Pending {
			r.Fatalf("accepted as %s, parked %v", rcpt.State, rcpt.Parked)
		}
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
		if m.paused[item.Message.List] {
			r.Fatalf("claimed while its list is paused")
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
	events := 1
	if want == Pending && old {
		want = Expired
	}
	if want == Pending {
		want, events = m.granted(got.ID, want)
		events++
	}
	delete(m.wish, got.ID)
	if got.State != want {
		r.Fatalf("settled as %s, want %s", got.State, want)
	}
	delete(m.held, got.ID)
	m.state[got.ID] = got.State
	m.events[got.ID] += events
}

// granted is the state in which a recipient that is let go is left by what was
// wished for it, and how many events that is. Whether it was due already, and a
// retry is nothing, is read.
func (m *machine) granted(rcpt id.Recipient, free State) (State, int) {
	wish, ok := m.wish[rcpt]
	switch {
	case !ok:
		return free, 0
	case wish == Hold:
		return Held, 1
	case wish == Cancel:
		return Cancelled, 1
	}
	retried := 0
	for _, kind := range m.house.events(m.message[rcpt].ID, rcpt)[m.events[rcpt]:] {
		if kind == event.Retried {
			retried++
		}
	}
	return free, retried
}

func (m *machine) letGo(rcpt id.Recipient) {
	var events int
	m.state[rcpt], events = m.granted(rcpt, Pending)
	m.events[rcpt] += events
	delete(m.held, rcpt)
	delete(m.wish, rcpt)
}

// operateOnSome does something with any recipient, or with all of an account.
func (m *machine) operateOnSome(r *rapid.T) {
	if len(m.state) == 0 {
		return
	}
	ids := slices.SortedFunc(maps.Keys(m.state), id.Recipient.Compare)
	one := ids[rapid.IntRange(0, len(ids)-1).Draw(r, "recipient")]
	do := rapid.SampledFrom([]Operation{Retry, Hold, Resume, Cancel}).Draw(r, "operation")
	of := Selection{Recipient: one}
	if rapid.Bool().Draw(r, "of a list") {
		of = Selection{List: m.message[one].List}
		ids = slices.DeleteFunc(ids, func(o id.Recipient) bool { return m.message[o].List != of.List })
	} else {
		ids = []id.Recipient{one}
	}
	n, err := m.Operate(context.Background(), Order{Do: do, Of: of, Actor: "anna"})
	m.ok(r, err)
	want := 0
	for _, rcpt := range ids {
		if m.operated(rcpt, do) {
			want++
		}
	}
	if n != want {
		r.Fatalf("%s changed %d, want %d", do, n, want)
	}
}

// operated notes what an operation does with a recipient, and whether it does anything.
func (m *machine) operated(rcpt id.Recipient, do Operation) bool {
	was := m.state[rcpt]
	switch {
	case was == Leased && do == Resume:
		held := m.wish[rcpt] == Hold
		if held {
			delete(m.wish, rcpt)
		}
		return held
	case was == Leased:
		again := m.wish[rcpt] == do
		m.wish[rcpt] = do
		return !again
	case was == Pending && do == Retry:
		retried := len(m.house.events(m.message[rcpt].ID, rcpt)) > m.events[rcpt]
		if retried {
			m.events[rcpt]++
		}
		return retried
	}
	to, ok := map[Operation]map[State]State{
		Hold: {Pending: Held}, Resume: {Held: Pending}, Cancel: {Pending: Cancelled, Held: Cancelled},
	}[do][was]
	if ok {
		m.state[rcpt] = to
		m.events[rcpt]++
	}
	return ok
}

// pauseOne stops a list, or lets it go on.
func (m *machine) pauseOne(r *rapid.T) {
	l := rapid.SampledFrom(m.list).Draw(r, "list")
	m.paused[l] = !m.paused[l]
	m.ok(r, m.unpark(context.Background()))
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
	m.letGo(item.Recipient.ID)
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
		m.stale = append(m.stale, item)
		m.letGo(rcpt)
	}
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
		if err := m.checkNotices(tx, stored); err != nil {
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
		m.checkRecipient(r, rcpt)
	}
}

func (m *machine) checkRecipient(r *rapid.T, rcpt Recipient) {
	if rcpt.State != m.state[rcpt.ID] {
		r.Fatalf("%s is %s, want %s", rcpt.ID, rcpt.State, m.state[rcpt.ID])
	}
	if leased := rcpt.State == Leased; leased == rcpt.Lease.IsZero() || (leased && !m.Holds(rcpt.Lease)) {
		r.Fatalf("%s is %s with lease %+v", rcpt.ID, rcpt.State, rcpt.Lease)
	}
	if rcpt.Wish != m.wish[rcpt.ID] {
		r.Fatalf("%s has wish %q, want %q", rcpt.ID, rcpt.Wish, m.wish[rcpt.ID])
	}
	if rcpt.Parked && (rcpt.State != Pending || !m.paused[rcpt.List]) {
		r.Fatalf("%s is %s and parked", rcpt.ID, rcpt.State)
	}
	if rcpt.State.Settled() == rcpt.SettledAt.IsZero() {
		r.Fatalf("%s is %s since %v", rcpt.ID, rcpt.State, rcpt.SettledAt)
	}
}

// checkNotices wants a notice for whom it is due, and for nobody else.
func (m *machine) checkNotices(tx *db.Tx, stored []Recipient) error {
	want := make(map[id.Recipient]NoticeKind)
	for _, rcpt := range stored {
		switch failed := rcpt.State == Failed || rcpt.State == Expired; {
		case failed && rcpt.Notify.OnFailure():
			want[rcpt.ID] = NoticeFailure
		case rcpt.State == Delivered && rcpt.Notify.OnSuccess():
			want[rcpt.ID] = NoticeSuccess
		}
	}
	got := make(map[id.Recipient]NoticeKind)
	_, err := db.Collect(tx, func(row db.Scanner) (struct{}, error) {
		var rcpt id.Recipient
		var kind NoticeKind
		err := row.Scan(&rcpt, &kind)
		got[rcpt] = kind
		return struct{}{}, err
	}, allNotices)
	if err == nil && !maps.Equal(got, want) {
		err = fmt.Errorf("notices %v, want %v", got, want)
	}
	return err
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
