package account

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mittente/internal/db"
	"mittente/internal/id"
)

// lastUse reads a user's last use from the database.
func (h *house) lastUse(t *testing.T, name string) (at time.Time) {
	t.Helper()
	h.do(t, func(tx *db.Tx) error {
		u, err := h.UserByName(tx, name)
		at = u.LastUsedAt
		return err
	})
	return at
}

// run starts Run, and returns a function that ends it.
func (h *house) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// S3: the last use reaches the database some seconds later, or when Run ends.
func TestS3_LastUseIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		u, password := h.add(t, NewUser{Active: true})
		idle, _ := h.add(t, NewUser{Active: true})
		stop := h.run(t)
		at := db.Now()
		if _, err := h.login(t.Context(), u.Name, password); err != nil {
			t.Fatal(err)
		}
		if got := h.lastUse(t, u.Name); !got.IsZero() {
			t.Errorf("written at once: %v", got)
		}
		time.Sleep(flushEvery)
		synctest.Wait()
		if got := h.lastUse(t, u.Name); !got.Equal(at) {
			t.Errorf("last use %v, want %v", got, at)
		}
		if got := h.lastUse(t, idle.Name); !got.IsZero() {
			t.Errorf("last use of an idle user %v", got)
		}
		h.noteUse(id.Credential{1}, use{u.ID, at.Add(-time.Hour)}) // an older one changes nothing
		h.noteUse(id.Credential{2}, use{idle.ID, at.Add(time.Second)})
		stop() // what waits is written
		if got := h.lastUse(t, u.Name); !got.Equal(at) {
			t.Errorf("last use %v, want %v", got, at)
		}
		if got := h.lastUse(t, idle.Name); !got.Equal(at.Add(time.Second)) {
			t.Errorf("last use %v, want %v", got, at.Add(time.Second))
		}
	})
}

// What could not be written is written the next time.
func TestLastUseOutlivesAFailedWrite(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{Active: true})
	at := db.Now()
	h.noteUse(id.Credential{1}, use{u.ID, at})
	h.do(t, func(tx *db.Tx) error { _, err := tx.Exec("ALTER TABLE smtp_user RENAME TO gone"); return err })
	h.count(h.flush(t.Context()))
	if got := testutil.ToFloat64(h.metrics.failures); got != 1 {
		t.Errorf("%v failures counted, want 1", got)
	}
	h.do(t, func(tx *db.Tx) error { _, err := tx.Exec("ALTER TABLE gone RENAME TO smtp_user"); return err })
	if err := h.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.lastUse(t, u.Name); !got.Equal(at) {
		t.Errorf("last use %v, want %v", got, at)
	}
}

// Last uses that wait are bounded, and a full load of them can be written.
func TestLastUsesAreBounded(t *testing.T) {
	h := open(t)
	for range maxUsed + 5 {
		h.noteUse(id.New[id.Credential](), use{id.New[id.User](), db.Now()})
	}
	if n := len(h.used); n != maxUsed {
		t.Errorf("%d last uses in memory, want %d", n, maxUsed)
	}
	if err := h.flush(t.Context()); err != nil || len(h.used) != 0 {
		t.Errorf("%d left, %v", len(h.used), err)
	}
}

// A one-time password ends to the microsecond, for AUTH, MAIL and acceptance, and its row goes.
func TestOneTimePasswordRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		u, lasting := h.add(t, NewUser{Active: true})
		var password string
		h.do(t, func(tx *db.Tx) (err error) { password, err = h.OneTime(tx, u.Name, OneTimeTTL); return err })
		time.Sleep(OneTimeTTL - time.Microsecond)
		p, err := h.login(t.Context(), u.Name, password)
		if err != nil {
			t.Fatalf("in its last moment: %v", err)
		}
		time.Sleep(time.Microsecond)
		if _, err := h.login(t.Context(), u.Name, password); why(err) != BadCredentials {
			t.Errorf("AUTH: %v", err)
		}
		if _, err := h.Current(t.Context(), p, here); why(err) != Spent {
			t.Errorf("MAIL: %v", err)
		}
		if err := h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.Spend(tx, p) }); why(err) != Spent {
			t.Errorf("acceptance: %v", err)
		}
		stop := h.run(t)
		time.Sleep(cleanEvery)
		synctest.Wait()
		stop()
		var n int
		h.do(t, func(tx *db.Tx) error { return tx.Row("SELECT COUNT(*) FROM credential").Scan(&n) })
		if n != 1 {
			t.Errorf("%d credentials are left, want the lasting one", n)
		}
		if _, err := h.login(t.Context(), u.Name, lasting); err != nil {
			t.Error(err)
		}
	})
}
