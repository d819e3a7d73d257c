package query

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseTime reads a day ("2026-11-22", "today", "yesterday"), which is its
// beginning in now's zone, a time of RFC 3339, or how long ago ("90m", "3h", "2d", "1w").
func parseTime(s string, now time.Time) (time.Time, error) {
	midnight := func(days int) time.Time {
		y, m, d := now.Date()
		return time.Date(y, m, d+days, 0, 0, 0, 0, now.Location())
	}
	switch strings.ToLower(s) {
	case "today":
		return midnight(0), nil
	case "yesterday":
		return midnight(-1), nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return day, nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	if ago, ok := parseAgo(s); ok {
		return now.Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("%.30q is no time: want 2026-11-22, today, yesterday, 3h, 2d", s)
}

// parseAgo reads a number with its unit, up to ten years.
func parseAgo(s string) (time.Duration, bool) {
	if len(s) < 2 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 'm':
		unit = time.Minute
	case 'h':
		unit = time.Hour
	case 'd':
		unit = 24 * time.Hour
	case 'w':
		unit = 7 * 24 * time.Hour
	}
	const tenYears = 10 * 366 * 24 * time.Hour
	if unit == 0 || n > uint64(tenYears/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}
