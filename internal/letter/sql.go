package letter

import "mittente/internal/db"

const selectLetter = `SELECT id, account_id, kind, address, domain, lang, requested_by, created_at, due, expires_at, outcome, decided_at
	FROM letter`

const (
	sqlInsert db.SQL = `INSERT INTO letter
			(id, account_id, kind, address_key, address, domain, lang, requested_by, created_at, due)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, TRUE)`
	sqlByID db.SQL = selectLetter + ` WHERE id = $1`
	sqlDue  db.SQL = selectLetter + ` WHERE due = TRUE AND (created_at > $2 OR created_at = $2 AND id > $3)
		ORDER BY created_at, id LIMIT $1`
	// What is asked for an address alone by letters that have not left.
	sqlUnsent db.SQL = selectLetter + ` WHERE due = TRUE AND account_id = $1 AND kind = 'ask' AND domain = ''`
	sqlSent   db.SQL = `UPDATE letter SET due = FALSE, sent_at = $2, expires_at = $3 WHERE id = $1 AND due = TRUE`
	sqlClose  db.SQL = `UPDATE letter SET due = FALSE, outcome = $2, decided_at = $3 WHERE id = $1 AND outcome = ''`
	// A new letter makes the ones before it void, a removal all of them.
	sqlReplace db.SQL = `UPDATE letter SET due = FALSE, outcome = 'replaced', decided_at = $4
		WHERE account_id = $1 AND address_key = $2 AND domain = $3 AND kind = 'ask' AND outcome = ''`
	sqlWithdrawAddress db.SQL = `UPDATE letter SET due = FALSE, outcome = 'withdrawn', decided_at = $3
		WHERE account_id = $1 AND address_key = $2 AND domain = '' AND outcome = ''`
	sqlWithdrawDomain db.SQL = `UPDATE letter SET due = FALSE, outcome = 'withdrawn', decided_at = $3
		WHERE account_id = $1 AND domain = $2 AND outcome = ''`
	sqlAsked db.SQL = `SELECT created_at FROM letter
		WHERE account_id = $1 AND address_key = $2 AND kind = 'ask' AND created_at > $3 ORDER BY created_at DESC LIMIT $4`
	sqlStanding db.SQL = `SELECT address_key, due, sent_at, expires_at, outcome FROM letter
		WHERE account_id = $1 AND kind = 'ask' AND domain = '' AND (CAST($2 AS TEXT) = '' OR address_key = $2)
		ORDER BY created_at, id`
	sqlDelete db.SQL = `DELETE FROM letter WHERE id IN
		(SELECT id FROM letter WHERE created_at < $1 AND (kind = 'ask' OR outcome <> '') ORDER BY created_at LIMIT $2)`

	sqlRefusals db.SQL = `SELECT address_key, until FROM letter_refusal
		WHERE account_id = $1 AND (CAST($2 AS TEXT) = '' OR address_key = $2) AND until > $3`
	sqlSetRefusal db.SQL = `INSERT INTO letter_refusal (account_id, address_key, until) VALUES ($1, $2, $3)
		ON CONFLICT (account_id, address_key) DO UPDATE SET until = excluded.until`
	sqlDeleteRefusals db.SQL = `DELETE FROM letter_refusal WHERE until < $1`
)
