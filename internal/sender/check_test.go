package sender

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"mittente/internal/cache"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// S20: what kind of entry covers what kind of address, by the state of the
// entry's domain.
func TestS20_Matrix(t *testing.T) {
	cases := []struct {
		name   string
		listed string
		domain mail.Domain // whose state is varied
		from   string
		covers bool
	}{
		{"domain", "example.com", "example.com", "a@example.com", true},
		{"domain, case", "EXAMPLE.com", "example.com", "a@Example.COM", true},
		{"domain, any local-part", "example.com", "example.com", `"a b@c"@example.com`, true},
		{"domain, subdomain", "example.com", "example.com", "a@mail.example.com", false},
		{"domain, parent", "mail.example.com", "mail.example.com", "a@example.com", false},
		{"domain, end alike", "example.com", "example.com", "a@notexample.com", false},
		{"domain, beginning alike", "example.com", "example.com", "a@example.com.evil.test", false},
		{"domain, hyphen", "example.com", "example.com", "a@my-example.com", false},
		{"domain, look-alike in Cyrillic", "example.com", "example.com", "a@ехаmple.com", false},
		{"domain, international", "müller.example", "xn--mller-kva.example", "a@MÜLLER.example", true},
		{"domain, international as A-label", "müller.example", "xn--mller-kva.example", "a@XN--MLLER-KVA.example", true},
		{"domain, listed as A-label", "xn--mller-kva.example", "xn--mller-kva.example", "a@müller.example", true},
		{"domain, without its umlaut", "müller.example", "xn--mller-kva.example", "a@muller.example", false},
		{"domain, in full-width letters", "example.com", "example.com", "a@ｅｘａｍｐｌｅ.com", true},
		{"domain, in the local-part", "example.com", "example.com", `"a@example.com"@evil.test`, false},

		{"wildcard, one below", "*.example.com", "example.com", "a@mail.example.com", true},
		{"wildcard, three below", "*.example.com", "example.com", "a@x.y.z.example.com", true},
		{"wildcard, case", "*.EXAMPLE.com", "example.com", "a@Mail.example.COM", true},
		{"wildcard, itself", "*.example.com", "example.com", "a@example.com", false},
		{"wildcard, end alike", "*.example.com", "example.com", "a@x.notexample.com", false},
		{"wildcard, not between labels", "*.example.com", "example.com", "a@mailexample.com", false},
		{"wildcard, above", "*.mail.example.com", "mail.example.com", "a@example.com", false},
		{"wildcard, beside", "*.mail.example.com", "mail.example.com", "a@web.example.com", false},
		{"wildcard, international", "*.müller.example", "xn--mller-kva.example", "a@post.müller.example", true},

		{"address", "info@example.com", "example.com", "info@example.com", true},
		{"address, case", "Info@Example.com", "example.com", "iNFO@exAmple.com", true},
		{"address, quoted for nothing", "info@example.com", "example.com", `"info"@example.com`, true},
		{"address, tag", "info@example.com", "example.com", "info+tag@example.com", false},
		{"address, listed with tag", "info+tag@example.com", "example.com", "info@example.com", false},
		{"address, dots count", "info.it@example.com", "example.com", "infoit@example.com", false},
		{"address, another local-part", "info@example.com", "example.com", "other@example.com", false},
		{"address, longer local-part", "info@example.com", "example.com", "myinfo@example.com", false},
		{"address, subdomain", "info@example.com", "example.com", "info@mail.example.com", false},
		{"address, another domain", "info@example.com", "example.com", "info@example.org", false},
		{"address, case outside ASCII", "é@example.com", "example.com", "É@example.com", false},
		{"address, international domain", "info@müller.example", "xn--mller-kva.example", "info@Müller.example", true},
	}
	h := open(t)
	for _, c := range cases {
		listed, err := ParseEntries(c.listed)
		if err != nil {
			t.Fatal(err)
		}
		h.authorise(t, h.user, c.listed)
		for _, state := range []State{StatePending, StateVerified, StateFailed, StateRevoked, ""} {
			t.Run(fmt.Sprintf("%s, %s", c.name, state), func(t *testing.T) {
				want := NotAuthorised.String()
				if c.covers && state != "" {
					want = fmt.Sprintf("%s by %s", Pending, listed[0])
				}
				if c.covers && state == StateVerified {
					want = fmt.Sprintf("%s by %s, signs %s", Authorised, listed[0], c.domain)
				}
				if state == "" { // verified, and not listed: authorises nobody by itself
					h.deauthorise(t, h.user, c.listed)
					state = StateVerified
				}
				h.force(t, c.domain, state)
				if got := h.judgement(t, c.from); got != want {
					t.Errorf("%s listed: %s is %s, want %s", c.listed, c.from, got, want)
				}
			})
		}
	}
}

// S20: the best verdict counts, and the most exact entry that can sign.
func TestS20_SeveralEntriesCoverAnAddress(t *testing.T) {
	cases := []struct {
		name     string
		listed   string
		verified string
		want     string
	}{
		{"nothing", "", "example.com a.example.com", "not_authorised"},
		{"the most exact pending", "*.example.com a.example.com x@a.example.com", "", "pending by a.example.com"},
		{"domain before address", "a.example.com, x@a.example.com", "a.example.com", "authorised by a.example.com, signs a.example.com"},
		{"address before wildcard", "x@a.example.com *.example.com", "a.example.com example.com", "authorised by x@a.example.com, signs a.example.com"},
		{"verified wildcard before pending domain", "a.example.com *.example.com", "example.com", "authorised by *.example.com, signs example.com"},
		{"pending wildcard, verified address", "x@a.example.com *.example.com", "a.example.com", "authorised by x@a.example.com, signs a.example.com"},
		{"a wildcard does not cover its base", "*.example.com *.a.example.com", "example.com a.example.com", "authorised by *.example.com, signs example.com"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			h.authorise(t, h.user, c.listed)
			for name := range strings.FieldsSeq(c.verified) {
				h.force(t, mail.Domain(name), StateVerified)
			}
			if got := h.judgement(t, "x@a.example.com"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// An address that has been verified by itself (by mail) authorises, and nobody
// can sign for it unless a verified domain covers it as well.
func TestAddressVerifiedByItself(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "x@a.example.com *.example.com")
	h.do(t, func(tx *db.Tx) error {
		_, err := tx.Exec("UPDATE sender_address SET state = $1", string(StateVerified))
		return err
	})
	if got := h.judgement(t, "x@a.example.com"); got != "authorised by x@a.example.com, signs relay.example.net" {
		t.Error(got)
	}
	h.force(t, "example.com", StateVerified)
	if got := h.judgement(t, "x@a.example.com"); got != "authorised by *.example.com, signs example.com" {
		t.Error(got)
	}
}

// S20: senders are those of that user.
func TestS20_OneUsersSendersAreNotAnothers(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com")
	h.force(t, "example.com", StateVerified)
	colleague, stranger := h.newUser(t, 1), h.newAccount(t, "other")
	h.authorise(t, stranger, "example.com")
	for user, want := range map[id.User]Verdict{h.user.ID: Authorised, colleague.ID: NotAuthorised, stranger.ID: Pending} {
		got, _, err := h.Check(t.Context(), user, address(t, "a@example.com"))
		if err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", user, got, err, want)
		}
	}
}

// A null reverse-path is covered by nothing.
func TestNoAddressIsNotAuthorised(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com *.example.com")
	h.force(t, "example.com", StateVerified)
	verdict, _, err := h.Check(t.Context(), h.user.ID, mail.Address{})
	if err != nil || verdict != NotAuthorised {
		t.Errorf("%v, %v", verdict, err)
	}
}

// Own changes count at once, whatever was in memory.
func TestOwnChangesCountAtOnce(t *testing.T) {
	h := open(t)
	const from = "a@example.com"
	expect := func(want string) {
		t.Helper()
		for range 2 { // read, and remembered
			if got := h.judgement(t, from); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
	expect("not_authorised")
	h.authorise(t, h.user, "example.com")
	expect("pending by example.com")
	h.do(t, func(tx *db.Tx) error {
		_, err := h.Override(tx, h.user.Account, "example.com", "root", "moved from the old relay")
		return err
	})
	expect("authorised by example.com, signs example.com")
	h.force(t, "example.com", StateRevoked)
	expect("pending by example.com")
	h.zone.set("_mittente.example.com", h.records(t, "example.com")[0].Value)
	if _, _, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com"); err != nil {
		t.Fatal(err)
	}
	expect("authorised by example.com, signs example.com")
	h.deauthorise(t, h.user, "example.com")
	expect("not_authorised")
	h.authorise(t, h.user, from)
	expect("authorised by a@example.com, signs example.com")
}

// What another process changed counts once this one is told.
func TestForeignChangeCountsAfterInvalidate(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com")
	if got := h.judgement(t, "a@example.com"); got != "pending by example.com" {
		t.Fatal(got)
	}
	foreign := &house{db: openDB(t, h.dir), zone: h.zone, user: h.user}
	foreign.Senders = foreign.room(t, nil)
	foreign.force(t, "example.com", StateVerified)
	h.Invalidate()
	if got := h.judgement(t, "a@example.com"); got != "authorised by example.com, signs example.com" {
		t.Error(got)
	}
}

// A read that began before a change must not bring the old state back after it.
func TestStaleReadIsNotKept(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com")
	h.force(t, "example.com", StateVerified)
	stale, err := h.snapshot(t.Context(), h.user.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(){
		"deauthorised": func() { h.deauthorise(t, h.user, "example.com") },
		"authorised":   func() { h.authorise(t, h.user, "example.com") },
		"revoked":      func() { h.force(t, "example.com", StateRevoked) },
		"foreign":      h.Invalidate,
	} {
		_, generation, _ := h.snapshots.Get(h.user.ID)
		change()
		h.snapshots.Put(h.user.ID, stale, 2, generation)
		if _, _, known := h.snapshots.Get(h.user.ID); known {
			t.Errorf("%s: a read from before is kept", name)
		}
	}
}

// While many read, each change counts as soon as it is committed.
func TestReadersRaceWithChanges(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com")
	a := address(t, "a@example.com")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _, _ = h.Check(t.Context(), h.user.ID, a)
				}
			}
		})
	}
	for range 40 {
		for _, state := range []State{StateVerified, StateRevoked} {
			h.force(t, "example.com", state)
			verdict, _, err := h.Check(t.Context(), h.user.ID, a)
			if err != nil || (verdict == Authorised) != (state == StateVerified) {
				t.Errorf("%s: %s, %v", state, verdict, err)
			}
		}
	}
	close(stop)
	readers.Wait()
}

// Memory is bounded by the sum of entries, not by users.
func TestMemoryIsBoundedByWeight(t *testing.T) {
	h := open(t)
	h.snapshots = cache.New[id.User, *snapshot](10, h.metrics.cached)
	for n := range 6 {
		u := h.newUser(t, 1)
		h.authorise(t, u, "a@example.com b@example.com c@example.com")
		if _, _, err := h.Check(t.Context(), u.ID, address(t, "a@example.com")); err != nil {
			t.Fatal(err)
		}
		if got := h.snapshots.Weight(); got == 0 || got > 8 || got%4 != 0 {
			t.Errorf("after %d users: weight %d", n+1, got)
		}
	}
	h.Invalidate()
	if got := h.snapshots.Weight(); got != 0 {
		t.Errorf("weight %d after Invalidate", got)
	}
}

// Trouble with the database is an error, not a verdict.
func TestDatabaseThatDoesNotAnswerIsNoVerdict(t *testing.T) {
	h := open(t)
	h.do(t, func(tx *db.Tx) error { _, err := tx.Exec("ALTER TABLE sender_entry RENAME TO gone"); return err })
	if _, _, err := h.Check(t.Context(), h.user.ID, address(t, "a@example.com")); err == nil {
		t.Error("no error")
	}
}

// The price of a verdict from memory: each message pays it twice or more.
func BenchmarkCheck(b *testing.B) {
	h := open(b)
	h.authorise(b, h.user, "example.com *.example.org info@example.net")
	h.force(b, "example.org", StateVerified)
	a := address(b, "someone@very.deep.mail.example.org")
	b.ReportAllocs()
	for b.Loop() {
		if verdict, _, err := h.Check(b.Context(), h.user.ID, a); err != nil || verdict != Authorised {
			b.Fatal(verdict, err)
		}
	}
}
