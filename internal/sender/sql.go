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

const selectAddress = `SELECT id, account_id, address, state, created_at, verified_at, decided_by, reason FROM sender_address`

// Addresses.
const (
	sqlAddress       db.SQL = selectAddress + ` WHERE account_id = $1 AND address_key = $2`
	sqlAddresses     db.SQL = selectAddress + ` WHERE account_id = $1 ORDER BY address_key`
	sqlInsertAddress db.SQL = `INSERT INTO sender_address (id, account_id, address_key, address, state, created_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, address_key) DO NOTHING`
	sqlUpdateAddress db.SQL = `UPDATE sender_address SET state = $2, verified_at = $3, decided_by = $4, reason = $5 WHERE id = $1`
	sqlDeleteAddress db.SQL = `DELETE FROM sender_address WHERE id = $1`
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
