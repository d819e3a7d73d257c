package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mittente/internal/db"
)

// house is the room over a fresh database with account 1 and list 1.
type house struct {
	*Accounts
	db  *db.DB
	dir string
	reg *prometheus.Registry
}

func open(tb testing.TB) *house {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "data")
	d, err := db.Open(tb.Context(), db.Config{DataDir: dir}, nil)
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
	reg := prometheus.NewRegistry()
	h := &house{Accounts: New(d, Deps{}, reg), db: d, dir: dir, reg: reg}
	h.do(tb, h.Bootstrap)
	return h
}

// do runs a transaction that must succeed.
func (h *house) do(tb testing.TB, do func(*db.Tx) error) {
	tb.Helper()
	if err := h.db.Batch(tb.Context(), do); err != nil {
		tb.Fatal(err)
	}
}

// add makes a user on a list.
func (h *house) add(tb testing.TB, wanted NewUser) (u User, password string) {
	tb.Helper()
	if wanted.List == 0 {
		wanted.List = 1
	}
	h.do(tb, func(tx *db.Tx) (err error) {
		u, password, err = h.AddUser(tx, wanted)
		return err
	})
	return u, password
}

func (h *house) edit(t *testing.T, name string, change Edit) (u User) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) {
		u, err = h.EditUser(tx, name, change)
		return err
	})
	return u
}

func (h *house) regenerate(t *testing.T, name string) (password string) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) {
		password, err = h.SetPassword(tx, name, 0)
		return err
	})
	return password
}

func (h *house) remove(t *testing.T, name string) {
	t.Helper()
	h.do(t, func(tx *db.Tx) error { return h.RemoveUser(tx, name) })
}

// here is where the clients of most tests are.
var here = netip.MustParseAddr("127.0.0.1")

// forgive makes the guard forget all failures.
func (h *house) forgive() { h.guard = newGuard(h.metrics.guarded) }

// login authenticates over TLS from this machine.
func (h *house) login(ctx context.Context, name, password string) (Principal, error) {
	return h.Authenticate(ctx, AuthAttempt{Name: name, Password: password, TLS: true, Client: here})
}

// why is the reason of a refusal; "" for success, "error" for other errors.
func why(err error) Reason {
	var refused *AuthError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return refused.Reason
	}
	return "error"
}

// A fresh database gets account 1 with list 1, once.
func TestBootstrapMakesAccountAndListOnce(t *testing.T) {
	h := open(t)
	h.do(t, h.Bootstrap)
	h.do(t, func(tx *db.Tx) error {
		accounts, err := h.Accounts.Accounts(tx)
		if err != nil || len(accounts) != 1 || accounts[0].Number != 1 || accounts[0].Name != "default" {
			t.Errorf("accounts %+v, %v", accounts, err)
		}
		lists, err := h.Lists(tx, 0)
		if err != nil || len(lists) != 1 || lists[0].Number != 1 || lists[0].Account != accounts[0].ID || lists[0].AccountNumber != 1 {
			t.Errorf("lists %+v, %v", lists, err)
		}
		return nil
	})
}

// S1: lists belong to accounts, and numbers of both are global.
func TestS1_NumbersAreGlobal(t *testing.T) {
	h := open(t)
	h.do(t, func(tx *db.Tx) error {
		second, err := h.AddAccount(tx, " Zweite Firma ")
		if err != nil || second.Number != 2 || second.Name != "Zweite Firma" {
			t.Errorf("second account %+v, %v", second, err)
		}
		for i, account := range []int64{2, 1, 2} {
			l, err := h.AddList(tx, account, fmt.Sprint("Newsletter ", i))
			if err != nil || l.Number != int64(i)+2 || l.AccountNumber != account {
				t.Errorf("list %d: %+v, %v", i, l, err)
			}
		}
		return nil
	})
	h.do(t, func(tx *db.Tx) error {
		of2, err := h.Lists(tx, 2)
		if len(of2) != 2 || of2[0].Number != 2 || of2[1].Number != 4 {
			t.Errorf("lists of account 2: %+v", of2)
		}
		return err
	})
	u, _ := h.add(t, NewUser{List: 4})
	if u.Name != "s2_1" || u.AccountNumber != 2 || u.ListNumber != 4 {
		t.Errorf("user %+v", u)
	}
}

// Names of accounts and lists may change, also to what they are.
func TestRename(t *testing.T) {
	company, invoices := "Bianchi S.p.A.", "Fatture"
	h := open(t)
	h.do(t, func(tx *db.Tx) error {
		if a, err := h.EditAccount(tx, 1, EditAccount{Name: &company}); err != nil || a.Name != "Bianchi S.p.A." {
			t.Errorf("%+v, %v", a, err)
		}
		if a, err := h.Account(tx, 1); err != nil || a.Name != "Bianchi S.p.A." {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := h.EditAccount(tx, 1, EditAccount{Name: &company}); err != nil {
			t.Errorf("its own name again: %v", err)
		}
		if l, err := h.EditList(tx, 1, EditList{Name: &invoices}); err != nil || l.Name != "Fatture" {
			t.Errorf("%+v, %v", l, err)
		}
		if l, err := h.List(tx, 1); err != nil || l.Name != "Fatture" {
			t.Errorf("%+v, %v", l, err)
		}
		return nil
	})
}

// Every refusal is of one of three kinds, so that a door can tell them apart.
func TestRefusedChanges(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{})
	h.do(t, func(tx *db.Tx) error {
		if _, err := h.AddAccount(tx, "other"); err != nil {
			return err
		}
		_, err := h.AddList(tx, 2, "default")
		return err
	})
	used := "default"
	two, nine, long, ctrl := int64(2), int64(9), string(make([]rune, maxNote+1)), "a\x00b"
	cases := []struct {
		name string
		do   func(tx *db.Tx) error
		want error
	}{
		{"account of a used name", func(tx *db.Tx) error { _, err := h.AddAccount(tx, "default"); return err }, ErrConflict},
		{"account without name", func(tx *db.Tx) error { _, err := h.AddAccount(tx, "  "); return err }, ErrInvalid},
		{"account with a line break", func(tx *db.Tx) error { _, err := h.AddAccount(tx, "a\nb"); return err }, ErrInvalid},
		{"account that is not UTF-8", func(tx *db.Tx) error { _, err := h.AddAccount(tx, "a\xff"); return err }, ErrInvalid},
		{"account renamed to a used name", func(tx *db.Tx) error { _, err := h.EditAccount(tx, 2, EditAccount{Name: &used}); return err }, ErrConflict},
		{"no such account to rename", func(tx *db.Tx) error { _, err := h.EditAccount(tx, 9, EditAccount{}); return err }, ErrNotFound},
		{"list of a used name", func(tx *db.Tx) error { _, err := h.AddList(tx, 1, "default"); return err }, ErrConflict},
		{"list of no account", func(tx *db.Tx) error { _, err := h.AddList(tx, 9, "x"); return err }, ErrNotFound},
		{"list without name", func(tx *db.Tx) error { _, err := h.AddList(tx, 1, ""); return err }, ErrInvalid},
		{"no such list to rename", func(tx *db.Tx) error { _, err := h.EditList(tx, 9, EditList{}); return err }, ErrNotFound},
		{"lists of no account", func(tx *db.Tx) error { _, err := h.Lists(tx, 9); return err }, ErrNotFound},
		{"user of no list", func(tx *db.Tx) error { _, _, err := h.AddUser(tx, NewUser{List: 9}); return err }, ErrNotFound},
		{"priority 6", func(tx *db.Tx) error { _, _, err := h.AddUser(tx, NewUser{List: 1, Priority: 6}); return err }, ErrInvalid},
		{"note too long", func(tx *db.Tx) error { _, err := h.EditUser(tx, u.Name, Edit{Note: &long}); return err }, ErrInvalid},
		{"note with NUL", func(tx *db.Tx) error { _, err := h.EditUser(tx, u.Name, Edit{Note: &ctrl}); return err }, ErrInvalid},
		{"list of another account", func(tx *db.Tx) error { _, err := h.EditUser(tx, u.Name, Edit{List: &two}); return err }, ErrInvalid},
		{"no such list to move to", func(tx *db.Tx) error { _, err := h.EditUser(tx, u.Name, Edit{List: &nine}); return err }, ErrNotFound},
		{"no such user to edit", func(tx *db.Tx) error { _, err := h.EditUser(tx, "s1_9", Edit{}); return err }, ErrNotFound},
		{"no such user to remove", func(tx *db.Tx) error { return h.RemoveUser(tx, "s1_9") }, ErrNotFound},
		{"no such user's password", func(tx *db.Tx) error { _, err := h.SetPassword(tx, "s1_9", 0); return err }, ErrNotFound},
		{"no such user's test", func(tx *db.Tx) error { _, err := h.OneTime(tx, "s1_9", OneTimeTTL); return err }, ErrNotFound},
		{"test that lasts too long", func(tx *db.Tx) error { _, err := h.OneTime(tx, u.Name, 2*OneTimeTTL); return err }, ErrInvalid},
		{"test that lasts no time", func(tx *db.Tx) error { _, err := h.OneTime(tx, u.Name, 0); return err }, ErrInvalid},
		{"users of no account", func(tx *db.Tx) error { _, err := h.Users(tx, Filter{Account: 9}); return err }, ErrNotFound},
		{"users of no list", func(tx *db.Tx) error { _, err := h.Users(tx, Filter{List: 9}); return err }, ErrNotFound},
		{"no such id", func(tx *db.Tx) error { _, err := h.UserByID(tx, [16]byte{1}); return err }, ErrNotFound},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := h.db.Batch(t.Context(), c.do); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Each authentication and session check is counted by its result.
func TestMetrics(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	for _, try := range []string{password, "wrong", password} {
		p, err := h.login(t.Context(), u.Name, try)
		if err == nil {
			_, _ = h.Current(t.Context(), p, here)
		}
	}
	if got := testutil.ToFloat64(h.metrics.auth.WithLabelValues("ok")); got != 2 {
		t.Errorf("%v authentications counted, want 2", got)
	}
	if got := testutil.ToFloat64(h.metrics.auth.WithLabelValues(string(BadCredentials))); got != 1 {
		t.Errorf("%v refusals counted, want 1", got)
	}
	if got := testutil.ToFloat64(h.metrics.sessions.WithLabelValues("ok")); got != 2 {
		t.Errorf("%v session checks counted, want 2", got)
	}
	if got := testutil.ToFloat64(h.metrics.cached.WithLabelValues("users")); got != 1 {
		t.Errorf("%v users in memory, want 1", got)
	}
	if n, err := testutil.GatherAndCount(h.reg); err != nil || n == 0 {
		t.Errorf("%d metrics registered, %v", n, err)
	}
}
