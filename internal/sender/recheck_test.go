package sender

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mittente/internal/db"
	"mittente/internal/mail"
	"mittente/internal/record"
	"mittente/internal/signer"
)

const day = 24 * time.Hour

// S22: a domain is revoked only after 3 definite negative checks over 72 hours.
// Each line is what the DNS said at which hour, and the state afterwards.
func TestS22_RevokedOnlyAfterThreeChecksOver72Hours(t *testing.T) {
	cases := []struct {
		name  string
		looks string // hour:evidence; a found, - absent, ? no answer
		want  State
	}{
		{"three a day apart are 48 hours", "0- 24- 48-", StateVerified},
		{"a fourth makes 72", "0- 24- 48- 72-", StateRevoked},
		{"just before", "0- 24- 48- 71-", StateVerified},
		{"three over 72", "0- 40- 72-", StateRevoked},
		{"two over 72", "0- 72-", StateVerified},
		{"two, long apart", "0- 500-", StateVerified},
		{"and a third", "0- 500- 512-", StateRevoked},
		{"close together are one", "0- 1- 2- 3- 72- 73- 74-", StateVerified},
		{"temporary errors never count", "0- 24? 48? 72? 96? 120?", StateVerified},
		{"nor do they reset", "0- 24? 48- 72-", StateRevoked},
		{"the records come back", "0- 24- 48a 72- 96-", StateVerified},
		{"and go again", "0- 24- 48a 72- 96- 120- 144-", StateRevoked},
		{"no answer ever", "0? 24? 48? 72? 500?", StateVerified},
		{"back after it was revoked", "0- 24- 48- 72- 96a", StateVerified},
		{"still gone", "0- 24- 48- 72- 96- 120?", StateRevoked},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
			d := Domain{State: StateVerified, Proof: ProofDNS, CreatedAt: begin.Add(-900 * day)}
			for look := range strings.FieldsSeq(c.looks) {
				var hour int
				var said rune
				if _, err := fmt.Sscanf(look, "%d%c", &hour, &said); err != nil {
					t.Fatal(err)
				}
				d.NextCheckAt = begin // it was claimed
				d.learn(map[rune]evidence{'a': found, '-': absent, '?': unknown}[said], "gone", begin.Add(time.Duration(hour)*time.Hour))
				if !d.NextCheckAt.After(d.CheckedAt) || d.NextCheckAt.Sub(d.CheckedAt) > recheckEvery {
					t.Errorf("at hour %d: next at %v", hour, d.NextCheckAt)
				}
			}
			if d.State != c.want {
				t.Errorf("%s, want %s: %+v", d.State, c.want, d)
			}
		})
	}
}

// When the DNS is looked at next, by what is known.
func TestWhenTheDNSIsLookedAtNext(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	cases := []struct {
		name     string
		d        Domain
		e        evidence
		min, max time.Duration // 0: never
		state    State
	}{
		{"new", Domain{State: StatePending, CreatedAt: now.Add(-time.Minute)}, absent, pendingMin, pendingMin, StatePending},
		{"an hour old", Domain{State: StatePending, CreatedAt: now.Add(-time.Hour)}, absent, 6 * time.Minute, 6 * time.Minute, StatePending},
		{"ten days old", Domain{State: StatePending, CreatedAt: now.Add(-10 * day)}, unknown, pendingMax, pendingMax, StatePending},
		{"30 days old", Domain{State: StatePending, CreatedAt: now.Add(-30 * day)}, absent, 0, 0, StateFailed},
		{"30 days old, no answer", Domain{State: StatePending, CreatedAt: now.Add(-31 * day)}, unknown, pendingMax, pendingMax, StatePending},
		{"proven", Domain{State: StatePending}, found, 21 * time.Hour, day, StateVerified},
		{"failed, looked at by hand", Domain{State: StateFailed}, absent, 0, 0, StateFailed},
		{"failed, found by hand", Domain{State: StateFailed}, found, 21 * time.Hour, day, StateVerified},
		{"by mail", Domain{State: StateVerified, Proof: ProofMail}, absent, 0, 0, StateVerified},
		{"by an owner's word", Domain{State: StateVerified, Proof: ProofOverride, Override: true}, absent, 0, 0, StateVerified},
		{"by an owner's word, found by hand", Domain{State: StateVerified, Proof: ProofOverride, Override: true}, found, 21 * time.Hour, day, StateVerified},
		{"revoked by somebody", Domain{State: StateRevoked}, absent, 0, 0, StateRevoked},
		{"revoked by somebody, found by hand", Domain{State: StateRevoked}, found, 21 * time.Hour, day, StateVerified},
		{"no answer", Domain{State: StateVerified, Proof: ProofDNS}, unknown, recheckSoon, recheckSoon, StateVerified},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := c.d
			d.learn(c.e, "gone", now)
			if d.State != c.state {
				t.Errorf("%s, want %s", d.State, c.state)
			}
			if c.max == 0 {
				if !d.NextCheckAt.IsZero() {
					t.Errorf("looked at again at %v", d.NextCheckAt)
				}
				return
			}
			if next := d.NextCheckAt.Sub(now); next < c.min || next > c.max {
				t.Errorf("looked at again after %v", next)
			}
			if c.e == found && (d.Proof != ProofDNS || d.Override) {
				t.Errorf("proof %s", d.Proof)
			}
		})
	}
}

// running runs Run until the returned function is called.
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

// A customer who publishes the record need do nothing more; and when it goes
// away, the operators are told three days before it matters.
func TestS22_DomainIsLookedAtByItself(t *testing.T) {
	z := serveZone(t) // outside the bubble: it waits for the network, which would hold the clock
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, z)
		h.authorise(t, h.user, "example.com")
		defer h.running(t)()
		time.Sleep(time.Hour)
		d := h.domain(t, "example.com")
		is(t, "not published", d.State, StatePending)
		is(t, "looked at lately", time.Since(d.CheckedAt) < 8*time.Minute, true)
		records := h.records(t, "example.com")
		h.zone.set(records[0].Name, records[0].Value)
		time.Sleep(8 * time.Minute)
		is(t, "published", h.domain(t, "example.com").State, StateVerified)
		is(t, "effective", h.effective(t), true)

		h.zone.fail(records[0].Name, true)
		time.Sleep(7 * day)
		is(t, "no answer", h.domain(t, "example.com").MissingAt, time.Time{})
		is(t, "alerts", len(h.alerts(t)), 0)
		h.zone.fail(records[0].Name, false)
		h.zone.set(records[0].Name)
		time.Sleep(day + time.Hour)
		d = h.domain(t, "example.com")
		is(t, "gone for a day", d.State, StateVerified)
		is(t, "why", d.LastError, "there is no TXT record at _mittente.example.com")
		is(t, "alerts", strings.Join(h.alerts(t), ", "), "certificates_dns domain example.com")
		time.Sleep(time.Until(d.MissingAt.Add(refuteAfter - time.Minute)))
		is(t, "gone for just less than 72 hours", h.effective(t), true)
		time.Sleep(5 * time.Minute)
		is(t, "gone for 72 hours", h.domain(t, "example.com").State, StateRevoked)
		is(t, "effective", h.effective(t), false)
		is(t, "told", slices.Contains(h.alerts(t), "verification domain example.com"), true)

		h.zone.set(records[0].Name, records[0].Value)
		time.Sleep(day + time.Minute)
		is(t, "back", h.domain(t, "example.com").State, StateVerified)
	})
}

// A key that signs and has gone from the DNS makes verifiers refuse what it
// signs: operators are told. One that was never there is no news.
func TestKeysAreWatched(t *testing.T) {
	z := serveZone(t)
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, z)
		h.addDomain(t, "example.com")
		records := h.records(t, "example.com")
		h.zone.set(records[0].Name, records[0].Value)
		h.zone.set(records[1].Name, records[1].Value) // the RSA key alone
		defer h.running(t)()
		time.Sleep(3 * day)
		is(t, "alerts", len(h.alerts(t)), 0)
		h.zone.fail(records[1].Name, true)
		time.Sleep(3 * day)
		is(t, "alerts while there is no answer", len(h.alerts(t)), 0)
		h.zone.fail(records[1].Name, false)
		h.zone.set(records[1].Name, "v=DKIM1; p=")
		time.Sleep(3 * day)
		selector, _, _ := strings.Cut(records[1].Name, ".")
		is(t, "alerts", strings.Join(h.alerts(t), ", "), "certificates_dns key "+selector+" of example.com")
		is(t, "state", h.domain(t, "example.com").State, StateVerified)
	})
}

// A domain that an operator has revoked is not brought back by its DNS, nor one
// that is vouched for looked at; a customer who asks for a look is another matter.
func TestRevokedByHandStaysSo(t *testing.T) {
	z := serveZone(t)
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, z)
		h.addDomain(t, "example.com")
		h.addDomain(t, "example.org")
		h.zone.set("_mittente.example.com", h.records(t, "example.com")[0].Value)
		h.do(t, func(tx *db.Tx) error {
			_, err1 := h.RevokeDomain(tx, h.user.Account, "example.com", "root", "phishing")
			_, err2 := h.Override(tx, h.user.Account, "example.org", "root", "known")
			if err1 != nil {
				return err1
			}
			return err2
		})
		stop := h.running(t)
		defer stop()
		time.Sleep(10 * day)
		if d := h.domain(t, "example.com"); d.State != StateRevoked || !d.CheckedAt.IsZero() {
			t.Errorf("%+v", d)
		}
		if d := h.domain(t, "example.org"); d.State != StateVerified || !d.CheckedAt.IsZero() {
			t.Errorf("%+v", d)
		}
		if d, _, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com"); err != nil || d.State != StateVerified {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

// Many domains that are due at once are all looked at, and none twice: each is claimed.
func TestDomainsAreClaimed(t *testing.T) {
	z := serveZone(t)
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, z)
		var names []mail.Domain
		for i := range 3 * claimSlice {
			names = append(names, mail.Domain(fmt.Sprintf("d%d.example.com", i)))
			h.addDomain(t, string(names[i]))
		}
		other := &house{db: h.db, zone: z, user: h.user}
		other.Senders = other.room(t, nil)
		stop, stopOther := h.running(t), other.running(t)
		time.Sleep(pendingFirst + time.Second)
		stop()
		stopOther()
		for _, name := range names {
			if d := h.domain(t, name); d.CheckedAt.IsZero() || d.NextCheckAt.Sub(d.CheckedAt) > pendingMin {
				t.Errorf("%+v", d)
			}
		}
		count := func(c prometheus.Collector) int { return int(testutil.ToFloat64(c)) }
		looked := count(h.metrics.verifications.WithLabelValues(string(absent))) + count(other.metrics.verifications.WithLabelValues(string(absent)))
		if looked != len(names) {
			t.Errorf("%d looks at %d domains", looked, len(names))
		}
	})
}

// A check that runs while somebody decides does not undo the decision.
func TestCheckUndoesNoDecision(t *testing.T) {
	h := open(t)
	d := h.addDomain(t, "example.com")
	h.zone.set("_mittente.example.com", h.records(t, "example.com")[0].Value)
	claimed, err := h.claim(t.Context(), []Domain{d})
	if err != nil || len(claimed) != 1 {
		t.Fatal(claimed, err)
	}
	if again, err := h.claim(t.Context(), []Domain{d}); err != nil || len(again) != 0 {
		t.Errorf("claimed twice: %v, %v", again, err)
	}
	h.do(t, func(tx *db.Tx) error {
		_, err := h.RevokeDomain(tx, h.user.Account, "example.com", "root", "phishing")
		return err
	})
	if err := h.recheck(t.Context(), claimed[0]); err != nil {
		t.Fatal(err)
	}
	if d := h.domain(t, "example.com"); d.State != StateRevoked {
		t.Errorf("%+v", d)
	}
	h.do(t, func(tx *db.Tx) error { return h.RemoveDomain(tx, h.user.Account, "example.com", "root") })
	if err := h.recheck(t.Context(), claimed[0]); err != nil {
		t.Errorf("removed meanwhile: %v", err)
	}
}

// Looks that change nothing leave the verdicts in memory.
func TestLooksThatChangeNothingCostNoVerdict(t *testing.T) {
	h := open(t)
	h.authorise(t, h.user, "example.com")
	is(t, "verdict", h.judgement(t, "a@example.com"), "pending by example.com")
	if _, _, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com"); err != nil {
		t.Fatal(err)
	}
	_, _, known := h.snapshots.Get(h.user.ID)
	is(t, "known after a look that changes nothing", known, true)
	h.zone.set("_mittente.example.com", h.records(t, "example.com")[0].Value)
	if _, _, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com"); err != nil {
		t.Fatal(err)
	}
	is(t, "verdict after one that does", h.judgement(t, "a@example.com"), "authorised by example.com, signs example.com")
}

// Trouble with the database ends nothing: it is tried again.
func TestRunOutlivesTrouble(t *testing.T) {
	z := serveZone(t)
	synctest.Test(t, func(t *testing.T) {
		h := openOver(t, z)
		h.addDomain(t, "example.com")
		stop := h.running(t)
		defer stop()
		h.do(t, func(tx *db.Tx) error { _, err := tx.Exec("ALTER TABLE sender_domain RENAME TO gone"); return err })
		time.Sleep(time.Hour)
		h.do(t, func(tx *db.Tx) error { _, err := tx.Exec("ALTER TABLE gone RENAME TO sender_domain"); return err })
		time.Sleep(2 * lookEvery)
		if d := h.domain(t, "example.com"); d.CheckedAt.IsZero() {
			t.Error("never looked at")
		}
	})
}

// The hostname's domain has records to publish, and no proof to give.
func TestRecordsOfTheHostname(t *testing.T) {
	h := open(t)
	if err := h.signer.House(t.Context()); err != nil {
		t.Fatal(err)
	}
	purposes := map[string]int{}
	for _, r := range h.records(t, hostname) {
		purposes[r.Purpose]++
		if r.Purpose == record.PurposeDKIM && (r.KeyState != record.KeySigns || !strings.HasSuffix(r.Name, "._domainkey."+hostname)) {
			t.Errorf("%+v", r)
		}
	}
	is(t, "records", fmt.Sprint(purposes), "map[dkim:2 dmarc:1 spf:1]")
	keys, err := h.signer.Signers(t.Context(), h.user.Account, hostname)
	if err != nil || len(keys) != 2 || string(keys[0].Domain) != hostname {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// While keys rotate, both pairs are to be published, and the old one still proves the domain.
func TestRecordsWhileKeysRotate(t *testing.T) {
	h := open(t)
	h.addDomain(t, "example.com")
	before := h.records(t, "example.com")
	if _, err := h.signer.RotateStart(t.Context(), h.user.Account, "example.com", signer.Order{Actor: "root"}); err != nil {
		t.Fatal(err)
	}
	records := h.records(t, "example.com")
	if len(records) != 7 || records[1] != before[1] || records[3].KeyState != string(signer.StateNext) {
		t.Fatalf("%+v", records)
	}
	for _, r := range before[1:3] {
		h.zone.set(r.Name, r.Value)
	}
	if d, _, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com"); err != nil || d.State != StateVerified {
		t.Errorf("%+v, %v", d, err)
	}
}
