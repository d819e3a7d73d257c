package db

import "time"

// Scanner is a row: of one (*sql.Row), or the current one of many (*sql.Rows).
type Scanner interface{ Scan(dest ...any) error }

// Collect reads all rows of a query, each with scan. A query without rows gives
// an empty list, not nil.
func Collect[T any](tx *Tx, scan func(Scanner) (T, error), q SQL, args ...any) ([]T, error) {
	rows, err := tx.Rows(q, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// Now is the time as it can be stored: UTC, to the microsecond.
func Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
