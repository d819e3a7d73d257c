package queue

import "mittente/internal/db"

// matching holds for what a query asks of message m. The parameters are the same
// in every statement that has it: searchArgs.
const matching = `
  AND m.id >= $1 AND m.id < $2
  AND (CAST($3 AS BYTEA) IS NULL OR m.account_id = $3)
  AND (CAST($4 AS TEXT) = '' OR m.user_name = $4)
  AND (CAST($5 AS TEXT) = '' OR LOWER(m.reverse_path) = $5 OR LOWER(m.header_from) = $6)
  AND (CAST($7 AS TEXT) = '' OR LOWER(m.reverse_path) LIKE $7 ESCAPE '!' OR LOWER(m.header_from) LIKE $8 ESCAPE '!')
  AND (CAST($9 AS TEXT) = '' OR LOWER(m.subject) LIKE $9 ESCAPE '!')
  AND (CAST($10 AS TEXT) = '' OR LOWER(m.subject) LIKE $10 ESCAPE '!')
  AND (CAST($11 AS TEXT) = '' OR LOWER(m.subject) LIKE $11 ESCAPE '!')
  AND (CAST($12 AS TEXT) = '' OR LOWER(m.subject) LIKE $12 ESCAPE '!')
  AND (CAST($13 AS TEXT) = '' OR m.message_id = $13)
  AND ((CAST($14 AS TEXT) = '' AND CAST($15 AS TEXT) = '' AND CAST($16 AS TEXT) = '') OR EXISTS (
    SELECT 1 FROM recipient AS r WHERE r.message_id = m.id
      AND (CAST($14 AS TEXT) = '' OR LOWER(r.forward_path) = $14)
      AND (CAST($15 AS TEXT) = '' OR r.domain = $15)
      AND (CAST($16 AS TEXT) = '' OR (r.state = $16 AND r.attempts >= $17 AND r.attempts <= $18))))
ORDER BY m.id DESC LIMIT $19`

// A way counts what its index leads to, up to a limit, or finds what of it matches.
// The indexes are named in schema/0003_search.sql.
const (
	findRange db.SQL = `SELECT m.id FROM message AS m WHERE 1 = 1` + matching

	countByMessageID db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM message WHERE message_id = $1 LIMIT $2) AS bounded`
	findByMessageID  db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT id FROM message WHERE message_id = $13)` + matching

	countByTo db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient
    WHERE domain = $1 AND LOWER(forward_path) = $2 LIMIT $3) AS bounded`
	findByTo db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient WHERE domain = $15 AND LOWER(forward_path) = $14)` + matching

	countByFrom db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM message WHERE LOWER(reverse_path) = $1
    UNION ALL SELECT 1 AS one FROM message WHERE header_from <> reverse_path AND LOWER(header_from) = $2 LIMIT $3) AS bounded`
	findByFrom db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT id FROM message WHERE LOWER(reverse_path) = $5
    UNION ALL SELECT id FROM message WHERE header_from <> reverse_path AND LOWER(header_from) = $6)` + matching

	countByPending db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'pending' AND NOT parked
    UNION ALL SELECT 1 AS one FROM recipient WHERE parked LIMIT $1) AS bounded`
	findByPending db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient WHERE state = 'pending' AND NOT parked
    UNION ALL SELECT message_id FROM recipient WHERE parked)` + matching

	countByLeased db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'leased' LIMIT $1) AS bounded`
	findByLeased  db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient WHERE state = 'leased')` + matching

	countByHeld db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'held' LIMIT $1) AS bounded`
	findByHeld  db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient WHERE state = 'held')` + matching

	countByUndelivered db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient
    WHERE state IN ('failed', 'expired', 'cancelled', 'suppressed') LIMIT $1) AS bounded`
	findByUndelivered db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient
    WHERE state IN ('failed', 'expired', 'cancelled', 'suppressed'))` + matching

	countByDomain db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE domain = $1 LIMIT $2) AS bounded`
	findByDomain  db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient WHERE domain = $15)` + matching

	countByUser db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM message WHERE user_name = $1 LIMIT $2) AS bounded`
	findByUser  db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT id FROM message WHERE user_name = $4)` + matching

	countByAccount db.SQL = `SELECT COUNT(*) FROM (SELECT 1 AS one FROM message WHERE account_id = $1 LIMIT $2) AS bounded`
	findByAccount  db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT id FROM message WHERE account_id = $3)` + matching

	// The lowest of the next messages, so that a search can stop in between.
	selectChunk db.SQL = `
SELECT id FROM message WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT 1 OFFSET $3`

	countStanding db.SQL = `
SELECT state, CASE WHEN attempts > 0 THEN 1 ELSE 0 END, COUNT(*) FROM recipient
WHERE message_id = $1 GROUP BY 1, 2`
)
