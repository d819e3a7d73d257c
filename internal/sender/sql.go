package sender

import "mittente/internal/db"

const selectDomain = `SELECT id, account_id, name, state, token, overridden, reason, last_error, created_at, verified_at, checked_at,
	proof, next_check_at, misses, first_miss_at, last_miss_at
	FROM sender_domain`

// Domains.
const (
	sqlDomains      db.SQL = selectDomain + ` WHERE account_id = $1 ORDER BY name`
	sqlDomainByName db.SQL = selectDomain + ` WHERE account_id = $1 AND name = $2`
	sqlDueDomains   db.SQL = selectDomain + ` WHERE next_check_at <= $1 ORDER BY next_check_at LIMIT $2`
	sqlInsertDomain db.SQL = `INSERT INTO sender_domain (id, account_id, name, state, token, created_at, next_check_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`
	sqlUpdateDomain db.SQL = `UPDATE sender_domain
		SET state = $2, overridden = $3, reason = $4, last_error = $5, verified_at = $6, checked_at = $7,
			proof = $8, next_check_at = $9, misses = $10, first_miss_at = $11, last_miss_at = $12 WHERE id = $1`
	sqlClaimDomain  db.SQL = `UPDATE sender_domain SET next_check_at = $3 WHERE id = $1 AND next_check_at = $2`
	sqlNextCheck    db.SQL = `SELECT next_check_at FROM sender_domain ORDER BY next_check_at LIMIT 1`
	sqlDeleteDomain db.SQL = `DELETE FROM sender_domain WHERE id = $1`
)

const selectAddress = `SELECT a.id, a.account_id, a.address, a.state, a.created_at, a.verified_at, a.decided_by, a.reason,
	COALESCE(r.until, 0),
	COALESCE((SELECT l.sent_at FROM sender_letter l WHERE l.account_id = a.account_id AND l.address_key = a.address_key
		AND l.kind = 'ask' AND l.domain = '' ORDER BY l.created_at DESC LIMIT 1), 0),
	COALESCE((SELECT l.expires_at FROM sender_letter l WHERE l.account_id = a.account_id AND l.address_key = a.address_key
		AND l.kind = 'ask' AND l.domain = '' AND l.outcome = '' ORDER BY l.created_at DESC LIMIT 1), 0)
	FROM sender_address a
	LEFT JOIN sender_refusal r ON r.account_id = a.account_id AND r.address_key = a.address_key`

// Addresses.
const (
	sqlAddress       db.SQL = selectAddress + ` WHERE a.account_id = $1 AND a.address_key = $2`
	sqlAddresses     db.SQL = selectAddress + ` WHERE a.account_id = $1 ORDER BY a.address_key`
	sqlInsertAddress db.SQL = `INSERT INTO sender_address (id, account_id, address_key, address, state, created_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, address_key) DO NOTHING`
	sqlUpdateAddress db.SQL = `UPDATE sender_address SET state = $2, verified_at = $3, decided_by = $4, reason = $5 WHERE id = $1`
	sqlDeleteAddress db.SQL = `DELETE FROM sender_address WHERE id = $1`
)

const selectLetter = `SELECT id, account_id, kind, address, domain, lang, requested_by, created_at, due, expires_at, outcome, decided_at
	FROM sender_letter`

// Letters and refusals.
const (
	sqlInsertLetter db.SQL = `INSERT INTO sender_letter
			(id, account_id, kind, address_key, address, domain, lang, requested_by, created_at, due)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, TRUE)`
	sqlLetter     db.SQL = selectLetter + ` WHERE id = $1`
	sqlDueLetters db.SQL = selectLetter + ` WHERE due = TRUE ORDER BY created_at, id LIMIT $1`
	// What is asked for by letters that nobody has answered yet.
	sqlDueAsks     db.SQL = selectLetter + ` WHERE due = TRUE AND account_id = $1 AND kind = 'ask' AND domain = ''`
	sqlLetterSent  db.SQL = `UPDATE sender_letter SET due = FALSE, sent_at = $2, expires_at = $3 WHERE id = $1 AND due = TRUE`
	sqlCloseLetter db.SQL = `UPDATE sender_letter SET due = FALSE, outcome = $2, decided_at = $3 WHERE id = $1 AND outcome = ''`
	// A new letter makes the ones before it void, a removal all of them.
	sqlReplaceAsks db.SQL = `UPDATE sender_letter SET due = FALSE, outcome = 'replaced', decided_at = $4
		WHERE account_id = $1 AND address_key = $2 AND domain = $3 AND kind = 'ask' AND outcome = ''`
	sqlWithdrawOfAddress db.SQL = `UPDATE sender_letter SET due = FALSE, outcome = 'withdrawn', decided_at = $3
		WHERE account_id = $1 AND address_key = $2 AND domain = '' AND outcome = ''`
	sqlWithdrawOfDomain db.SQL = `UPDATE sender_letter SET due = FALSE, outcome = 'withdrawn', decided_at = $3
		WHERE account_id = $1 AND domain = $2 AND outcome = ''`
	sqlAsked db.SQL = `SELECT created_at FROM sender_letter
		WHERE account_id = $1 AND address_key = $2 AND kind = 'ask' AND created_at > $3 ORDER BY created_at DESC LIMIT $4`
	sqlOpenAsks db.SQL = `SELECT COUNT(*) FROM sender_letter
		WHERE account_id = $1 AND address_key = $2 AND domain = '' AND kind = 'ask' AND outcome = '' AND (due = TRUE OR expires_at > $3)`
	sqlDeleteLetters db.SQL = `DELETE FROM sender_letter WHERE id IN
		(SELECT id FROM sender_letter WHERE created_at < $1 AND (kind = 'ask' OR outcome <> '') ORDER BY created_at LIMIT $2)`

	sqlRefusal    db.SQL = `SELECT until FROM sender_refusal WHERE account_id = $1 AND address_key = $2`
	sqlSetRefusal db.SQL = `INSERT INTO sender_refusal (account_id, address_key, until) VALUES ($1, $2, $3)
		ON CONFLICT (account_id, address_key) DO UPDATE SET until = excluded.until`
	sqlDeleteRefusals db.SQL = `DELETE FROM sender_refusal WHERE until < $1`
)

// Entries of users.
const (
	sqlInsertEntry db.SQL = `INSERT INTO sender_entry (user_id, account_id, kind, domain, address_key, shown, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_id, kind, domain, address_key) DO NOTHING`
	sqlDeleteEntry          db.SQL = `DELETE FROM sender_entry WHERE user_id = $1 AND kind = $2 AND domain = $3 AND address_key = $4`
	sqlDeleteAddressEntries db.SQL = `DELETE FROM sender_entry WHERE account_id = $1 AND kind = 'address' AND domain = $2 AND address_key = $3`
	sqlDeleteDomainEntries  db.SQL = `DELETE FROM sender_entry WHERE account_id = $1 AND kind IN ('domain', 'wildcard') AND domain = $2`
	sqlCountEntries         db.SQL = `SELECT COUNT(*) FROM sender_entry WHERE user_id = $1`
	sqlEntries              db.SQL = `SELECT e.kind, e.domain, e.address_key, e.shown, COALESCE(d.state, ''), COALESCE(a.state, '')
		FROM sender_entry e
		LEFT JOIN sender_domain d ON d.account_id = e.account_id AND d.name = e.domain
		LEFT JOIN sender_address a ON a.account_id = e.account_id AND a.address_key = e.address_key
		WHERE e.user_id = $1 ORDER BY e.kind DESC, e.domain, e.address_key`
)
