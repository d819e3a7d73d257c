package sender

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/mail"
)

var marta = letter.Asking{By: "Marta Riva, marta@lario.example", Lang: "it"}

func client() netip.Addr { return netip.MustParseAddr("203.0.113.9") }

// due returns the letters that are to be sent, as one line each: kind and whom to.
func (h *house) due(t *testing.T) (letters []letter.Letter) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) { letters, err = h.letters.Due(tx, letter.Letter{}, 100); return err })
	return letters
}

// send takes the only letter that is due and says that it left.
func (h *house) send(t *testing.T) letter.Letter {
	t.Helper()
	letters := h.due(t)
	if len(letters) != 1 {
		t.Fatalf("%d letters are due: %+v", len(letters), letters)
	}
	h.do(t, func(tx *db.Tx) error { return h.letters.Sent(tx, letters[0]) })
	return letters[0]
}

func (h *house) addAddress(t *testing.T, text string) (a Address) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) {
		a, err = h.AddAddress(tx, h.user.Account, address(t, text), marta)
		return err
	})
	return a
}

func (h *house) addressOf(t *testing.T, text string) (a Address) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) { a, err = h.AddressOf(tx, h.user.Account, address(t, text)); return err })
	return a
}

func (h *house) resend(t *testing.T, text string) error {
	t.Helper()
	return h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.Resend(tx, h.user.Account, address(t, text), marta) })
}

func (h *house) audits(t *testing.T) (lines []string) {
	t.Helper()
	h.do(t, func(tx *db.Tx) error {
		all, err := event.Audits(tx, event.AuditFilter{})
		for _, a := range all {
			lines = append(lines, a.Actor+": "+a.Action+" "+a.Object)
		}
		return err
	})
	return lines
}

func (h *house) alerts(t *testing.T) (lines []string) {
	t.Helper()
	h.do(t, func(tx *db.Tx) error {
		all, err := alert.List(tx, alert.Filter{Account: h.user.Account, Limit: 100})
		for _, a := range all {
			lines = append(lines, string(a.Kind)+" "+a.Key)
		}
		return err
	})
	return lines
}

// is compares what was got with what was wanted.
func is[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// said is what a link came to: the error, the state of what it asks for, the outcome.
func said(a Asked, err error) string {
	prefix := ""
	switch {
	case errors.Is(err, letter.ErrUnknownToken):
		prefix = "unknown: "
	case errors.Is(err, letter.ErrUsed):
		prefix = "used: "
	case err != nil:
		prefix = err.Error() + ": "
	}
	return prefix + strings.TrimSuffix(string(a.State)+", "+string(a.Outcome), ", ")
}

// S22: an address is proven by the link of a letter, which is answered once.
func TestS22_AddressIsProvenByLetter(t *testing.T) {
	h := open(t)
	told := 0
	h.letters.OnDue(func() { told++ })
	h.authorise(t, h.user, "fatture@studio.example")
	is(t, "before", h.judgement(t, "fatture@studio.example"), "pending by fatture@studio.example")
	sent := h.send(t)
	is(t, "told", told, 1)
	is(t, "kind", sent.Kind, letter.Ask)
	is(t, "to", sent.Address.String(), "fatture@studio.example")
	is(t, "for", sent.Domain, "")
	is(t, "by", sent.RequestedBy, marta.By)

	is(t, "asking", said(h.Ask(t.Context(), sent.Token)), "pending")
	is(t, "asking what is asked has confirmed it", h.effective(t), false)
	is(t, "a link that confirms revokes", said(h.Revoke(t.Context(), sent.Token, client())), "unknown: pending")
	is(t, "confirming", said(h.Confirm(t.Context(), strings.ToUpper(sent.Token), client())), "verified, confirmed")
	is(t, "after", h.judgement(t, "Fatture@studio.example"), "authorised by fatture@studio.example, signs relay.example.net")
	is(t, "asking again", said(h.Ask(t.Context(), sent.Token)), "used: verified, confirmed")
	is(t, "confirming again", said(h.Confirm(t.Context(), sent.Token, client())), "used: verified, confirmed")
	is(t, "refusing after it", said(h.Refuse(t.Context(), sent.Token, client())), "used: verified, confirmed")
	is(t, "audit log", h.audits(t)[0], "owner of fatture@studio.example from 203.0.113.9: sender.confirm fatture@studio.example")
	if a := h.addressOf(t, "fatture@studio.example"); a.DecidedBy != "fatture@studio.example" || a.VerifiedAt.IsZero() || a.AskedAt.IsZero() {
		t.Errorf("%+v", a)
	}
}

// S23: verifying activates nobody.
func TestS23_ConfirmingActivatesNobody(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "a@studio.example")
	sent := h.send(t)
	if _, err := h.Confirm(t.Context(), sent.Token, client()); err != nil {
		t.Fatal(err)
	}
	h.do(t, func(tx *db.Tx) error {
		u, err := h.accounts.UserByName(tx, h.user.Name)
		if u.Active {
			t.Error("active")
		}
		return err
	})
	if !h.effective(t) {
		t.Error("not effective")
	}
}

// The letter that follows a yes has a link that takes it back, whenever.
func TestS22_OwnerRevokes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, nil)
		h.authorise(t, h.user, "a@studio.example")
		if _, err := h.Confirm(t.Context(), h.send(t).Token, client()); err != nil {
			t.Fatal(err)
		}
		sent := h.send(t)
		if sent.Kind != letter.Confirmed || sent.Lang != "it" || !sent.ExpiresAt.IsZero() {
			t.Errorf("%+v", sent)
		}
		time.Sleep(2 * 365 * 24 * time.Hour)
		is(t, "a link that revokes confirms", said(h.Confirm(t.Context(), sent.Token, client())), "unknown: verified")
		is(t, "revoking", said(h.Revoke(t.Context(), sent.Token, client())), "revoked, revoked")
		verdict, grant, err := h.Check(t.Context(), h.user.ID, address(t, "a@studio.example"))
		if err != nil || verdict != Pending || grant.State != StateRevoked || grant.Kind != KindAddress {
			t.Errorf("%s by %+v, %v", verdict, grant, err)
		}
		is(t, "effective", h.effective(t), false)
		is(t, "again", said(h.Revoke(t.Context(), sent.Token, client())), "used: revoked, revoked")
		is(t, "alerts", strings.Join(h.alerts(t), ", "), "verification address a@studio.example")
	})
}

// S22: after a no, that account sends no letter to that address for 90 days,
// whatever it does; another account may.
func TestS22_RestAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, nil)
		h.authorise(t, h.user, "a@studio.example")
		asked, err := h.Refuse(t.Context(), h.send(t).Token, client())
		if err != nil || asked.State != StateFailed || !asked.RestUntil.Equal(db.Now().Add(letter.RestAfterNo)) {
			t.Errorf("%+v, %v", asked, err)
		}
		if got := h.alerts(t); len(got) != 1 || got[0] != "verification address a@studio.example" {
			t.Errorf("alerts %q", got)
		}
		refused := func() {
			t.Helper()
			var wait *letter.WaitError
			if err := h.resend(t, "a@studio.example"); !errors.As(err, &wait) || !wait.Refused || !errors.Is(err, account.ErrConflict) {
				t.Errorf("asked again: %v", err)
			}
		}
		refused()
		h.do(t, func(tx *db.Tx) error {
			return h.RemoveAddress(tx, h.user.Account, address(t, "a@studio.example"), "root")
		})
		if a := h.addAddress(t, "A@studio.example"); a.State != StatePending || a.RestUntil.IsZero() {
			t.Errorf("%+v", a)
		}
		if letters := h.due(t); len(letters) != 0 {
			t.Errorf("removed and added again: %+v", letters)
		}
		other := h.newAccount(t, "other")
		h.authorise(t, other, "a@studio.example")
		if sent := h.send(t); sent.Account != other.Account {
			t.Errorf("%+v", sent)
		}
		time.Sleep(letter.RestAfterNo - time.Minute)
		refused()
		time.Sleep(time.Minute)
		if err := h.resend(t, "a@studio.example"); err != nil {
			t.Errorf("after 90 days: %v", err)
		}
		h.send(t)
	})
}

// A link is dead 48 hours after its letter left, to the microsecond.
func TestLinkExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, nil)
		h.authorise(t, h.user, "a@studio.example b@studio.example")
		time.Sleep(100 * time.Hour) // no server ran: nothing is lost by that
		letters := h.due(t)
		h.do(t, func(tx *db.Tx) error {
			return errors.Join(h.letters.Sent(tx, letters[0]), h.letters.Sent(tx, letters[1]))
		})
		time.Sleep(letter.LinkLife - time.Microsecond)
		if _, err := h.Confirm(t.Context(), letters[0].Token, client()); err != nil {
			t.Errorf("in time: %v", err)
		}
		time.Sleep(time.Microsecond)
		for _, answer := range []func() (Asked, error){
			func() (Asked, error) { return h.Ask(t.Context(), letters[1].Token) },
			func() (Asked, error) { return h.Confirm(t.Context(), letters[1].Token, client()) },
			func() (Asked, error) { return h.Refuse(t.Context(), letters[1].Token, client()) },
		} {
			asked, err := answer()
			if !errors.Is(err, letter.ErrExpired) || asked.Address != letters[1].Address || asked.State != StatePending || asked.RequestedAt.IsZero() {
				t.Errorf("%+v, %v", asked, err)
			}
		}
	})
}

// An address at a verified domain needs no letter, and gets none that is not
// sent yet when the domain is verified.
func TestS22_VerifiedThroughItsDomain(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "early@example.com other@example.org")
	h.force(t, "example.com", StateVerified)
	h.authorise(t, h.user, "late@example.com")
	if sent := h.send(t); sent.Address.String() != "other@example.org" {
		t.Errorf("%+v", sent)
	}
	for _, text := range []string{"early@example.com", "late@example.com"} {
		if a := h.addressOf(t, text); a.State != StateVerified || a.Through != "example.com" {
			t.Errorf("%+v", a)
		}
		if err := h.resend(t, text); !errors.Is(err, account.ErrConflict) {
			t.Errorf("%s: %v", text, err)
		}
	}
	h.force(t, "example.com", StateRevoked)
	if a := h.addressOf(t, "late@example.com"); a.State != StatePending {
		t.Errorf("%+v", a)
	}
	if err := h.resend(t, "late@example.com"); err != nil {
		t.Error(err)
	}
}

// A letter that was not sent yet has a link that is nobody's, and what was
// withdrawn has none.
func TestWithdrawnLettersAreUnknown(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "a@studio.example b@studio.example c@studio.example")
	letters := h.due(t)
	if _, err := h.Ask(t.Context(), letters[0].Token); !errors.Is(err, letter.ErrUnknownToken) {
		t.Errorf("not sent: %v", err)
	}
	h.do(t, func(tx *db.Tx) error {
		return errors.Join(h.letters.Sent(tx, letters[0]), h.letters.Sent(tx, letters[1]))
	})
	owner := h.user.Account
	h.do(t, func(tx *db.Tx) error {
		_, err := h.RevokeAddress(tx, owner, letters[1].Address, "root", "abuse")
		return errors.Join(err, h.RemoveAddress(tx, owner, letters[0].Address, "root"), h.RemoveAddress(tx, owner, letters[2].Address, "root"))
	})
	for _, l := range letters {
		if _, err := h.Confirm(t.Context(), l.Token, client()); !errors.Is(err, letter.ErrUnknownToken) {
			t.Errorf("%s: %v", l.Address, err)
		}
	}
	if letters := h.due(t); len(letters) != 0 {
		t.Errorf("due: %+v", letters)
	}
	if a := h.addressOf(t, "b@studio.example"); a.State != StateRevoked || a.Reason != "abuse" || a.DecidedBy != "root" {
		t.Errorf("%+v", a)
	}
}

// Removing an address takes it from the users, and is told in the audit log.
func TestRemoveAddress(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "a@studio.example b@studio.example")
	remove := func() error {
		return h.db.Batch(t.Context(), func(tx *db.Tx) error {
			return h.RemoveAddress(tx, h.user.Account, address(t, "A@studio.example"), "root")
		})
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if err := remove(); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if got := h.entries(t); len(got) != 1 || got[0].Text != "b@studio.example" {
		t.Errorf("entries %+v", got)
	}
	if got := h.judgement(t, "a@studio.example"); got != "not_authorised" {
		t.Error(got)
	}
	h.do(t, func(tx *db.Tx) error {
		all, err := h.Addresses(tx, h.user.Account)
		if len(all) != 1 || all[0].Address.String() != "b@studio.example" {
			t.Errorf("addresses %+v", all)
		}
		return err
	})
	if got := h.audits(t)[0]; got != "root: sender.rm a@studio.example" {
		t.Errorf("audit log: %s", got)
	}
	if err := h.resend(t, "nobody@studio.example"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func (h *house) askByMail(t *testing.T, domain mail.Domain, local string) error {
	t.Helper()
	return h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.AskByMail(tx, h.user.Account, domain, local, marta) })
}

// S22: a domain is proven by whoever reads its postmaster's mail.
func TestS22_DomainIsProvenByMail(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "*.example.com")
	if err := h.askByMail(t, "example.com", "info"); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("info@: %v", err)
	}
	if err := h.askByMail(t, "example.org", "admin"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("unknown domain: %v", err)
	}
	if err := h.askByMail(t, "example.com", "hostmaster"); err != nil {
		t.Fatal(err)
	}
	sent := h.send(t)
	is(t, "to", sent.Address.String(), "hostmaster@example.com")
	is(t, "for", sent.Domain, "example.com")
	is(t, "confirming", said(h.Confirm(t.Context(), sent.Token, client())), "verified, confirmed")
	is(t, "after", h.judgement(t, "a@x.example.com"), "authorised by *.example.com, signs example.com")
	d := h.domain(t, "example.com")
	is(t, "proof", d.Proof, ProofMail)
	is(t, "looked at again", !d.NextCheckAt.IsZero(), false)
	if err := h.askByMail(t, "example.com", "admin"); !errors.Is(err, account.ErrConflict) {
		t.Errorf("verified: %v", err)
	}
	is(t, "revoking", said(h.Revoke(t.Context(), h.send(t).Token, client())), "revoked, revoked")
	if d := h.domain(t, "example.com"); d.State != StateRevoked || d.Proof != "" || !d.NextCheckAt.IsZero() {
		t.Errorf("%+v", d)
	}
}

// Who reads the postmaster's mail need not be who keeps the DNS: a no leaves the
// domain to be proven there.
func TestPostmasterRefuses(t *testing.T) {
	h := open(t)
	h.addDomain(t, "example.com")
	if err := h.askByMail(t, "example.com", "postmaster"); err != nil {
		t.Fatal(err)
	}
	if asked, err := h.Refuse(t.Context(), h.send(t).Token, client()); err != nil || asked.State != StatePending || asked.RestUntil.IsZero() {
		t.Errorf("%+v, %v", asked, err)
	}
	var wait *letter.WaitError
	if err := h.askByMail(t, "example.com", "postmaster"); !errors.As(err, &wait) || !wait.Refused {
		t.Errorf("again: %v", err)
	}
	if err := h.askByMail(t, "example.com", "admin"); err != nil {
		t.Errorf("another mailbox: %v", err)
	}
}

// A letter from before an operator's revocation brings nothing back.
func TestRevokedDomainIsNotConfirmed(t *testing.T) {
	h := open(t)
	h.addDomain(t, "example.com")
	if err := h.askByMail(t, "example.com", "postmaster"); err != nil {
		t.Fatal(err)
	}
	asks := h.send(t)
	h.do(t, func(tx *db.Tx) error {
		_, err := h.RevokeDomain(tx, h.user.Account, "example.com", "root", "abuse")
		return err
	})
	if asked, err := h.Confirm(t.Context(), asks.Token, client()); !errors.Is(err, letter.ErrUnknownToken) {
		t.Errorf("%+v, %v", asked, err)
	}
	if d := h.domain(t, "example.com"); d.State != StateRevoked || d.Reason != "abuse" {
		t.Errorf("%+v", d)
	}
}

func (h *house) domain(t *testing.T, name mail.Domain) (d Domain) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) { d, err = h.DomainByName(tx, h.user.Account, name); return err })
	return d
}

// A domain that is removed goes from users and letters; its keys sign what is queued.
func TestRemoveDomain(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com *.example.com a@example.com example.org")
	h.force(t, "example.com", StateVerified)
	h.force(t, "example.org", StateRevoked)
	if err := h.askByMail(t, "example.org", "admin"); err != nil {
		t.Fatal(err)
	}
	link := h.send(t)
	for _, name := range []mail.Domain{"example.com", "example.org"} {
		h.do(t, func(tx *db.Tx) error { return h.RemoveDomain(tx, h.user.Account, name, "root") })
	}
	if err := h.db.Batch(t.Context(), func(tx *db.Tx) error {
		return h.RemoveDomain(tx, h.user.Account, "example.com", "root")
	}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if got := h.entries(t); len(got) != 1 || got[0].Text != "a@example.com" || got[0].State != StatePending {
		t.Errorf("entries %+v", got)
	}
	if _, err := h.Ask(t.Context(), link.Token); !errors.Is(err, letter.ErrUnknownToken) {
		t.Errorf("letter: %v", err)
	}
	keys, err := h.signer.Signers(t.Context(), h.user.Account, "example.com")
	if err != nil || len(keys) != 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	h.addDomain(t, "example.com")
	if again, err := h.signer.Signers(t.Context(), h.user.Account, "example.com"); err != nil || len(again) != 2 || again[0].Selector == keys[0].Selector {
		t.Errorf("added again: %d keys, %v", len(again), err)
	}
}

// Revoking wants a reason and is told in the audit log.
func TestRevokeWantsAReason(t *testing.T) {
	h := open(t)
	h.force(t, "example.com", StateVerified)
	h.addAddress(t, "a@example.org")
	for _, reason := range []string{"", " ", "a\nb", strings.Repeat("x", 501)} {
		err := h.db.Batch(t.Context(), func(tx *db.Tx) error {
			_, err1 := h.RevokeDomain(tx, h.user.Account, "example.com", "root", reason)
			_, err2 := h.RevokeAddress(tx, h.user.Account, address(t, "a@example.org"), "root", reason)
			if !errors.Is(err1, account.ErrInvalid) {
				t.Errorf("%.10q: %v", reason, err1)
			}
			return err2
		})
		if !errors.Is(err, account.ErrInvalid) {
			t.Errorf("%.10q: %v", reason, err)
		}
	}
	h.do(t, func(tx *db.Tx) error {
		_, err := h.RevokeDomain(tx, h.user.Account, "example.com", "root", "phishing")
		return err
	})
	if d := h.domain(t, "example.com"); d.State != StateRevoked || d.Reason != "phishing" {
		t.Errorf("%+v", d)
	}
	if got := h.audits(t)[0]; got != "root: domain.revoke example.com" {
		t.Errorf("audit log: %s", got)
	}
	unknown := id.New[id.Account]()
	if err := h.db.Batch(t.Context(), func(tx *db.Tx) error {
		_, err := h.RevokeDomain(tx, unknown, "example.com", "root", "phishing")
		return err
	}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("another account's: %v", err)
	}
}
