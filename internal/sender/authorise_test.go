package sender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

func (h *house) entries(t *testing.T) (all []Entry) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) { all, err = h.Entries(tx, h.user.ID); return err })
	return all
}

// S16: entries are kept once each, and shown with state and the domain they are verified through.
func TestS16_AuthoriseShowsEntriesWithTheirState(t *testing.T) {
	h := open(t)
	h.force(t, "example.com", StateVerified)
	h.authorise(t, h.user, "Example.com; *.example.com, Info@example.com x@example.org *.new.example")
	h.authorise(t, h.user, "info@EXAMPLE.com example.com") // once more
	want := []string{
		"{wildcard *.example.com verified example.com}",
		"{wildcard *.new.example pending }",
		"{domain example.com verified example.com}",
		"{address Info@example.com verified example.com}",
		"{address x@example.org pending }",
	}
	var got []string
	for _, e := range h.entries(t) {
		got = append(got, fmt.Sprintf("{%s %s %s %s}", e.Kind, e.Text, e.State, e.Through))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	text, err := json.Marshal(h.entries(t)[4])
	if err != nil || string(text) != `{"kind":"address","text":"x@example.org","state":"pending"}` {
		t.Errorf("%s, %v", text, err)
	}
	// The typed domain is the account's now, with keys to publish; the domain of an address is not.
	h.do(t, func(tx *db.Tx) error {
		domains, err := h.Domains(tx, h.user.Account)
		if err != nil || len(domains) != 2 || domains[0].Name != "example.com" || domains[1].Name != "new.example" || domains[1].State != StatePending {
			t.Errorf("domains %+v, %v", domains, err)
		}
		return nil
	})
	if records := h.records(t, "new.example"); len(records) != 5 {
		t.Errorf("records %+v", records)
	}
}

// S13: the last verified entry goes away, and comes back.
func TestS13_Effective(t *testing.T) {
	h := open(t)
	expect := func(what string, want bool) {
		t.Helper()
		if got := h.effective(t); got != want {
			t.Errorf("%s: effective %t, want %t", what, got, want)
		}
	}
	expect("nothing listed", false)
	h.force(t, "example.com", StateVerified)
	expect("a domain verified and not listed", false)
	h.authorise(t, h.user, "pending.example x@example.net")
	expect("pending entries", false)
	h.authorise(t, h.user, "x@example.com")
	expect("an address verified through its domain", true)
	h.force(t, "example.com", StateRevoked)
	expect("its domain revoked", false)
	h.force(t, "example.com", StateVerified)
	expect("and back", true)
	h.deauthorise(t, h.user, "x@example.com")
	expect("taken off the list", false)
	h.authorise(t, h.user, "*.example.com")
	expect("a wildcard", true)
}

// Entries are taken away in any spelling; one that is not there leaves the others.
func TestDeauthorise(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com *.example.com info@example.com")
	h.deauthorise(t, h.user, "EXAMPLE.com INFO@example.com")
	if got := h.entries(t); len(got) != 1 || got[0].Text != "*.example.com" {
		t.Errorf("left: %+v", got)
	}
	wanted, err := ParseEntries("*.example.com example.com")
	if err != nil {
		t.Fatal(err)
	}
	err = h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.Deauthorise(tx, h.user, wanted) })
	if !errors.Is(err, account.ErrNotFound) || len(h.entries(t)) != 1 {
		t.Errorf("%v, %d entries are left", err, len(h.entries(t)))
	}
}

// What a request or a user may hold is bounded, and keys are made beforehand.
func TestAuthoriseRefuses(t *testing.T) {
	h := open(t)
	if err := h.try(t, h.user, manyDomains(maxNewDomains+1)); !errors.Is(err, account.ErrInvalid) || !strings.Contains(err.Error(), "smaller") {
		t.Errorf("too many new domains: %v", err)
	}
	var addresses strings.Builder
	for i := range maxEntries {
		fmt.Fprintf(&addresses, "a%d@example.com ", i)
	}
	h.authorise(t, h.user, addresses.String())
	if err := h.try(t, h.user, "one@more.example"); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("too many entries: %v", err)
	}
	wanted, err := ParseEntries("new.example")
	if err != nil {
		t.Fatal(err)
	}
	unprepared := &Request{wanted: wanted}
	if err := h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.Authorise(tx, h.user, unprepared) }); !errors.Is(err, account.ErrConflict) {
		t.Errorf("a domain without keys: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Prepare(ctx, h.user.Account, wanted); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Two prepare the same new domain; the second finds it there and uses it.
func TestAuthoriseWhatAnotherAddedMeanwhile(t *testing.T) {
	h := open(t)
	wanted, err := ParseEntries("www.new.example")
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Prepare(t.Context(), h.user.Account, wanted)
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Warnings(); len(w) != 1 || !strings.Contains(w[0], "did you mean new.example?") {
		t.Errorf("warnings %q", w)
	}
	d := h.addDomain(t, "www.new.example")
	h.do(t, func(tx *db.Tx) error { return h.Authorise(tx, h.user, r) })
	h.do(t, func(tx *db.Tx) error {
		if got, err := h.DomainByName(tx, h.user.Account, d.Name); err != nil || got.ID != d.ID {
			t.Errorf("%+v, %v", got, err)
		}
		return nil
	})
}

// A callback of a group may run twice; so may everything here.
func TestAuthoriseCanBeRepeated(t *testing.T) {
	h := open(t)
	wanted, err := ParseEntries("new.example x@new.example")
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Prepare(t.Context(), h.user.Account, wanted)
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	for i := range 2 {
		err := h.db.Batch(t.Context(), func(tx *db.Tx) error {
			if err := h.Authorise(tx, h.user, r); err != nil || i > 0 {
				return err
			}
			return boom
		})
		if i == 0 && !errors.Is(err, boom) || i > 0 && err != nil {
			t.Fatal(err)
		}
	}
	if got := h.entries(t); len(got) != 2 {
		t.Errorf("entries %+v", got)
	}
}

// S22: two accounts with one domain have tokens and selectors of their own.
func TestS22_AccountsHaveTheSameDomainEachForItself(t *testing.T) {
	h := open(t)
	other := h.newAccount(t, "other")
	h.authorise(t, h.user, "example.com")
	h.authorise(t, other, "example.com")
	h.do(t, func(tx *db.Tx) error {
		ours, err := h.Records(tx, h.user.Account, "example.com")
		if err != nil {
			return err
		}
		theirs, err := h.Records(tx, other.Account, "example.com")
		if err != nil {
			return err
		}
		if ours[0].Value == theirs[0].Value || ours[0].Name != theirs[0].Name {
			t.Errorf("ownership %+v and %+v", ours[0], theirs[0])
		}
		for _, i := range []int{1, 2} {
			if ours[i].Name == theirs[i].Name {
				t.Errorf("the selector %s is used twice", ours[i].Name)
			}
		}
		return nil
	})
	// What one account publishes proves nothing for the other.
	h.zone.set("_mittente.example.com", h.records(t, "example.com")[0].Value)
	for owner, want := range map[id.Account]State{h.user.Account: StateVerified, other.Account: StatePending} {
		if d, _, err := h.VerifyDomain(t.Context(), owner, "example.com"); err != nil || d.State != want {
			t.Errorf("%s: %s, %v", owner, d.State, err)
		}
	}
}

// A domain is added once, in any spelling, and only a domain.
func TestAddDomainTwice(t *testing.T) {
	h := open(t)
	first := h.addDomain(t, "Example.com ")
	if first.Name != "example.com" || first.State != StatePending || len(first.Token) != 26 {
		t.Errorf("%+v", first)
	}
	p, err := h.NewDomain("EXAMPLE.com.")
	if err != nil || p.Name() != "example.com" {
		t.Fatal(p.Name(), err)
	}
	err = h.db.Batch(t.Context(), func(tx *db.Tx) error { _, err := h.AddDomain(tx, h.user.Account, p); return err })
	if !errors.Is(err, account.ErrConflict) {
		t.Errorf("again: %v", err)
	}
	for _, name := range []string{"", "com", "*.example.com", "a@example.com", "exa mple.com", "192.0.2.1"} {
		if _, err := h.NewDomain(name); !errors.Is(err, account.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// S22: an override wants a reason.
func TestS22_OverrideWantsAReason(t *testing.T) {
	h := open(t)
	h.addDomain(t, "example.com")
	for _, reason := range []string{"", "  ", "two\nlines", strings.Repeat("x", maxReason+1)} {
		if d, err := h.override(t, "example.com", reason); !errors.Is(err, account.ErrInvalid) {
			t.Errorf("reason %q: %+v, %v", reason, d, err)
		}
	}
	if _, err := h.override(t, "example.org", "because"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no such domain: %v", err)
	}
}

// S22: an override is audited and shown as such.
func TestS22_OverrideIsAuditedAndShown(t *testing.T) {
	h := open(t)
	h.addDomain(t, "example.com")
	const reason = "we own it: contract 12/2026"
	d, err := h.override(t, "example.com", " "+reason+" ")
	if err != nil || d.State != StateVerified || !d.Override || d.Reason != reason || d.VerifiedAt.IsZero() {
		t.Errorf("%+v, %v", d, err)
	}
	h.do(t, func(tx *db.Tx) error {
		if got, err := h.DomainByName(tx, h.user.Account, "example.com"); err != nil || got != d {
			t.Errorf("stored %+v, %v", got, err)
		}
		audits, err := event.Audits(tx, event.AuditFilter{})
		if err != nil || len(audits) != 1 {
			t.Fatalf("audit log %+v, %v", audits, err)
		}
		got := audits[0]
		want := event.Audit{ID: got.ID, At: got.At, Account: h.user.Account, Actor: "root", Action: "domain.override", Object: "example.com", Reason: reason}
		if got != want || got.At.IsZero() || got.ID.IsZero() {
			t.Errorf("audit log %+v, want %+v", got, want)
		}
		return nil
	})
}

// Proven by the DNS, a domain needs nobody's word; then an override changes nothing.
func TestProofReplacesOverride(t *testing.T) {
	h := open(t)
	h.addDomain(t, "example.com")
	d, err := h.override(t, "example.com", "for now")
	if err != nil {
		t.Fatal(err)
	}
	h.zone.set("_mittente.example.com", h.records(t, "example.com")[0].Value)
	proven, _, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com")
	if err != nil || proven.Override || proven.Reason != "" || proven.VerifiedAt != d.VerifiedAt {
		t.Errorf("%+v, %v", proven, err)
	}
	if again, err := h.override(t, "example.com", "to be sure"); err != nil || again.Override || again.State != StateVerified {
		t.Errorf("%+v, %v", again, err)
	}
}

func (h *house) override(t *testing.T, name mail.Domain, reason string) (d Domain, err error) {
	t.Helper()
	err = h.db.Batch(t.Context(), func(tx *db.Tx) (err error) {
		d, err = h.Override(tx, h.user.Account, name, "root", reason)
		return err
	})
	return d, err
}
