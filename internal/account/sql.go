package account

import "mittente/internal/db"

// Beginnings that statements share.
const (
	selectAccount = `SELECT id, number, name, speed_per_hour, created_at FROM account`
	selectList    = `SELECT l.id, l.account_id, a.number, l.number, l.name, l.created_at,
			l.min_tls, l.retry, l.lifetime, l.delay_after, l.paused, l.lang
		FROM list l JOIN account a ON a.id = l.account_id`
	selectUser = `SELECT u.id, u.account_id, a.number, u.list_id, l.number, u.name, u.active, u.priority, u.note,
			u.require_tls, u.networks, u.quota_per_hour, u.speed_per_hour, u.created_at, u.password_at, u.last_used_at, u.removed_at
		FROM smtp_user u JOIN account a ON a.id = u.account_id JOIN list l ON l.id = u.list_id`
)

// Accounts and lists.
const (
	sqlAccountByNumber db.SQL = selectAccount + ` WHERE number = $1`
	sqlAccountByID     db.SQL = selectAccount + ` WHERE id = $1`
	sqlAccounts        db.SQL = selectAccount + ` ORDER BY number`
	sqlAccountNamed    db.SQL = `SELECT COUNT(*) FROM account WHERE name = $1 AND number <> $2`
	sqlNextAccount     db.SQL = `SELECT COALESCE(MAX(number), 0) + 1 FROM account`
	sqlInsertAccount   db.SQL = `INSERT INTO account (id, number, name, created_at) VALUES ($1, $2, $3, $4)`
	sqlUpdateAccount   db.SQL = `UPDATE account SET name = $2, speed_per_hour = $3 WHERE number = $1`

	sqlListByNumber db.SQL = selectList + ` WHERE l.number = $1`
	sqlListByID     db.SQL = selectList + ` WHERE l.id = $1`
	sqlLists        db.SQL = selectList + ` WHERE CAST($1 AS BIGINT) = 0 OR a.number = CAST($1 AS BIGINT) ORDER BY l.number`
	sqlListNamed    db.SQL = `SELECT COUNT(*) FROM list WHERE account_id = $1 AND name = $2 AND number <> $3`
	sqlNextList     db.SQL = `SELECT COALESCE(MAX(number), 0) + 1 FROM list`
	sqlInsertList   db.SQL = `INSERT INTO list (id, account_id, number, name, created_at) VALUES ($1, $2, $3, $4, $5)`
	sqlUpdateList   db.SQL = `UPDATE list SET name = $2, min_tls = $3, retry = $4, lifetime = $5, delay_after = $6, paused = $7, lang = $8
		WHERE number = $1`
)

// Users.
const (
	sqlUserByName db.SQL = selectUser + ` WHERE u.name = $1 AND u.removed_at = 0`
	sqlAnyUser    db.SQL = selectUser + ` WHERE u.removed_at = 0 AND CAST($1 AS BOOLEAN) ORDER BY u.name LIMIT 1`
	sqlUserByID   db.SQL = selectUser + ` WHERE u.id = $1`
	sqlUsers      db.SQL = selectUser + `
		WHERE (CAST($1 AS BIGINT) = 0 OR a.number = CAST($1 AS BIGINT))
		  AND (CAST($2 AS BIGINT) = 0 OR l.number = CAST($2 AS BIGINT))
		  AND (u.removed_at > 0) = CAST($3 AS BOOLEAN)
		ORDER BY a.number, u.number`
	sqlNextUser   db.SQL = `UPDATE account SET users_made = users_made + 1 WHERE id = $1 RETURNING users_made`
	sqlInsertUser db.SQL = `INSERT INTO smtp_user
			(id, account_id, list_id, number, name, active, priority, note, require_tls, networks, quota_per_hour, speed_per_hour, created_at, password_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)`
	sqlUpdateUser db.SQL = `UPDATE smtp_user SET list_id = $2, active = $3, priority = $4, note = $5, require_tls = $6,
		networks = $7, quota_per_hour = $8, speed_per_hour = $9 WHERE id = $1`
	sqlRemoveUser db.SQL = `UPDATE smtp_user SET removed_at = $2 WHERE id = $1`
	sqlUsedUser   db.SQL = `UPDATE smtp_user SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2`
)

// Credentials.
const (
	// sqlVerifiers has the lasting ones and the one-time ones that are still good at $2.
	sqlVerifiers db.SQL = `SELECT id, salt, hash, expires_at, one_time, stored_key, server_key FROM credential
		WHERE user_id = $1 AND used_at = 0 AND (expires_at = 0 OR expires_at > $2) ORDER BY id DESC`
	// sqlCredentials has the lasting ones.
	//nolint:gosec // the name alone reads like a secret
	sqlCredentials db.SQL = `SELECT id, created_at, expires_at, last_used_at, stored_key IS NOT NULL FROM credential
		WHERE user_id = $1 AND one_time = $3 AND (expires_at = 0 OR expires_at > $2) ORDER BY id DESC`
	sqlInsertCredential db.SQL = `INSERT INTO credential
			(id, account_id, user_id, salt, hash, stored_key, server_key, one_time, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	sqlDeleteCredentials db.SQL = `DELETE FROM credential WHERE user_id = $1`
	sqlDeleteLasting     db.SQL = `DELETE FROM credential WHERE user_id = $1 AND one_time = $2`
	sqlDeleteOverlapping db.SQL = `DELETE FROM credential WHERE user_id = $1 AND one_time = $2 AND expires_at > 0`
	sqlEndLasting        db.SQL = `UPDATE credential SET expires_at = $3 WHERE user_id = $1 AND one_time = $2`
	sqlCredentialUsed    db.SQL = `UPDATE credential SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2` //nolint:gosec // the name alone reads like a secret
	sqlRegenerated       db.SQL = `UPDATE smtp_user SET password_at = $2 WHERE id = $1`
	sqlCountOneTime      db.SQL = `SELECT COUNT(*) FROM credential WHERE user_id = $1 AND one_time = $2`
	sqlDeleteOver        db.SQL = `DELETE FROM credential WHERE user_id = $1 AND one_time = $2 AND (used_at > 0 OR expires_at <= $3)`
	sqlSpend             db.SQL = `UPDATE credential SET used_at = $2
		WHERE id = $1 AND one_time = $3 AND used_at = 0 AND expires_at > $2`
	sqlDeleteExpired db.SQL = `DELETE FROM credential WHERE id IN
		(SELECT id FROM credential WHERE expires_at > 0 AND expires_at <= $1 LIMIT 200)`
)
