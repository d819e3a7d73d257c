package signer

import "mittente/internal/db"

const (
	sqlInsertKey db.SQL = `INSERT INTO signer_key
			(id, account_id, domain_id, domain, selector, algorithm, record_name, record_value, sealed, state, created_at, moved_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)`
	// The first rows are those that sign; what was left last comes before what was left earlier.
	sqlSigning db.SQL = `SELECT id, domain_id, domain, selector, sealed, state, moved_at
		FROM signer_key WHERE account_id = $1 AND domain = $2 AND state IN ('active', 'left')
		ORDER BY state, moved_at DESC, id`
	sqlKeys db.SQL = `SELECT id, domain_id, selector, algorithm, record_name, record_value, state, created_at, published_at, moved_at
		FROM signer_key WHERE account_id = $1 AND domain = $2 AND state <> 'left' ORDER BY created_at, id`
	sqlMove      db.SQL = `UPDATE signer_key SET state = $3, moved_at = $4 WHERE id = $1 AND state = $2`
	sqlErase     db.SQL = `UPDATE signer_key SET sealed = $2 WHERE id = $1`
	sqlPublished db.SQL = `UPDATE signer_key SET published_at = $2 WHERE id = $1`
	sqlDelete    db.SQL = `DELETE FROM signer_key WHERE id = $1`
	sqlOld       db.SQL = `SELECT id, account_id, domain, moved_at FROM signer_key
		WHERE state = $1 AND moved_at < $2 AND moved_at >= $3 ORDER BY moved_at, id LIMIT $4`

	sqlInsertSeal db.SQL = `INSERT INTO signer_seal (id, check_value) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`
	sqlSeal       db.SQL = `SELECT check_value FROM signer_seal WHERE id = 1`
)
