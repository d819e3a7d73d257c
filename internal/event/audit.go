package event

import (
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// Audit is one deed of a person or program that others may have to answer for.
type Audit struct {
	ID      id.Event  // Record sets it
	At      time.Time // Record sets it when it is zero
	Account id.Account
	Actor   string // who: an operator, or the user of the operating system
	Action  string // what: "domain.override"
	Object  string // to what: a domain's name
	Reason  string // why, in the actor's words
}

const (
	insertAudit db.SQL = `INSERT INTO audit (id, account_id, at, actor, action, object, reason)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`
	selectAudits db.SQL = `SELECT id, account_id, at, actor, action, object, reason FROM audit
		WHERE (CAST($1 AS BYTEA) IS NULL OR account_id = $1)
		  AND (CAST($2 AS TEXT) = '' OR actor = CAST($2 AS TEXT))
		  AND SUBSTR(action, 1, LENGTH(CAST($3 AS TEXT))) = CAST($3 AS TEXT)
		  AND (CAST($4 AS BYTEA) IS NULL OR id < $4)
		ORDER BY id DESC LIMIT $5`
)

// Record writes a deed into the audit log, which is never cut.
func Record(tx *db.Tx, a Audit) error {
	if a.At.IsZero() {
		a.At = time.Now()
	}
	_, err := tx.Exec(insertAudit, id.New[id.Event](), a.Account, db.Micros(a.At), a.Actor, a.Action, a.Object, a.Reason)
	return err
}

// AuditFilter chooses deeds; the zero value chooses all.
type AuditFilter struct {
	Account id.Account // zero: any, and those of the house
	Actor   string     // empty: anybody
	Action  string     // the beginning of it, such as "user."; empty: any
	Page    Page
}

// Audits returns the deeds that filter chooses, newest first.
func Audits(tx *db.Tx, filter AuditFilter) ([]Audit, error) {
	return db.Collect(tx, scanAudit, selectAudits,
		filter.Account, filter.Actor, filter.Action, filter.Page.Before, filter.Page.limit())
}

func scanAudit(row db.Scanner) (Audit, error) {
	var a Audit
	var at int64
	err := row.Scan(&a.ID, &a.Account, &at, &a.Actor, &a.Action, &a.Object, &a.Reason)
	a.At = db.Time(at)
	return a, err
}
