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

// A way counts what its index leads to, up to a limit; walks along it, the newest
// first; and finds, in a part of it, what matches. Parameters of a walk are those of
// the count without its limit, then the first identifier, the first beyond, and a limit.
const (
	walkAll db.SQL = `
SELECT id FROM message WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3`
	findAll db.SQL = `SELECT m.id FROM message AS m WHERE 1 = 1` + matching

	countMessageID db.SQL = `
SELECT COUNT(*) FROM (SELECT 1 AS one FROM message WHERE message_id = $1 LIMIT $2) AS bounded`
	walkMessageID db.SQL = `
SELECT id FROM message WHERE message_id = $1 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4`
	findMessageID db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT id FROM message WHERE message_id = $13 AND id >= $1 AND id < $2)` + matching

	countUser db.SQL = `
SELECT COUNT(*) FROM (SELECT 1 AS one FROM message WHERE user_name = $1 LIMIT $2) AS bounded`
	walkUser db.SQL = `
SELECT id FROM message WHERE user_name = $1 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4`
	findUser db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT id FROM message WHERE user_name = $4 AND id >= $1 AND id < $2)` + matching

	countAccount db.SQL = `
SELECT COUNT(*) FROM (SELECT 1 AS one FROM message WHERE account_id = $1 LIMIT $2) AS bounded`
	walkAccount db.SQL = `
SELECT id FROM message WHERE account_id = $1 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4`
	findAccount db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT id FROM message WHERE account_id = $3 AND id >= $1 AND id < $2)` + matching

	countFrom db.SQL = `
SELECT COUNT(*) FROM (SELECT 1 AS one FROM message WHERE LOWER(reverse_path) = $1
    UNION ALL SELECT 1 AS one FROM message WHERE header_from <> reverse_path AND LOWER(header_from) = $2 LIMIT $3) AS bounded`
	walkFrom db.SQL = `
SELECT id FROM (
    SELECT id FROM (SELECT id FROM message
        WHERE LOWER(reverse_path) = $1 AND id >= $3 AND id < $4 ORDER BY id DESC LIMIT $5) AS enveloped
    UNION SELECT id FROM (SELECT id FROM message
        WHERE header_from <> reverse_path AND LOWER(header_from) = $2 AND id >= $3 AND id < $4
        ORDER BY id DESC LIMIT $5) AS shown) AS either
ORDER BY id DESC LIMIT $5`
	findFrom db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT id FROM message WHERE LOWER(reverse_path) = $5 AND id >= $1 AND id < $2
    UNION ALL SELECT id FROM message
    WHERE header_from <> reverse_path AND LOWER(header_from) = $6 AND id >= $1 AND id < $2)` + matching

	countTo db.SQL = `
SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient
    WHERE domain = $1 AND LOWER(forward_path) = $2 LIMIT $3) AS bounded`
	walkTo db.SQL = `
SELECT DISTINCT message_id FROM recipient
WHERE domain = $1 AND LOWER(forward_path) = $2 AND message_id >= $3 AND message_id < $4
ORDER BY message_id DESC LIMIT $5`
	findTo db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient
    WHERE domain = $15 AND LOWER(forward_path) = $14 AND message_id >= $1 AND message_id < $2)` + matching

	countDomain db.SQL = `
SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE domain = $1 LIMIT $2) AS bounded`
	walkDomain db.SQL = `
SELECT DISTINCT message_id FROM recipient
WHERE domain = $1 AND message_id >= $2 AND message_id < $3 ORDER BY message_id DESC LIMIT $4`
	findDomain db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient WHERE domain = $15 AND message_id >= $1 AND message_id < $2)` + matching

	countStanding db.SQL = `
SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient
    WHERE state IN ('pending', 'held', 'failed', 'expired', 'cancelled', 'suppressed')
      AND state = $1 AND attempts >= $2 AND attempts <= $3 LIMIT $4) AS bounded`
	walkStanding db.SQL = `
SELECT DISTINCT message_id FROM recipient
WHERE state IN ('pending', 'held', 'failed', 'expired', 'cancelled', 'suppressed')
  AND state = $1 AND attempts >= $2 AND attempts <= $3 AND message_id >= $4 AND message_id < $5
ORDER BY message_id DESC LIMIT $6`
	findStanding db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM recipient
    WHERE state IN ('pending', 'held', 'failed', 'expired', 'cancelled', 'suppressed')
      AND state = $16 AND attempts >= $17 AND attempts <= $18 AND message_id >= $1 AND message_id < $2)` + matching

	// The limit, of which there are less, keeps SQLite from another index.
	countLeased db.SQL = `
SELECT COUNT(*) FROM (SELECT 1 AS one FROM recipient WHERE state = 'leased' LIMIT $1) AS bounded`
	walkLeased db.SQL = `
SELECT DISTINCT message_id FROM (
    SELECT message_id FROM recipient WHERE state = 'leased' LIMIT 10001) AS leased
WHERE message_id >= $1 AND message_id < $2 ORDER BY message_id DESC LIMIT $3`
	findLeased db.SQL = `SELECT m.id FROM message AS m WHERE m.id IN (
    SELECT message_id FROM (SELECT message_id FROM recipient WHERE state = 'leased' LIMIT 10001) AS leased
    WHERE message_id >= $1 AND message_id < $2)` + matching

	sumStandings db.SQL = `
SELECT state, CASE WHEN attempts > 0 THEN 1 ELSE 0 END, COUNT(*) FROM recipient
WHERE message_id = $1 GROUP BY 1, 2`
)
