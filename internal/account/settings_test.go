package account

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// A list's settings are kept, and nil changes nothing.
func TestListSettings(t *testing.T) {
	h := open(t)
	verify, retry, lifetime, delay, yes, it := TLSVerify, []time.Duration{time.Minute, time.Hour}, 48*time.Hour, 2*time.Hour, true, "it"
	h.do(t, func(tx *db.Tx) error {
		before, err := h.List(tx, 1)
		if err != nil || !reflect.DeepEqual(before.Settings, Settings{MinTLS: TLSMay, Lang: "en"}) {
			t.Errorf("a new list has %+v, %v", before.Settings, err)
		}
		edited, err := h.EditList(tx, 1, EditList{
			MinTLS: &verify, Retry: &retry, Lifetime: &lifetime, DelayAfter: &delay, Paused: &yes, Lang: &it,
		})
		if err != nil {
			return err
		}
		want := Settings{MinTLS: TLSVerify, Retry: retry, Lifetime: lifetime, DelayAfter: delay, Paused: true, Lang: "it"}
		if !reflect.DeepEqual(edited.Settings, want) || edited.Name != "default" {
			t.Errorf("edited %+v", edited)
		}
		stored, err := h.EditList(tx, 1, EditList{})
		if !reflect.DeepEqual(stored, edited) {
			t.Errorf("stored %+v, returned %+v", stored, edited)
		}
		return err
	})
}

// What is out of its bounds is refused, whatever door it comes by.
func TestSettingsAreBounded(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{})
	text := func(s string) *string { return &s }
	span := func(d time.Duration) *time.Duration { return &d }
	number := func(n int64) *int64 { return &n }
	steps := func(d ...time.Duration) *[]time.Duration { return &d }
	many := make([]netip.Prefix, maxNetworks+1)
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	for name, change := range map[string]any{
		"min_tls":             EditList{MinTLS: text("none")},
		"lang":                EditList{Lang: text("de")},
		"list without a name": EditList{Name: text("")},
		"step of no time":     EditList{Retry: steps(0)},
		"step under a second": EditList{Retry: steps(1500 * time.Millisecond)},
		"step over a day":     EditList{Retry: steps(25 * time.Hour)},
		"21 steps":            EditList{Retry: steps(slices.Repeat([]time.Duration{time.Minute}, 21)...)},
		"short lifetime":      EditList{Lifetime: span(time.Second)},
		"long lifetime":       EditList{Lifetime: span(8 * 24 * time.Hour)},
		"negative delay":      EditList{DelayAfter: span(-time.Hour)},
		"account's speed":     EditAccount{SpeedPerHour: number(-1)},
		"user's speed":        Edit{SpeedPerHour: number(maxRate + 1)},
		"user's quota":        Edit{QuotaPerHour: number(-1)},
		"networks":            Edit{Networks: &many},
		"no network":          Edit{Networks: &[]netip.Prefix{{}}},
	} {
		err := h.db.Batch(t.Context(), func(tx *db.Tx) (err error) {
			switch change := change.(type) {
			case EditList:
				_, err = h.EditList(tx, 1, change)
			case EditAccount:
				_, err = h.EditAccount(tx, 1, change)
			case Edit:
				_, err = h.EditUser(tx, u.Name, change)
			}
			return err
		})
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Networks in one form, however they are written.
func TestParseNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "[]",
		" ,;\n":            "[]",
		"192.0.2.7":        "[192.0.2.7/32]",
		"192.0.2.7/24":     "[192.0.2.0/24]",
		"::ffff:192.0.2.7": "[192.0.2.7/32]",
		"2001:db8::1/32;192.0.2.1, 192.0.2.1\n::": "[192.0.2.1/32 ::/128 2001:db8::/32]",
		"0.0.0.0/0 ::/0": "[0.0.0.0/0 ::/0]",
	} {
		got, err := ParseNetworks(text)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "192.0.2.1/33", "192.0.2", "example.com", "192.0.2.1/"} {
		if got, err := ParseNetworks(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// A user that is bound to networks is refused from elsewhere, after the right
// password only, and in open sessions too.
func TestClientNetworks(t *testing.T) {
	h := open(t)
	networks, err := ParseNetworks("192.0.2.0/24 2001:db8::/32")
	if err != nil {
		t.Fatal(err)
	}
	u, password := h.add(t, NewUser{Active: true, Networks: networks, QuotaPerHour: 100, SpeedPerHour: 50})
	if u.QuotaPerHour != 100 || u.SpeedPerHour != 50 {
		t.Errorf("%+v", u)
	}
	for client, want := range map[string]Reason{
		"192.0.2.9": "", "::ffff:192.0.2.9": "", "2001:db8::9": "", "192.0.3.9": NotFromHere, "2001:db9::9": NotFromHere, "127.0.0.1": NotFromHere,
	} {
		_, err := h.Authenticate(t.Context(), AuthAttempt{Name: u.Name, Password: password, Client: netip.MustParseAddr(client)})
		if why(err) != want {
			t.Errorf("%s: %v, want %q", client, err, want)
		}
		if r := h.try(t, u.Name, wrong(1), client); r == nil || r.Reason != BadCredentials {
			t.Errorf("%s, wrong password: %v", client, r)
		}
	}
	from := netip.MustParseAddr("192.0.2.9")
	p, err := h.Authenticate(t.Context(), AuthAttempt{Name: u.Name, Password: password, Client: from})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	h.edit(t, u.Name, Edit{Networks: &elsewhere})
	if _, err := h.Current(t.Context(), p, from); why(err) != NotFromHere {
		t.Errorf("an open session: %v", err)
	}
	h.edit(t, u.Name, Edit{Networks: &[]netip.Prefix{}})
	if p, err = h.Current(t.Context(), p, from); err != nil || len(p.User.Networks) != 0 {
		t.Errorf("from anywhere again: %v", err)
	}
	// A test comes from this server, wherever the user may come from.
	h.edit(t, u.Name, Edit{Networks: &elsewhere})
	var oneTime string
	h.do(t, func(tx *db.Tx) (err error) { oneTime, err = h.OneTime(tx, u.Name, OneTimeTTL); return err })
	if r := h.try(t, u.Name, oneTime, "127.0.0.1"); r != nil {
		t.Errorf("a test: %v", r)
	}
}

// S9: an old password is good for as long as was chosen, in open sessions too,
// and not a moment longer.
func TestS9_Overlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		u, first := h.add(t, NewUser{Active: true})
		old, err := h.login(t.Context(), u.Name, first)
		if err != nil {
			t.Fatal(err)
		}
		const overlap = 24 * time.Hour
		var second string
		h.do(t, func(tx *db.Tx) (err error) { second, err = h.SetPassword(tx, u.Name, overlap); return err })
		h.do(t, func(tx *db.Tx) error {
			known, err := h.Credentials(tx, u.Name)
			if len(known) != 2 || !known[0].ExpiresAt.IsZero() || time.Until(known[1].ExpiresAt) > overlap || !known[0].SCRAM {
				t.Errorf("credentials %+v", known)
			}
			return err
		})
		expect := func(when string, want Reason) {
			t.Helper()
			if _, err := h.login(t.Context(), u.Name, second); err != nil {
				t.Errorf("%s: the new password: %v", when, err)
			}
			wantAuth := want
			if want == PasswordChanged {
				wantAuth = BadCredentials
			}
			if _, err := h.login(t.Context(), u.Name, first); why(err) != wantAuth {
				t.Errorf("%s: the old password: %v", when, err)
			}
			if _, err := h.Current(t.Context(), old, here); why(err) != want {
				t.Errorf("%s: the old session: %v", when, err)
			}
		}
		expect("at once", "")
		time.Sleep(overlap - time.Minute)
		expect("in its last minute", "")
		time.Sleep(time.Minute)
		expect("over", PasswordChanged)
		if err := h.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.do(t, func(tx *db.Tx) error {
			var n int
			err := tx.Row("SELECT COUNT(*) FROM credential").Scan(&n)
			if n != 1 {
				t.Errorf("%d credentials are left", n)
			}
			return err
		})
	})
}

// Of several regenerations with overlap, the last two passwords are good.
func TestOverlapIsOfTwo(t *testing.T) {
	h := open(t)
	u, first := h.add(t, NewUser{Active: true})
	passwords := []string{first}
	for range 3 {
		h.do(t, func(tx *db.Tx) error {
			password, err := h.SetPassword(tx, u.Name, time.Hour)
			passwords = append(passwords, password)
			return err
		})
	}
	for i, password := range passwords {
		want := BadCredentials
		if i >= 2 {
			want = ""
		}
		if _, err := h.login(t.Context(), u.Name, password); why(err) != want {
			t.Errorf("password %d of 4: %v", i+1, err)
		}
	}
	for _, overlap := range []time.Duration{-1, MaxOverlap + 1} {
		err := h.db.Batch(t.Context(), func(tx *db.Tx) error { _, err := h.SetPassword(tx, u.Name, overlap); return err })
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("overlap %s: %v", overlap, err)
		}
	}
}

// Each password knows when it was last used, so that one sees when the old one is not.
func TestCredentialKnowsItsLastUse(t *testing.T) {
	h := open(t)
	u, first := h.add(t, NewUser{Active: true})
	h.do(t, func(tx *db.Tx) error { _, err := h.SetPassword(tx, u.Name, time.Hour); return err })
	if _, err := h.login(t.Context(), u.Name, first); err != nil {
		t.Fatal(err)
	}
	if err := h.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.do(t, func(tx *db.Tx) error {
		known, err := h.Credentials(tx, u.Name)
		if len(known) != 2 || !known[0].LastUsedAt.IsZero() || known[1].LastUsedAt.IsZero() {
			t.Errorf("credentials %+v", known)
		}
		return err
	})
}

// known is what the look-ups from memory say of a user, its list and its account.
func (h *house) known(t *testing.T, u User) string {
	t.Helper()
	l, errList := h.ListByID(t.Context(), u.List)
	a, errAccount := h.AccountByID(t.Context(), u.Account)
	got, errUser := h.UserByNameCached(t.Context(), u.Name)
	if err := errors.Join(errList, errAccount, errUser); err != nil {
		t.Error(err)
	}
	return fmt.Sprint(l.Number, l.Paused, a.Number, a.SpeedPerHour, got.SpeedPerHour)
}

// Look-ups from memory show own changes at once, and those of other processes
// after Invalidate.
func TestLookupsFromMemory(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{})
	speed, paused := int64(7), true
	expect := func(when, want string) {
		t.Helper()
		if got := h.known(t, u); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	expect("read", "1 false 1 0 0")
	expect("remembered", "1 false 1 0 0")
	h.edit(t, u.Name, Edit{SpeedPerHour: &speed})
	h.do(t, func(tx *db.Tx) error {
		_, err := h.EditAccount(tx, 1, EditAccount{SpeedPerHour: &speed})
		_, errList := h.EditList(tx, 1, EditList{Paused: &paused})
		return errors.Join(err, errList)
	})
	expect("own changes", "1 true 1 7 7")
	h.do(t, func(tx *db.Tx) error { // as another process does
		_, err := tx.Exec("UPDATE account SET speed_per_hour = 8")
		_, errUser := tx.Exec("UPDATE smtp_user SET speed_per_hour = 8")
		_, errList := tx.Exec("UPDATE list SET paused = FALSE")
		return errors.Join(err, errUser, errList)
	})
	expect("foreign changes, not told", "1 true 1 7 7")
	h.Invalidate()
	expect("foreign changes, told", "1 false 1 8 8")
}

// What is not there is not found, and not an error of another kind.
func TestLookupsOfNothing(t *testing.T) {
	h := open(t)
	_, errList := h.ListByID(t.Context(), id.New[id.List]())
	_, errAccount := h.AccountByID(t.Context(), id.New[id.Account]())
	_, errUser := h.UserByNameCached(t.Context(), "s1_99")
	for _, err := range []error{errList, errAccount, errUser} {
		if !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
}
