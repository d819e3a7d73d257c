package alert

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

const (
	defaultLimit = 100
	maxLimit     = 1_000

	// slice is how many alerts one transaction deletes: well under 5 ms.
	slice = 200
)

// Filter chooses alerts; the zero value chooses the open ones.
type Filter struct {
	Account id.Account // zero: any
	Kind    Kind       // empty: any
	All     bool       // the acknowledged ones too
	Before  id.Alert   // of an earlier page, its last; zero: the first page
	Limit   int        // at most 1,000; 0: 100
}

const (
	selectAlert = `SELECT id, account_id, list_id, kind, key, count, first_at, last_at, acked_at, acked_by, event_id, facts FROM alert`

	sqlRaise db.SQL = `INSERT INTO alert (id, account_id, list_id, kind, key, fold, grp, count, first_at, last_at, event_id, facts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (fold) WHERE acked_at = 0 DO UPDATE SET
			count = alert.count + excluded.count, last_at = excluded.last_at,
			event_id = COALESCE(excluded.event_id, alert.event_id), facts = excluded.facts`
	sqlOpen          db.SQL = selectAlert + ` WHERE fold = $1 AND acked_at = 0`
	sqlMembers       db.SQL = selectAlert + ` WHERE grp = $1 AND acked_at = 0 AND grp <> '' ORDER BY last_at DESC, id DESC LIMIT $2`
	sqlDeleteMembers db.SQL = `DELETE FROM alert WHERE grp = $1 AND acked_at = 0 AND grp <> ''`

	sqlAlert db.SQL = selectAlert + ` WHERE id = $1`
	sqlList  db.SQL = selectAlert + `
		WHERE (CAST($1 AS BYTEA) IS NULL OR account_id = $1)
		  AND (CAST($2 AS TEXT) = '' OR kind = CAST($2 AS TEXT))
		  AND (acked_at = 0 OR CAST($3 AS BOOLEAN))
		  AND (CAST($4 AS BYTEA) IS NULL OR id < $4)
		ORDER BY id DESC LIMIT $5`
	sqlAck    db.SQL = `UPDATE alert SET acked_at = $2, acked_by = $3 WHERE id = $1 AND acked_at = 0`
	sqlRetain db.SQL = `DELETE FROM alert WHERE id IN (SELECT id FROM alert WHERE last_at < $1 LIMIT $2)`
)

// List returns the alerts that filter chooses, the newest first. The order is
// that of FirstAt, so that a page does not change while it is read.
func List(tx *db.Tx, filter Filter) ([]Alert, error) {
	limit := filter.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	return db.Collect(tx, scan, sqlList, filter.Account, string(filter.Kind), filter.All, filter.Before, min(limit, maxLimit))
}

// Get returns one alert, or ErrNotFound.
func Get(tx *db.Tx, which id.Alert) (Alert, error) {
	a, err := scan(tx.Row(sqlAlert, which))
	if errors.Is(err, sql.ErrNoRows) {
		return Alert{}, fmt.Errorf("%s: %w", which, ErrNotFound)
	}
	return a, err
}

// Ack notes that actor has seen to it, and returns the alert; what happens from
// now on is an alert of its own. One that was acknowledged before stays as it is.
func Ack(tx *db.Tx, which id.Alert, actor string) (Alert, error) {
	if _, err := tx.Exec(sqlAck, which, db.Micros(db.Now()), actor); err != nil {
		return Alert{}, fmt.Errorf("acknowledge alert %s: %w", which, err)
	}
	return Get(tx, which)
}

// retainEvery is how often Keep looks for alerts that are old.
const retainEvery = time.Hour

// Keep deletes, until ctx is done, the alerts that were last raised longer ago
// than the given time. What the database refuses it tells, and tries again after
// an hour. It returns nil.
func Keep(ctx context.Context, d *db.DB, keep time.Duration, failed func(error)) error {
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		if err := Retain(ctx, d, time.Now().Add(-keep)); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Retain deletes the alerts that were last raised before the given time, in
// slices, so that nobody waits long for the writer.
func Retain(ctx context.Context, d *db.DB, before time.Time) error {
	for {
		var n int64
		err := d.Batch(ctx, func(tx *db.Tx) (err error) {
			n, err = tx.Exec(sqlRetain, db.Micros(before), slice)
			return err
		})
		if err != nil || n < slice {
			return err
		}
	}
}

func scan(row db.Scanner) (Alert, error) {
	var (
		a                   Alert
		first, last, ackedT int64
		facts               string
	)
	if err := row.Scan(&a.ID, &a.Account, &a.List, &a.Kind, &a.Key, &a.Count, &first, &last, &ackedT, &a.AckedBy, &a.Event, &facts); err != nil {
		return Alert{}, err
	}
	a.FirstAt, a.LastAt, a.AckedAt = db.Time(first), db.Time(last), db.Time(ackedT)
	if err := json.Unmarshal([]byte(facts), &a.Facts); err != nil {
		return Alert{}, fmt.Errorf("facts of %s: %w", a.ID, err)
	}
	return a, nil
}
