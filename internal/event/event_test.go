package event

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
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

func add(tb testing.TB, d *db.DB, events ...Event) {
	tb.Helper()
	if err := d.Batch(tb.Context(), func(tx *db.Tx) error { return Append(tx, events...) }); err != nil {
		tb.Fatal(err)
	}
}

// view reads with one of the room's functions.
func view[T any](tb testing.TB, d *db.DB, read func(*db.Tx) (T, error)) T {
	tb.Helper()
	var got T
	err := d.View(tb.Context(), func(tx *db.Tx) (err error) {
		got, err = read(tx)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	d := open(t)
	account, message := id.New[id.Account](), id.New[id.Message]()
	at := time.Date(2026, 11, 24, 15, 0, 0, 123_000, time.UTC)
	events := []Event{
		{Kind: Accepted},
		{Kind: Deferred, Detail: Detail{Attempt: 1, Next: at.Add(time.Minute), Outcome: &mail.Outcome{
			Action: mail.Deferred, Scope: mail.ScopeSite, Code: 451, Status: mail.Status{Class: 4, Subject: 3},
			Diagnostic: "try \"later\" ünd\u2028<so>", RemoteMTA: "mx.example.org", TLS: "TLS1.3",
		}}},
		{Kind: Delivered, Detail: Detail{Attempt: 2, Outcome: &mail.Outcome{Action: mail.Delivered, Code: 250}}},
		{Kind: Failed},
		{Kind: Expired},
		{Kind: Cancelled, Detail: Detail{Note: "by hand"}},
	}
	for i := range events {
		events[i].ID, events[i].Account, events[i].Message = id.New[id.Event](), account, message
		events[i].Recipient = id.New[id.Recipient]()
		events[i].At = at.Add(time.Duration(i) * time.Second)
	}
	add(t, d, events...)
	add(t, d, Event{Account: account, Message: id.New[id.Message](), Kind: Accepted})
	got := view(t, d, func(tx *db.Tx) ([]Event, error) { return OfMessage(tx, message) })
	if !reflect.DeepEqual(got, events) {
		t.Errorf("got %+v\nwant %+v", got, events)
	}
	one := view(t, d, func(tx *db.Tx) (Event, error) { return Get(tx, events[1].ID) })
	if !reflect.DeepEqual(one, events[1]) {
		t.Errorf("got %+v\nwant %+v", one, events[1])
	}
}

func TestAppendSetsIDAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t)
		message := id.New[id.Message]()
		add(t, d, Event{Message: message, Kind: Accepted})
		got := view(t, d, func(tx *db.Tx) ([]Event, error) { return OfMessage(tx, message) })
		if len(got) != 1 || got[0].ID.IsZero() || !got[0].At.Equal(time.Now()) || !got[0].Account.IsZero() {
			t.Errorf("got %+v", got)
		}
	})
}

func TestRefusals(t *testing.T) {
	d := open(t)
	account := id.New[id.Account]()
	refusal := &Refusal{
		User: "s1_1", Address: "a@example.org", Place: "from", Client: "127.0.0.1:1234",
		Reply: "550 5.7.1 not authorised",
	}
	for range 5 {
		add(t, d, Event{Account: account, Kind: Refused, Detail: Detail{Refusal: refusal}},
			Event{Account: id.New[id.Account](), Kind: Refused}, Event{Account: account, Kind: Accepted})
	}
	got := view(t, d, func(tx *db.Tx) ([]Event, error) { return Refusals(tx, account, Page{Limit: 3}) })
	if len(got) != 3 || !slices.IsSortedFunc(got, func(a, b Event) int { return b.ID.Compare(a.ID) }) {
		t.Fatalf("got %+v", got)
	}
	if got[0].Kind != Refused || *got[0].Detail.Refusal != *refusal || !got[0].Message.IsZero() {
		t.Errorf("got %+v", got[0])
	}
}

func TestGetOfNothing(t *testing.T) {
	d := open(t)
	err := d.View(t.Context(), func(tx *db.Tx) error {
		_, err := Get(tx, id.New[id.Event]())
		return err
	})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// Nothing of a transaction that is rolled back is on record.
func TestAppendIsPartOfItsTransaction(t *testing.T) {
	d := open(t)
	message, failed := id.New[id.Message](), errors.New("no")
	err := d.Batch(t.Context(), func(tx *db.Tx) error {
		return errors.Join(Append(tx, Event{Message: message, Kind: Accepted}), failed)
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if got := view(t, d, func(tx *db.Tx) ([]Event, error) { return OfMessage(tx, message) }); len(got) != 0 {
		t.Errorf("on record: %+v", got)
	}
}

func TestRetain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t)
		message := id.New[id.Message]()
		many := make([]Event, 3*slice-50)
		for i := range many {
			many[i] = Event{Message: message, Kind: Accepted}
		}
		add(t, d, many...)
		time.Sleep(time.Hour)
		border := time.Now()
		add(t, d, many[:7]...)
		if err := Retain(t.Context(), d, border); err != nil {
			t.Fatal(err)
		}
		if got := view(t, d, func(tx *db.Tx) ([]Event, error) { return OfMessage(tx, message) }); len(got) != 7 {
			t.Errorf("%d are left, want 7", len(got))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Retain(ctx, d, border); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAudits(t *testing.T) {
	d := open(t)
	var want []Audit
	for i := range 4 {
		a := Audit{
			At: time.Date(2026, 11, 24, 15, i, 0, 0, time.UTC), Account: id.New[id.Account](),
			Actor: "root", Action: "domain.override", Object: fmt.Sprint("d", i), Reason: "moved; \"trusted\"",
		}
		want = append([]Audit{a}, want...)
		if err := d.Batch(t.Context(), func(tx *db.Tx) error { return Record(tx, a) }); err != nil {
			t.Fatal(err)
		}
	}
	got := view(t, d, func(tx *db.Tx) ([]Audit, error) { return Audits(tx, AuditFilter{Page: Page{Limit: 3}}) })
	for i := range got {
		want[i].ID = got[i].ID
	}
	if !slices.Equal(got, want[:3]) || !slices.IsSortedFunc(got, func(a, b Audit) int { return b.ID.Compare(a.ID) }) {
		t.Errorf("got %+v\nwant %+v", got, want[:3])
	}
	if err := Retain(t.Context(), d, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := view(t, d, func(tx *db.Tx) ([]Audit, error) { return Audits(tx, AuditFilter{}) }); len(got) != 4 {
		t.Errorf("%d deeds are left of 4", len(got))
	}
	if err := d.Batch(t.Context(), func(tx *db.Tx) error { return Record(tx, Audit{Actor: "root"}) }); err != nil {
		t.Fatal(err)
	}
	if got := view(t, d, func(tx *db.Tx) ([]Audit, error) { return Audits(tx, AuditFilter{Page: Page{Limit: 1}}) }); got[0].At.IsZero() {
		t.Error("no time")
	}
}

// The audit log by account, by actor, by the beginning of the action, and page by page.
func TestAuditFilter(t *testing.T) {
	d := open(t)
	one, two := id.New[id.Account](), id.New[id.Account]()
	for i, a := range []Audit{
		{Account: one, Actor: "anna", Action: "user.add"},
		{Account: one, Actor: "bruno", Action: "user.edit"},
		{Account: two, Actor: "anna", Action: "user.add"},
		{Actor: "anna", Action: "list.edit"},
		{Actor: "Anna", Action: "User.add"},
	} {
		a.Object = fmt.Sprint(i)
		if err := d.Batch(t.Context(), func(tx *db.Tx) error { return Record(tx, a) }); err != nil {
			t.Fatal(err)
		}
	}
	last := view(t, d, func(tx *db.Tx) ([]Audit, error) { return Audits(tx, AuditFilter{Page: Page{Limit: 2}}) })[1].ID
	for name, c := range map[string]struct {
		filter AuditFilter
		want   string
	}{
		"all":             {AuditFilter{}, "43210"},
		"of an account":   {AuditFilter{Account: one}, "10"},
		"of an actor":     {AuditFilter{Actor: "anna"}, "320"},
		"of an action":    {AuditFilter{Action: "user.add"}, "20"},
		"of its kind":     {AuditFilter{Action: "user."}, "210"},
		"no wildcard":     {AuditFilter{Action: "user%"}, ""},
		"of all three":    {AuditFilter{Account: one, Actor: "anna", Action: "user"}, "0"},
		"the first page":  {AuditFilter{Page: Page{Limit: 2}}, "43"},
		"the page behind": {AuditFilter{Page: Page{Limit: 2, Before: last}}, "21"},
		"of another page": {AuditFilter{Account: one, Page: Page{Before: last}}, "10"},
	} {
		var got string
		for _, a := range view(t, d, func(tx *db.Tx) ([]Audit, error) { return Audits(tx, c.filter) }) {
			got += a.Object
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Refusals page by page, of one account and of all.
func TestRefusalsByPage(t *testing.T) {
	d := open(t)
	account := id.New[id.Account]()
	for range 5 {
		add(t, d, Event{Account: account, Kind: Refused}, Event{Kind: Refused}, Event{Account: account, Kind: Accepted})
	}
	for which, want := range map[id.Account]int{account: 5, {}: 10} {
		seen := 0
		for page := (Page{Limit: 2}); ; {
			got := view(t, d, func(tx *db.Tx) ([]Event, error) { return Refusals(tx, which, page) })
			if len(got) == 0 {
				break
			}
			seen += len(got)
			page.Before = got[len(got)-1].ID
		}
		if seen != want {
			t.Errorf("%d refusals, want %d", seen, want)
		}
	}
}
