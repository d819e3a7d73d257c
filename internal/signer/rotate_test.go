package signer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const example mail.Domain = "example.com"

// states is the states of keys, each once, in the order of the keys.
func states(keys []Key) string {
	var all []string
	for _, k := range keys {
		all = append(all, string(k.State))
	}
	return strings.Join(slices.Compact(all), " ")
}

func (h *house) signing1(t *testing.T) string {
	t.Helper()
	keys, err := h.Signers(t.Context(), h.owner, example)
	if err != nil || len(keys) != 2 || keys[0].Algorithm() != "rsa-sha256" {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	return keys[0].Selector
}

// The table in state.go, line by line.
func TestStates(t *testing.T) {
	table := map[State]map[step]State{
		StateNext:    {stepSwitch: StateActive, stepRevoke: StateNext, stepLeave: ""},
		StateActive:  {stepSwitch: StateRetired, stepRevoke: StateActive, stepLeave: StateLeft},
		StateRetired: {stepSwitch: StateRetired, stepRevoke: StateRevoked, stepLeave: ""},
		StateRevoked: {stepSwitch: StateRevoked, stepRevoke: StateRevoked, stepLeave: ""},
		StateLeft:    {stepSwitch: StateLeft, stepRevoke: StateLeft, stepLeave: StateLeft},
	}
	for from, row := range table {
		for by, want := range row {
			if got := from.next(by); got != want {
				t.Errorf("%s, %s: %q, want %q", from, by, got, want)
			}
		}
	}
}

// is compares what was got with what was wanted.
func is[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// steps takes the steps of a rotation as an operator.
type steps struct {
	*house
	order Order
}

// after is the states after a step, or its error.
func after(keys []Key, err error) string {
	for name, known := range map[string]error{
		"rotating": ErrRotating, "not rotating": ErrNotRotating, "unpublished": ErrUnpublished, "too early": ErrTooEarly,
	} {
		if errors.Is(err, known) && errors.Is(err, account.ErrConflict) {
			return name
		}
	}
	if err != nil {
		return err.Error()
	}
	return states(keys)
}

func (s steps) take(t *testing.T, do func(context.Context, id.Account, mail.Domain, Order) ([]Key, error)) string {
	t.Helper()
	return after(do(t.Context(), s.owner, example, s.order))
}

// check returns the states of the keys whose records are not as they should be.
func (s steps) check(t *testing.T) string {
	t.Helper()
	keys, err := s.RotateCheck(t.Context(), s.owner, example)
	if err != nil {
		t.Fatal(err)
	}
	return states(slices.DeleteFunc(keys, func(k Key) bool { return k.Problem == "" }))
}

// Keys are published, checked, switched and revoked, in that order.
func TestRotation(t *testing.T) {
	z := serveZone(t) // outside the bubble: it waits for the network, which would hold the clock
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, z)
		h.add(t, h.owner, example)
		s := steps{h, Order{Actor: "root", Reason: "yearly"}}
		old := h.signing1(t)
		is(t, "nothing to switch to", s.take(t, h.RotateSwitch), "not rotating")
		is(t, "start", s.take(t, h.RotateStart), "active next")
		is(t, "started twice", s.take(t, h.RotateStart), "rotating")
		is(t, "revoked before the switch", s.take(t, h.RotateRevoke), "conflict: no key of example.com is retired")

		keys := h.keys(t, h.owner, example)
		h.zone.publish(keys[:3]) // one of the two new ones
		h.zone.publish(keys[3:], "v=DKIM1; k=ed25519; p=b3RoZXI=")
		is(t, "half published", s.take(t, h.RotateSwitch), "unpublished")
		time.Sleep(time.Second) // what was looked up is kept for a nanosecond
		h.zone.fail(true)
		is(t, "no answer", s.take(t, h.RotateSwitch), "unpublished")
		is(t, "who signs", h.signing1(t), old)
		h.zone.fail(false)
		time.Sleep(10 * time.Second) // a failure is kept for 5 s (RFC 9520)
		h.zone.publish(keys)
		is(t, "published", s.check(t), "")
		is(t, "switch", s.take(t, h.RotateSwitch), "retired active")
		is(t, "who signs", h.signing1(t), keys[2].Selector)

		time.Sleep(OnTheWay - time.Minute)
		is(t, "mail is on its way", s.take(t, h.RotateRevoke), "too early")
		time.Sleep(time.Minute)
		is(t, "revoke", s.take(t, h.RotateRevoke), "revoked active")
		revoked := h.keys(t, h.owner, example)[:2]
		is(t, "record", revoked[0].RecordValue, "v=DKIM1; p=")
		is(t, "octets of the private half", h.sealedSize(t, revoked[0]), 0)
		is(t, "still published as if they were good", s.check(t), "revoked")
		h.zone.publish(revoked)
		time.Sleep(time.Second)
		is(t, "published as revoked", s.check(t), "")
		h.expectAudit(t, "domain.key.revoke", "domain.key.switch", "domain.key.start")
	})
}

func (h *house) sealedSize(t *testing.T, k Key) (size int) {
	t.Helper()
	h.do(t, func(tx *db.Tx) error {
		return tx.Row("SELECT LENGTH(sealed) FROM signer_key WHERE id = $1", k.ID).Scan(&size)
	})
	return size
}

func (h *house) expectAudit(t *testing.T, want ...string) {
	t.Helper()
	h.do(t, func(tx *db.Tx) error {
		all, err := event.Audits(tx, event.AuditFilter{})
		var got []string
		for _, a := range all {
			got = append(got, a.Action)
			if a.Actor != "root" || a.Object != string(example) || a.Reason != "yearly" || a.Account != h.owner {
				t.Errorf("%+v", a)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("audit log %q, want %q", got, want)
		}
		return err
	})
}

// An operator who knows better forces a step; a next pair can be given up.
func TestForcedSteps(t *testing.T) {
	h := open(t)
	h.add(t, h.owner, example)
	old := h.signing1(t)
	force := Order{Actor: "root", Reason: "yearly", Force: true}
	if _, err := h.RotateAbandon(t.Context(), h.owner, example, force); !errors.Is(err, ErrNotRotating) {
		t.Errorf("nothing to abandon: %v", err)
	}
	for _, step := range []struct {
		do   func(context.Context, id.Account, mail.Domain, Order) ([]Key, error)
		want string
	}{
		{h.RotateStart, "active next"},
		{h.RotateAbandon, "active"},
		{h.RotateStart, "active next"},
		{h.RotateSwitch, "retired active"},
		{h.RotateRevoke, "revoked active"},
	} {
		if keys, err := step.do(t.Context(), h.owner, example, force); err != nil || states(keys) != step.want {
			t.Errorf("%s, %v, want %s", states(keys), err, step.want)
		}
	}
	if h.signing1(t) == old {
		t.Error("the old key signs")
	}
	for range (maxKeys - 4) / 2 {
		if _, err := h.RotateStart(t.Context(), h.owner, example, force); err != nil {
			t.Fatal(err)
		}
		if _, err := h.RotateSwitch(t.Context(), h.owner, example, force); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.RotateStart(t.Context(), h.owner, example, force); !errors.Is(err, account.ErrConflict) || errors.Is(err, ErrRotating) {
		t.Errorf("without end: %v", err)
	}
}

// Rotation is of a domain's keys, and of nobody else's.
func TestRotatingWhatIsNotThere(t *testing.T) {
	h := open(t)
	h.add(t, h.owner, example)
	for name, do := range map[string]func(context.Context, id.Account, mail.Domain, Order) ([]Key, error){
		"start": h.RotateStart, "abandon": h.RotateAbandon, "switch": h.RotateSwitch, "revoke": h.RotateRevoke,
	} {
		if _, err := do(t.Context(), id.New[id.Account](), example, Order{}); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s of another account: %v", name, err)
		}
		if _, err := do(t.Context(), h.owner, "example.org", Order{}); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s of another domain: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.RotateCheck(ctx, h.owner, example); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The keys of a removed domain sign what is queued, and end when nothing is.
func TestLeftKeysOutliveWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, nil)
		var queued atomic.Bool
		queued.Store(true)
		h.deps.InUse = func(_ context.Context, owner id.Account, domain mail.Domain) (bool, error) {
			if owner != h.owner || domain != example {
				t.Errorf("asked for %s of %s", domain, owner)
			}
			return queued.Load(), nil
		}
		h.add(t, h.owner, example)
		signs := h.signing1(t)
		if _, err := h.RotateStart(t.Context(), h.owner, example, Order{}); err != nil {
			t.Fatal(err)
		}
		h.do(t, func(tx *db.Tx) error { return h.Leave(tx, h.owner, example) })
		if keys := h.keys(t, h.owner, example); len(keys) != 0 {
			t.Errorf("keys to publish: %+v", keys)
		}
		stop := h.running(t)
		defer stop()
		time.Sleep(20 * 24 * time.Hour)
		if got := h.signing1(t); got != signs {
			t.Errorf("%s signs, want %s", got, signs)
		}
		queued.Store(false)
		time.Sleep(sweepEvery + time.Minute)
		if keys, err := h.Signers(t.Context(), h.owner, example); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
	})
}

// Where nobody knows what is queued, keys are kept for longer than mail can be.
// A domain that comes back signs with keys of its own at once.
func TestLeftKeysAreKeptFor30Days(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, nil)
		stop := h.running(t)
		defer stop()
		h.add(t, h.owner, example)
		first := h.signing1(t)
		for range 2 { // removed, added, removed: what was left last signs
			h.do(t, func(tx *db.Tx) error { return h.Leave(tx, h.owner, example) })
			time.Sleep(time.Hour)
			if got := h.signing1(t); got != first {
				t.Errorf("%s signs, want %s", got, first)
			}
			h.add(t, h.owner, example)
			second := h.signing1(t)
			if second == first {
				t.Error("the keys that were left sign")
			}
			first = second
		}
		h.do(t, func(tx *db.Tx) error { return h.Leave(tx, h.owner, example) })
		time.Sleep(keepLong - time.Hour)
		h.signing1(t)
		time.Sleep(3 * time.Hour)
		if _, err := h.Signers(t.Context(), h.owner, example); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("after 30 days: %v", err)
		}
		h.do(t, func(tx *db.Tx) error {
			var n int
			err := tx.Row("SELECT COUNT(*) FROM signer_key").Scan(&n)
			if n != 0 {
				t.Errorf("%d keys are there", n)
			}
			return err
		})
	})
}

func (h *house) running(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// Revoked keys are forgotten after 30 days, page after page.
func TestRevokedKeysAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, nil)
		const domains = 2*sweepSlice/2 + 3
		for i := range domains {
			name := mail.Domain(strings.Repeat("x", i+1) + ".example")
			h.add(t, h.owner, name)
			h.do(t, func(tx *db.Tx) error {
				keys, err := h.Keys(tx, h.owner, name)
				return errors.Join(err, h.move(tx, keys, stepSwitch))
			})
			h.do(t, func(tx *db.Tx) error {
				keys, err := h.Keys(tx, h.owner, name)
				return errors.Join(err, h.move(tx, keys, stepRevoke))
			})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(keepLong)
		if err := h.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.do(t, func(tx *db.Tx) error {
			var n int
			err := tx.Row("SELECT COUNT(*) FROM signer_key").Scan(&n)
			if n != 0 {
				t.Errorf("%d of %d keys are there", n, 2*domains)
			}
			return err
		})
	})
}

// The hostname's keys are made once, and sign for every account that has none of
// its own for that domain.
func TestHouseKeys(t *testing.T) {
	h := open(t)
	for range 2 {
		if err := h.House(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if keys := h.keys(t, id.Account{}, host); len(keys) != 2 || states(keys) != "active" {
		t.Errorf("%+v", keys)
	}
	of := func(owner id.Account) string {
		t.Helper()
		keys, err := h.Signers(t.Context(), owner, host)
		if err != nil || len(keys) != 2 || keys[0].Domain != host {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		return keys[0].Selector
	}
	houses := of(id.Account{})
	if of(h.owner) != houses || of(id.New[id.Account]()) != houses {
		t.Error("other keys than the house's")
	}
	h.add(t, h.owner, host)
	if of(h.owner) == houses || of(id.Account{}) != houses {
		t.Error("an account's own keys are not its own")
	}
	if keys, err := h.RotateStart(t.Context(), id.Account{}, host, Order{Actor: "root"}); err != nil || states(keys) != "active next" {
		t.Errorf("%s, %v", states(keys), err)
	}
}

// A hostname that is no domain name signs nothing, and is no trouble.
func TestNoHouseKeysWithoutADomain(t *testing.T) {
	h := open(t)
	for _, name := range []string{"", "localhost", "127.0.0.1"} {
		s, err := New(Deps{DB: h.db, Secret: testSecret(), Hostname: name, NewKeys: cheapKeys}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.House(t.Context()); err != nil || s.Host() != "" {
			t.Errorf("%q: %v, signs as %q", name, err, s.Host())
		}
		if _, err := s.Signers(t.Context(), h.owner, s.Host()); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
