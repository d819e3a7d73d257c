package sender

import "mittente/internal/db"

const selectDomain = `SELECT id, account_id, name, state, token, overridden, reason, last_error, created_at, verified_at, checked_at
	FROM sender_domain`

// Domains and their keys.
const (
	sqlDomains      db.SQL = selectDomain + ` WHERE account_id = $1 ORDER BY name`
	sqlDomainByName db.SQL = selectDomain + ` WHERE account_id = $1 AND name = $2`
	sqlInsertDomain db.SQL = `INSERT INTO sender_domain (id, account_id, name, state, token, created_at) VALUES ($1, $2, $3, $4, $5, $6)`
	sqlUpdateDomain db.SQL = `UPDATE sender_domain
		SET state = $2, overridden = $3, reason = $4, last_error = $5, verified_at = $6, checked_at = $7 WHERE id = $1`

	sqlInsertKey db.SQL = `INSERT INTO sender_key
			(id, account_id, domain_id, domain, selector, algorithm, record_name, record_value, sealed, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	sqlKeyRecords db.SQL = `SELECT record_name, record_value FROM sender_key WHERE domain_id = $1 ORDER BY id`
	sqlKeys       db.SQL = `SELECT k.id, k.domain_id, k.domain, k.selector, k.sealed
		FROM sender_key k JOIN sender_domain d ON d.id = k.domain_id
		WHERE d.account_id = $1 AND d.name = $2 ORDER BY k.id`

	sqlInsertSeal db.SQL = `INSERT INTO sender_seal (id, check_value) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`
	sqlSeal       db.SQL = `SELECT check_value FROM sender_seal WHERE id = 1`
)

// Entries of users.
const (
	sqlInsertAddress db.SQL = `INSERT INTO sender_address (id, account_id, address_key, address, state, created_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, address_key) DO NOTHING`
	sqlInsertEntry db.SQL = `INSERT INTO sender_entry (user_id, account_id, kind, domain, address_key, shown, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_id, kind, domain, address_key) DO NOTHING`
	sqlDeleteEntry  db.SQL = `DELETE FROM sender_entry WHERE user_id = $1 AND kind = $2 AND domain = $3 AND address_key = $4`
	sqlCountEntries db.SQL = `SELECT COUNT(*) FROM sender_entry WHERE user_id = $1`
	sqlEntries      db.SQL = `SELECT e.kind, e.domain, e.address_key, e.shown, COALESCE(d.state, ''), COALESCE(a.state, '')
		FROM sender_entry e
		LEFT JOIN sender_domain d ON d.account_id = e.account_id AND d.name = e.domain
		LEFT JOIN sender_address a ON a.account_id = e.account_id AND a.address_key = e.address_key
		WHERE e.user_id = $1 ORDER BY e.kind DESC, e.domain, e.address_key`
)
