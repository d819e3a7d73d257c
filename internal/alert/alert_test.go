package alert

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

func open(tb testing.TB) *db.DB {
	tb.Helper()
	d, err := db.Open(tb.Context(), db.Config{DataDir: tb.TempDir(), ReserveBytes: 1}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := d.Migrate(tb.Context(), Schema()); err != nil {
		tb.Fatal(err)
	}
	return d
}

func raise(tb testing.TB, d *db.DB, all ...Alert) {
	tb.Helper()
	err := d.Batch(tb.Context(), func(tx *db.Tx) error {
		for _, a := range all {
			if err := Raise(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func list(tb testing.TB, d *db.DB, filter Filter) (all []Alert) {
	tb.Helper()
	err := d.View(tb.Context(), func(tx *db.Tx) (err error) {
		all, err = List(tx, filter)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// S18: what is the same trouble is one entry, counted, with the newest facts.
func TestS18_RepeatsAreOneEntry(t *testing.T) {
	d := open(t)
	account, lst := id.New[id.Account](), id.New[id.List]()
	first := time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)
	event := id.New[id.Event]()
	for i := range 5 {
		a := Alert{
			Account: account, List: lst, Kind: SenderDomain, Key: "s1_1 from x@example.org", LastAt: first.Add(time.Duration(i) * time.Minute),
			Facts: map[string]string{"client": fmt.Sprint("192.0.2.", i), "empty": ""},
		}
		if i == 4 {
			a.Event = event
		}
		raise(t, d, a)
	}
	got := list(t, d, Filter{})
	if len(got) != 1 {
		t.Fatalf("%d entries", len(got))
	}
	want := Alert{
		ID: got[0].ID, Account: account, List: lst, Kind: SenderDomain, Key: "s1_1 from x@example.org", Count: 5,
		FirstAt: first, LastAt: first.Add(4 * time.Minute), Event: event, Facts: map[string]string{"client": "192.0.2.4"},
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %+v\nwant %+v", got[0], want)
	}
}

// Another account, list, kind or key is another trouble.
func TestWhatDiffersIsAnotherEntry(t *testing.T) {
	d := open(t)
	a := Alert{Account: id.New[id.Account](), List: id.New[id.List](), Kind: Queue, Key: "k"}
	all := []Alert{a, a, a, a, a, {Kind: Queue, Key: "k"}}
	all[1].Account = id.New[id.Account]()
	all[2].List = id.List{}
	all[3].Kind = Security
	all[4].Key = "K"
	raise(t, d, all...)
	raise(t, d, all...)
	got := list(t, d, Filter{})
	if len(got) != len(all) {
		t.Fatalf("%d entries of %d", len(got), len(all))
	}
	for _, e := range got {
		if e.Count != 2 {
			t.Errorf("%+v", e)
		}
	}
}

// S18: three different From under one reverse-path become one entry, also for
// those that come later; one or two stay what they are.
func TestS18_OnlineForm(t *testing.T) {
	d := open(t)
	account := id.New[id.Account]()
	visitor := func(name string) Alert {
		return Alert{
			Account: account, Kind: SenderDomain, Key: "s1_1 from " + name,
			Facts: map[string]string{"address": name, "user": "s1_1"},
			Group: Group{Key: "s1_1 form", Most: 3, Vary: "address", Facts: map[string]string{"pattern": "online_form"}},
		}
	}
	other := Alert{Account: account, Kind: SenderDomain, Key: "s1_1 reverse-path a@example.org"}
	raise(t, d, visitor("a@example.org"), other, visitor("b@example.org"), visitor("a@example.org"))
	if got := list(t, d, Filter{}); len(got) != 3 {
		t.Fatalf("%d entries before the third address", len(got))
	}
	for i := range 10 {
		raise(t, d, visitor(fmt.Sprintf("v%d@example.org", i)))
	}
	got := list(t, d, Filter{})
	if len(got) != 2 {
		t.Fatalf("%d entries: %+v", len(got), got)
	}
	form := got[0]
	if form.Key != "s1_1 form" || form.Count != 13 || form.Facts["pattern"] != "online_form" || form.Facts["user"] != "s1_1" || form.Facts["address"] != "" {
		t.Errorf("%+v", form)
	}
	if want := "v9@example.org v8@example.org v7@example.org v6@example.org v5@example.org"; form.Facts[FactExamples] != want {
		t.Errorf("examples %q, want %q", form.Facts[FactExamples], want)
	}
	ack(t, d, form.ID)
	raise(t, d, visitor("a@example.org"))
	if got := list(t, d, Filter{}); len(got) != 2 || got[0].Key != "s1_1 from a@example.org" {
		t.Errorf("after it was acknowledged: %+v", got)
	}
}

func ack(t *testing.T, d *db.DB, which id.Alert) (a Alert) {
	t.Helper()
	err := d.Batch(t.Context(), func(tx *db.Tx) (err error) {
		a, err = Ack(tx, which, "anna")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What happens after somebody has seen to it is news.
func TestAck(t *testing.T) {
	d := open(t)
	raise(t, d, Alert{Kind: Security, Key: "k"})
	which := list(t, d, Filter{})[0].ID
	done := ack(t, d, which)
	if done.AckedBy != "anna" || done.AckedAt.IsZero() {
		t.Errorf("%+v", done)
	}
	if got := list(t, d, Filter{}); len(got) != 0 {
		t.Errorf("open: %+v", got)
	}
	err := d.Batch(t.Context(), func(tx *db.Tx) error {
		again, err := Ack(tx, which, "bruno")
		if again.AckedBy != "anna" {
			t.Errorf("acknowledged again: %+v", again)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	raise(t, d, Alert{Kind: Security, Key: "k"}, Alert{Kind: Security, Key: "k"})
	if got := list(t, d, Filter{All: true}); len(got) != 2 || got[0].Count != 2 || got[1].Count != 1 {
		t.Errorf("all: %+v", got)
	}
	err = d.Batch(t.Context(), func(tx *db.Tx) error { _, err := Ack(tx, id.New[id.Alert](), "anna"); return err })
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("no such alert: %v", err)
	}
}

func TestList(t *testing.T) {
	d := open(t)
	one, two := id.New[id.Account](), id.New[id.Account]()
	for i := range 10 {
		raise(t, d, Alert{Account: one, Kind: Queue, Key: fmt.Sprint(i)})
	}
	raise(t, d, Alert{Account: two, Kind: Queue, Key: "0"}, Alert{Kind: Security, Key: "0"})
	for name, c := range map[string]struct {
		filter Filter
		want   int
	}{
		"all":            {Filter{}, 12},
		"of an account":  {Filter{Account: one}, 10},
		"of a kind":      {Filter{Kind: Security}, 1},
		"of both":        {Filter{Account: two, Kind: Security}, 0},
		"the first page": {Filter{Limit: 5}, 5},
	} {
		if got := list(t, d, c.filter); len(got) != c.want {
			t.Errorf("%s: %d, want %d", name, len(got), c.want)
		}
	}
	var seen []id.Alert
	for page := list(t, d, Filter{Limit: 5}); len(page) > 0; page = list(t, d, Filter{Limit: 5, Before: seen[len(seen)-1]}) {
		for _, a := range page {
			seen = append(seen, a.ID)
		}
	}
	if len(seen) != 12 {
		t.Errorf("pages have %d", len(seen))
	}
	err := d.View(t.Context(), func(tx *db.Tx) error {
		a, err := Get(tx, seen[3])
		if a.ID != seen[3] {
			t.Errorf("%+v", a)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Nothing of what a client says can make an entry large, or be taken for another.
func TestLongTextsAreCut(t *testing.T) {
	d := open(t)
	long := strings.Repeat("x", 1<<16)
	facts := map[string]string{"long": long, "broken": "a\xff"}
	for i := range 100 {
		facts[fmt.Sprint("f", i)] = "x"
	}
	raise(t, d, Alert{Kind: Security, Key: long + "1", Facts: facts}, Alert{Kind: Security, Key: long + "2\xff", Facts: facts})
	got := list(t, d, Filter{})
	if len(got) != 2 || got[0].Key == got[1].Key {
		t.Fatalf("%d entries", len(got))
	}
	for _, a := range got {
		if len(a.Key) > 400 || len(a.Facts) > maxFacts || len(a.Facts["long"]) > maxFact || a.Facts["broken"] != "a?" {
			t.Errorf("%.500v", a)
		}
	}
}

// Nothing of a transaction that is rolled back is raised.
func TestRaiseIsPartOfItsTransaction(t *testing.T) {
	d := open(t)
	failed := errors.New("no")
	err := d.Batch(t.Context(), func(tx *db.Tx) error { return errors.Join(Raise(tx, Alert{Kind: Queue, Key: "k"}), failed) })
	if got := list(t, d, Filter{}); !errors.Is(err, failed) || len(got) != 0 {
		t.Errorf("%v, %+v", err, got)
	}
}

func TestRetain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t)
		for i := range 2*slice + 10 {
			raise(t, d, Alert{Kind: Queue, Key: fmt.Sprint(i)})
		}
		time.Sleep(time.Hour)
		raise(t, d, Alert{Kind: Queue, Key: "1"}, Alert{Kind: Queue, Key: "new"})
		if err := Retain(t.Context(), d, time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := list(t, d, Filter{Limit: 1000}); len(got) != 2 {
			t.Errorf("%d are left, want the two that happened lately", len(got))
		}
	})
}

// Keep goes on after the database refused, and ends when it is told to.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t)
		raise(t, d, Alert{Kind: Queue, Key: "old"})
		var failures int
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Keep(ctx, d, 90*time.Minute, func(error) { failures++ }) }()
		rename := func(q db.SQL) {
			t.Helper()
			if err := d.Batch(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(q); return err }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		rename("ALTER TABLE alert RENAME TO gone")
		time.Sleep(time.Hour)
		rename("ALTER TABLE gone RENAME TO alert")
		raise(t, d, Alert{Kind: Queue, Key: "new"})
		time.Sleep(time.Hour)
		if got := list(t, d, Filter{}); failures != 1 || len(got) != 1 || got[0].Key != "new" {
			t.Errorf("%d failures, then %+v", failures, got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The price of one more repeat, and of one more visitor of a form.
func BenchmarkRaise(b *testing.B) {
	d := open(b)
	for b.Loop() {
		raise(b, d, Alert{
			Kind: SenderDomain, Key: "s1_1 from x@example.org", Facts: map[string]string{"address": "x@example.org"},
			Group: Group{Key: "s1_1 form", Most: 3, Vary: "address"},
		})
	}
}
