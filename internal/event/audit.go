package event

import (
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// Audit is one deed of a person or program that others may have to answer for.
type Audit struct {
	At      time.Time // Record sets it when it is zero
	Account id.Account
	Actor   string // who: an operator, or the user of the operating system
	Action  string // what: "domain override"
	Object  string // to what: a domain's name
	Reason  string // why, in the actor's words
}

const (
	insertAudit db.SQL = `INSERT INTO audit (id, account_id, at, actor, action, object, reason)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`
	selectAudits db.SQL = `SELECT account_id, at, actor, action, object, reason FROM audit
		ORDER BY id DESC LIMIT $1`
)

// Record writes a deed into the audit log, which is never cut.
func Record(tx *db.Tx, a Audit) error {
	if a.At.IsZero() {
		a.At = time.Now()
	}
	_, err := tx.Exec(insertAudit, id.New[id.Event](), a.Account, db.Micros(a.At), a.Actor, a.Action, a.Object, a.Reason)
	return err
}

// Audits returns the latest deeds, newest first, at most limit.
func Audits(tx *db.Tx, limit int) ([]Audit, error) {
	return db.Collect(tx, scanAudit, selectAudits, limit)
}

func scanAudit(row db.Scanner) (Audit, error) {
	var a Audit
	var at int64
	err := row.Scan(&a.Account, &at, &a.Actor, &a.Action, &a.Object, &a.Reason)
	a.At = db.Time(at)
	return a, err
}
