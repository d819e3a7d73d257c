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
	rows, err := tx.Rows(selectAudits, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var audits []Audit
	for rows.Next() {
		var a Audit
		var at int64
		if err := rows.Scan(&a.Account, &at, &a.Actor, &a.Action, &a.Object, &a.Reason); err != nil {
			return nil, err
		}
		a.At = db.Time(at)
		audits = append(audits, a)
	}
	return audits, rows.Err()
}
