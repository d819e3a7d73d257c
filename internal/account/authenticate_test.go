package account

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"mittente/internal/cache"
	"mittente/internal/db"
)

// The table of Authenticate, with the user in memory and not.
func TestAuthenticate(t *testing.T) {
	h := open(t)
	plain, plainPw := h.add(t, NewUser{Active: true})
	secure, securePw := h.add(t, NewUser{Active: true, RequireTLS: true})
	inactive, inactivePw := h.add(t, NewUser{})
	both, bothPw := h.add(t, NewUser{RequireTLS: true})
	oneTime := map[string]string{}
	for _, u := range []User{plain, secure, inactive} {
		h.do(t, func(tx *db.Tx) (err error) { oneTime[u.Name], err = h.OneTime(tx, u.Name, OneTimeTTL); return err })
	}
	local, there, mapped := "127.0.0.1", "203.0.113.9", "::ffff:127.0.0.1"
	cases := []struct {
		name           string
		user, password string
		tls            bool
		client         string
		want           Reason
	}{
		{"right password", plain.Name, plainPw, false, there, ""},
		{"right password over TLS", plain.Name, plainPw, true, there, ""},
		{"wrong password", plain.Name, strings.Repeat("x", passwordLength), true, there, BadCredentials},
		{"no password", plain.Name, "", true, there, BadCredentials},
		{"password and more", plain.Name, plainPw + "x", true, there, BadCredentials},
		{"most of the password", plain.Name, plainPw[:27], true, there, BadCredentials},
		{"a very long password", plain.Name, strings.Repeat("x", 1<<16), true, there, BadCredentials},
		{"another user's password", plain.Name, securePw, true, there, BadCredentials},
		{"no such user", "s1_99", plainPw, true, there, BadCredentials},
		{"no name", "", plainPw, true, there, BadCredentials},
		{"name in capitals", strings.ToUpper(plain.Name), plainPw, true, there, BadCredentials},

		{"TLS user in clear", secure.Name, securePw, false, there, TLSRequired},
		{"TLS user over TLS", secure.Name, securePw, true, there, ""},
		{"TLS user in clear, wrong password", secure.Name, plainPw, false, there, BadCredentials},

		{"inactive", inactive.Name, inactivePw, true, there, Inactive},
		{"inactive, wrong password", inactive.Name, plainPw, true, there, BadCredentials},
		{"inactive TLS user in clear", both.Name, bothPw, false, there, TLSRequired},
		{"inactive TLS user", both.Name, bothPw, true, there, Inactive},

		{"test from here", plain.Name, oneTime[plain.Name], false, local, ""},
		{"test from here, IPv4 in IPv6", plain.Name, oneTime[plain.Name], false, mapped, ""},
		{"test from here, IPv6", plain.Name, oneTime[plain.Name], false, "::1", ""},
		{"test from elsewhere", plain.Name, oneTime[plain.Name], false, there, NotFromHere},
		{"another user's test", plain.Name, oneTime[secure.Name], false, local, BadCredentials},
		{"test of a TLS user in clear", secure.Name, oneTime[secure.Name], false, local, TLSRequired},
		{"test of an inactive user", inactive.Name, oneTime[inactive.Name], true, local, Inactive},
	}
	for _, c := range cases {
		for _, state := range []string{"known", "unknown"} { // to the memory
			t.Run(c.name+", "+state, func(t *testing.T) {
				if state == "unknown" {
					h.Invalidate()
				}
				h.forgive()
				p, err := h.Authenticate(t.Context(), AuthAttempt{c.user, c.password, c.tls, netip.MustParseAddr(c.client)})
				if why(err) != c.want {
					t.Fatalf("got %v, want %q", err, c.want)
				}
				if err == nil && (p.User.Name != c.user || p.TLS != c.tls || p.OneTime != (c.password == oneTime[c.user])) {
					t.Errorf("principal %+v", p)
				}
				var refused *AuthError
				if errors.As(err, &refused) && refused.User.IsZero() != (c.want == BadCredentials) {
					t.Errorf("refusal %+v", refused)
				}
			})
		}
	}
}

// What a refusal costs must not tell whether there is such a user. A clock
// can't show it in a test; the number of hashes and of looks into the database can.
func TestUnknownUserCostsWhatAWrongPasswordCosts(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	tested, _ := h.add(t, NewUser{Active: true})
	for range oneTimeSlots {
		h.do(t, func(tx *db.Tx) error { _, err := h.OneTime(tx, tested.Name, OneTimeTTL); return err })
	}
	hashes := 0
	h.hash = func(salt [saltSize]byte, password string) [hashSize]byte {
		hashes++
		return hashPassword(salt, password)
	}
	for _, length := range []int{0, 1, passwordLength - 1, passwordLength, passwordLength + 1, oneTimeLength, 300} {
		cost := map[string]int{}
		for _, name := range []string{"s1_99", "nobody", u.Name, tested.Name} {
			for _, known := range []string{"", " known"} {
				if known == "" {
					h.Invalidate()
				}
				hashes = 0
				h.forgive()
				if _, err := h.login(t.Context(), name, strings.Repeat("x", length)); why(err) != BadCredentials {
					t.Fatal(err)
				}
				cost[name+known] = hashes
			}
		}
		h.Invalidate()
		for name, n := range cost {
			if n != cost["nobody"] {
				t.Errorf("%d characters: %s costs %d hashes, nobody %d", length, name, n, cost["nobody"])
			}
		}
	}
	for _, want := range []int{4, 2} { // once read from the database, it is known
		hashes = 0
		if _, err := h.login(t.Context(), u.Name, password); err != nil || hashes != want {
			t.Errorf("right password: %v, %d hashes, want %d", err, hashes, want)
		}
	}
}

// What ends an open session at its next MAIL, with the user in memory and not.
func TestCurrent(t *testing.T) {
	h := open(t)
	yes, no := true, false
	changes := map[string]func(*db.Tx, string) error{
		"note": func(tx *db.Tx, name string) error {
			_, err := h.EditUser(tx, name, Edit{Note: &name})
			return err
		},
		"inactive": func(tx *db.Tx, name string) error {
			_, err := h.EditUser(tx, name, Edit{Active: &no})
			return err
		},
		"active": func(tx *db.Tx, name string) error {
			_, err := h.EditUser(tx, name, Edit{Active: &yes})
			return err
		},
		"tls": func(tx *db.Tx, name string) error {
			_, err := h.EditUser(tx, name, Edit{RequireTLS: &yes})
			return err
		},
		"password": func(tx *db.Tx, name string) error { _, err := h.SetPassword(tx, name, 0); return err },
		"remove":   func(tx *db.Tx, name string) error { return h.RemoveUser(tx, name) },
	}
	for done, want := range map[string]Reason{
		"":                  "",
		"note":              "",
		"remove":            Removed,
		"password":          PasswordChanged, // S9
		"inactive":          Inactive,        // S12
		"tls":               TLSRequired,
		"inactive password": PasswordChanged,
		"inactive tls":      TLSRequired,
		"inactive active":   "",
		"inactive remove":   Removed,
	} {
		t.Run(done, func(t *testing.T) {
			u, password := h.add(t, NewUser{Active: true})
			p, err := h.Authenticate(t.Context(), AuthAttempt{Name: u.Name, Password: password})
			if err != nil {
				t.Fatal(err)
			}
			for change := range strings.FieldsSeq(done) {
				h.do(t, func(tx *db.Tx) error { return changes[change](tx, u.Name) })
			}
			for _, state := range []string{"known", "unknown"} {
				fresh, err := h.Current(t.Context(), p, here)
				if why(err) != want {
					t.Fatalf("%s: got %v, want %q", state, err, want)
				}
				if err == nil && (fresh.User.ID != u.ID || fresh.Credential != p.Credential) {
					t.Errorf("%s: %+v", state, fresh)
				}
				h.Invalidate()
			}
		})
	}
}

// Another process changes the database: this one goes by its memory until it
// is told, except that a right password is never refused from memory.
func TestForeignChange(t *testing.T) {
	h := open(t)
	u, old := h.add(t, NewUser{Active: true})
	p, err := h.login(t.Context(), u.Name, old)
	if err != nil {
		t.Fatal(err)
	}
	other, err := db.Open(t.Context(), db.Config{DataDir: h.dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	foreign := &house{Accounts: New(other, Deps{}, nil), db: other}
	password := foreign.regenerate(t, u.Name)

	if _, err := h.login(t.Context(), u.Name, password); err != nil {
		t.Errorf("the new password is refused: %v", err)
	}
	h.Invalidate()
	if _, err := h.login(t.Context(), u.Name, old); why(err) != BadCredentials {
		t.Errorf("the old password: %v", err)
	}
	if _, err := h.Current(t.Context(), p, here); why(err) != PasswordChanged {
		t.Errorf("the old session: %v", err)
	}
}

// A one-time password is good for one accepted message.
func TestOneTimePassword(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{Active: true})
	var password string
	h.do(t, func(tx *db.Tx) (err error) { password, err = h.OneTime(tx, u.Name, OneTimeTTL); return err })
	p, err := h.login(t.Context(), u.Name, password)
	if err != nil || !p.OneTime {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := h.Current(t.Context(), p, here); err != nil {
		t.Fatal(err)
	}
	// The accepting transaction fails: the password is still good.
	boom := errors.New("boom")
	if err := h.db.Batch(t.Context(), func(tx *db.Tx) error { return errors.Join(h.Spend(tx, p), boom) }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := h.Current(t.Context(), p, here); err != nil {
		t.Errorf("after a rollback: %v", err)
	}
	h.do(t, func(tx *db.Tx) error { return h.Spend(tx, p) })
	if err := h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.Spend(tx, p) }); why(err) != Spent {
		t.Errorf("second message: %v", err)
	}
	if _, err := h.Current(t.Context(), p, here); why(err) != Spent {
		t.Errorf("second MAIL: %v", err)
	}
	if _, err := h.login(t.Context(), u.Name, password); why(err) != BadCredentials {
		t.Errorf("second AUTH: %v", err)
	}
}

// Only one-time passwords are used up.
func TestSpendLeavesLastingPasswordsAlone(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	p, err := h.login(t.Context(), u.Name, password)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		h.do(t, func(tx *db.Tx) error { return h.Spend(tx, p) })
	}
	if _, err := h.login(t.Context(), u.Name, password); err != nil {
		t.Error(err)
	}
}

// A user has few one-time passwords at a time; used ones do not count.
func TestOneTimePasswordsAreFew(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{Active: true})
	var passwords [oneTimeSlots]string
	for i := range passwords {
		h.do(t, func(tx *db.Tx) (err error) { passwords[i], err = h.OneTime(tx, u.Name, OneTimeTTL); return err })
	}
	again := func() error {
		return h.db.Batch(t.Context(), func(tx *db.Tx) error { _, err := h.OneTime(tx, u.Name, OneTimeTTL); return err })
	}
	if err := again(); !errors.Is(err, ErrConflict) {
		t.Errorf("one more: %v", err)
	}
	for _, password := range passwords {
		p, err := h.login(t.Context(), u.Name, password)
		if err != nil {
			t.Fatal(err)
		}
		h.do(t, func(tx *db.Tx) error { return h.Spend(tx, p) })
	}
	if err := again(); err != nil {
		t.Errorf("after they were used: %v", err)
	}
}

// A read that began before a change must not bring the old state back after it.
func TestStaleReadIsNotKept(t *testing.T) {
	h := open(t)
	u, old := h.add(t, NewUser{Active: true})
	_, generation, _ := h.records.Get(u.Name)
	var stale *record
	err := h.db.View(t.Context(), func(tx *db.Tx) error {
		user, err := scanUser(tx.Row(sqlUserByName, u.Name))
		if err != nil {
			return err
		}
		verifiers, err := db.Collect(tx, scanVerifier, sqlVerifiers, user.ID, db.Micros(time.Now()))
		stale = newRecord(user, verifiers)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.regenerate(t, u.Name)
	h.records.Put(u.Name, stale, 1, generation)
	if _, err := h.login(t.Context(), u.Name, old); why(err) != BadCredentials {
		t.Errorf("the old password: %v", err)
	}
	_, generation, _ = h.records.Get(u.Name)
	h.Invalidate()
	h.records.Put(u.Name, stale, 1, generation)
	if _, _, known := h.records.Get(u.Name); known {
		t.Error("a read from before Invalidate was kept")
	}
}

// The same with real readers: while passwords change, no reader ever leaves a
// state in memory that is older than the last commit.
func TestReadersRaceWithRegeneration(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = h.login(t.Context(), u.Name, strings.Repeat("x", passwordLength))
				}
			}
		})
	}
	for range 40 {
		old := password
		password = h.regenerate(t, u.Name)
		if _, err := h.login(t.Context(), u.Name, old); why(err) != BadCredentials {
			t.Errorf("the old password: %v", err)
		}
		if _, err := h.login(t.Context(), u.Name, password); err != nil {
			t.Errorf("the new password: %v", err)
		}
	}
	close(stop)
	readers.Wait()
}

// Memory holds no more users than its limit, and no unknown names.
func TestCacheIsBounded(t *testing.T) {
	h := open(t)
	h.records = cache.New[string, *record](3, h.metrics.cached.WithLabelValues("users"))
	for range 6 {
		u, password := h.add(t, NewUser{Active: true})
		if _, err := h.login(t.Context(), u.Name, password); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.records.Weight(); n != 3 {
		t.Errorf("%d users in memory, want 3", n)
	}
	for range 100 {
		_, _ = h.login(t.Context(), "s1_99", "x")
	}
	if n := h.records.Weight(); n != 3 {
		t.Errorf("%d users in memory after unknown names, want 3", n)
	}
}

// Trouble with the database refuses nobody, and lets known users in.
func TestDatabaseThatDoesNotAnswerIsNoRefusal(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	p, err := h.login(t.Context(), u.Name, password)
	if err != nil {
		t.Fatal(err)
	}
	h.do(t, func(tx *db.Tx) error { _, err := tx.Exec("ALTER TABLE smtp_user RENAME TO gone"); return err })
	if _, err := h.login(t.Context(), u.Name, password); err != nil {
		t.Errorf("a known user is let in from memory: %v", err)
	}
	if _, err := h.Current(t.Context(), p, here); err != nil {
		t.Errorf("a known session goes on from memory: %v", err)
	}
	for _, name := range []string{u.Name, "s1_99"} {
		if _, err := h.login(t.Context(), name, "x"); why(err) != "error" {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.Invalidate()
	if _, err := h.Current(t.Context(), p, here); why(err) != "error" {
		t.Errorf("an unknown session: %v", err)
	}
}

// A verifier that was damaged is an error, not a wrong password.
func TestDamagedVerifierIsNoRefusal(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	h.do(t, func(tx *db.Tx) error {
		_, err := tx.Exec("UPDATE credential SET hash = $1", []byte("short"))
		return err
	})
	if _, err := h.login(t.Context(), u.Name, password); why(err) != "error" {
		t.Errorf("got %v", err)
	}
}

// What a client calls itself can be long; what is logged of it is not.
func TestLongNamesAreCutInErrors(t *testing.T) {
	h := open(t)
	_, err := h.login(t.Context(), strings.Repeat("n", 1<<16), "x")
	if len(err.Error()) > 200 || why(err) != BadCredentials {
		t.Errorf("%.300v", err)
	}
}

// The price of a login from memory: the PHP pattern pays it for every message.
func BenchmarkAuthenticate(b *testing.B) {
	h := open(b)
	u, password := h.add(b, NewUser{Active: true})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.login(b.Context(), u.Name, password); err != nil {
			b.Fatal(err)
		}
	}
}

// The price of a refusal, which reads the database each time.
func BenchmarkAuthenticateRefused(b *testing.B) {
	h := open(b)
	u, _ := h.add(b, NewUser{Active: true})
	for b.Loop() {
		if _, err := h.login(b.Context(), u.Name, strings.Repeat("x", passwordLength)); err == nil {
			b.Fatal("let in")
		}
	}
}
