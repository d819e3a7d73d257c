package account

import (
	"context"
	"maps"
	"slices"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

const (
	flushEvery   = 5 * time.Second
	cleanEvery   = time.Minute
	flushTimeout = 5 * time.Second // for the last flush, when Run is told to end
	flushSlice   = 100             // rows per transaction: well under 5 ms
	maxUsed      = 10_000          // passwords whose last use waits to be written; more are left out until the next flush
)

// use is a last use that waits to be written down.
type use struct {
	user id.User
	at   time.Time
}

// Used notes that a client was let in at that time. Run writes it down some
// seconds later: a last use may be lost in a crash. A test sending is no use.
func (a *Accounts) Used(p Principal, at time.Time) {
	if !p.OneTime {
		a.noteUse(p.Credential, use{p.User.ID, at})
	}
}

func (a *Accounts) noteUse(c id.Credential, u use) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last, known := a.used[c]; u.at.After(last.at) && (known || len(a.used) < maxUsed) {
		a.used[c] = u
	}
}

// Run writes last uses down and removes passwords whose time is over,
// until ctx is done. What the database refuses is counted and tried again. It returns nil.
func (a *Accounts) Run(ctx context.Context) error {
	flush, clean := time.NewTicker(flushEvery), time.NewTicker(cleanEvery)
	defer flush.Stop()
	defer clean.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			a.count(a.flush(last))
			return nil
		case <-flush.C:
			a.count(a.flush(ctx))
		case <-clean.C:
			a.count(a.clean(ctx))
		}
	}
}

func (a *Accounts) count(err error) {
	if err != nil {
		a.metrics.failures.Inc()
	}
}

// flush writes the last uses down, a slice per transaction. What could not be
// written waits for the next time, unless the user was seen again meanwhile.
func (a *Accounts) flush(ctx context.Context) error {
	a.mu.Lock()
	used := a.used
	a.used = map[id.Credential]use{}
	a.mu.Unlock()

	for slice := range slices.Chunk(slices.Collect(maps.Keys(used)), flushSlice) {
		err := a.db.Batch(ctx, func(tx *db.Tx) error {
			for _, c := range slice {
				if err := writeUse(tx, c, used[c]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			for c, u := range used {
				a.noteUse(c, u)
			}
			return err
		}
	}
	return nil
}

func writeUse(tx *db.Tx, c id.Credential, u use) error {
	if _, err := tx.Exec(sqlUsedUser, u.user, db.Micros(u.at)); err != nil {
		return err
	}
	_, err := tx.Exec(sqlCredentialUsed, c, db.Micros(u.at))
	return err
}

// clean removes passwords whose time is over, a slice per transaction.
func (a *Accounts) clean(ctx context.Context) error {
	for {
		var n int64
		err := a.db.Batch(ctx, func(tx *db.Tx) (err error) {
			n, err = tx.Exec(sqlDeleteExpired, db.Micros(db.Now()))
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}
