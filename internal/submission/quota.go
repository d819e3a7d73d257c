package submission

import (
	"context"
	"fmt"
	"sync"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
)

const (
	quotaMinutes = 60     // a quota is of the last 60 minutes, the running one included
	maxQuotas    = 10_000 // users with a quota that are kept in memory
)

const (
	sqlQuota    db.SQL = `SELECT minute, recipients FROM submission_quota WHERE user_id = $1 AND minute > $2`
	sqlAddQuota db.SQL = `INSERT INTO submission_quota (user_id, minute, recipients) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, minute) DO UPDATE SET recipients = submission_quota.recipients + excluded.recipients`
	sqlTrimQuota db.SQL = `DELETE FROM submission_quota WHERE user_id = $1 AND minute <= $2`
)

// quotas counts the recipients of users that have a quota. What was accepted is
// counted in the accepting transaction, so a restart forgets nothing; what is on
// its way is reserved in memory, so that sessions side by side keep within the
// quota together.
type quotas struct {
	db *db.DB

	mu    sync.Mutex
	users map[id.User]*usage
}

// usage is what one user has had accepted.
type usage struct {
	mu       sync.Mutex
	loaded   bool
	slots    map[int64]int64 // recipients by minute
	reserved int64           // recipients of messages that are being taken in
	holders  int             // of the pointer, guarded by quotas.mu
}

func newQuotas(d *db.DB) *quotas { return &quotas{db: d, users: map[id.User]*usage{}} }

// hold returns a user's usage, locked and read from the database; drop gives it back.
func (q *quotas) hold(ctx context.Context, user id.User) (*usage, error) {
	q.mu.Lock()
	u := q.users[user]
	if u == nil {
		q.makeRoom()
		u = &usage{slots: map[int64]int64{}}
		q.users[user] = u
	}
	u.holders++
	q.mu.Unlock()
	u.mu.Lock()
	if u.loaded {
		return u, nil
	}
	if err := q.load(ctx, user, u); err != nil {
		q.drop(u)
		return nil, err
	}
	u.loaded = true
	return u, nil
}

func (q *quotas) drop(u *usage) {
	u.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	u.holders--
}

// makeRoom gives up one that nobody holds, when there are too many: it can be read again.
func (q *quotas) makeRoom() {
	if len(q.users) < maxQuotas {
		return
	}
	for user, u := range q.users {
		if u.holders == 0 {
			delete(q.users, user)
			return
		}
	}
}

func (q *quotas) load(ctx context.Context, user id.User, u *usage) error {
	type slot struct{ minute, recipients int64 }
	return q.db.View(ctx, func(tx *db.Tx) error {
		slots, err := db.Collect(tx, func(row db.Scanner) (s slot, err error) {
			err = row.Scan(&s.minute, &s.recipients)
			return s, err
		}, sqlQuota, user, minute(time.Now())-quotaMinutes)
		for _, s := range slots {
			u.slots[s.minute] = s.recipients
		}
		return err
	})
}

func minute(t time.Time) int64 { return t.Unix() / 60 }

// used returns how many recipients count now. Slots of the future, from before a
// clock was set back, do not.
func (u *usage) used(now int64) int64 {
	n := u.reserved
	for m, recipients := range u.slots {
		switch {
		case m <= now-quotaMinutes:
			delete(u.slots, m)
		case m <= now+1:
			n += recipients
		}
	}
	return n
}

// wait returns how long until n more recipients fit below limit, whole minutes, 1 to 60.
func (u *usage) wait(now, limit, n int64) time.Duration {
	over := u.used(now) + n - limit
	for m := now - quotaMinutes + 1; m <= now; m++ {
		if over -= u.slots[m]; over <= 0 {
			return time.Duration(max(1, m+quotaMinutes-now)) * time.Minute
		}
	}
	return quotaMinutes * time.Minute
}

// room returns nil when n more recipients fit into the user's quota.
func (u *usage) room(user account.User, n int64) *Rejection {
	now := minute(time.Now())
	if u.used(now)+n <= user.QuotaPerHour {
		return nil
	}
	return &Rejection{Reason: OverQuota, User: user.Name, Limit: user.QuotaPerHour, Wait: u.wait(now, user.QuotaPerHour, n)}
}

// reservation is a share of a user's quota for a message that is being taken in.
// The nil one is of a user without a quota.
type reservation struct {
	quotas *quotas
	usage  *usage
	user   id.User
	n      int64
	minute int64
}

// reserve takes n recipients of a user's quota; release ends that.
func (q *quotas) reserve(ctx context.Context, p account.Principal, n int64) (*reservation, error) {
	if p.User.QuotaPerHour == 0 || p.OneTime {
		return nil, nil //nolint:nilnil // no quota is no error
	}
	u, err := q.hold(ctx, p.User.ID)
	if err != nil {
		return nil, fmt.Errorf("quota of %s: %w", p.User.Name, err)
	}
	if over := u.room(p.User, n); over != nil {
		q.drop(u)
		return nil, over
	}
	u.reserved += n
	u.mu.Unlock() // and held on to
	return &reservation{quotas: q, usage: u, user: p.User.ID, n: n, minute: minute(time.Now())}, nil
}

// count writes the recipients down in the transaction that accepts them.
func (r *reservation) count(tx *db.Tx) error {
	if r == nil {
		return nil
	}
	if _, err := tx.Exec(sqlTrimQuota, r.user, r.minute-quotaMinutes); err != nil {
		return fmt.Errorf("trim quota: %w", err)
	}
	if _, err := tx.Exec(sqlAddQuota, r.user, r.minute, r.n); err != nil {
		return fmt.Errorf("count quota: %w", err)
	}
	return nil
}

// settle turns the reservation into recipients that count: they were accepted.
func (r *reservation) settle() {
	if r == nil {
		return
	}
	r.usage.mu.Lock()
	defer r.usage.mu.Unlock()
	r.usage.slots[r.minute] += r.n
	r.usage.reserved -= r.n
	r.n = 0
}

// release gives back what was not settled.
func (r *reservation) release() {
	if r == nil {
		return
	}
	r.usage.mu.Lock()
	r.usage.reserved -= r.n
	r.quotas.drop(r.usage)
}
