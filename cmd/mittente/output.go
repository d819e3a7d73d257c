package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// column is one column of a table: its heading and the cell of an item.
type column[T any] struct {
	head string
	cell func(T) string
}

// emit prints items in the chosen form: a table, an array, or one object a line.
func emit[T any](a *app, items []T, columns ...column[T]) error {
	switch a.output {
	case "json":
		if items == nil {
			items = []T{}
		}
		return writeJSON(a.out, items, "  ")
	case "jsonl":
		for _, item := range items {
			if err := writeJSON(a.out, item, ""); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([][]string, 1, len(items)+1)
	for _, c := range columns {
		rows[0] = append(rows[0], strings.ToUpper(c.head))
	}
	for _, item := range items {
		var row []string
		for _, c := range columns {
			row = append(row, c.cell(item))
		}
		rows = append(rows, row)
	}
	return a.writeTable(rows)
}

// emitOne prints one item: an object, or what human writes.
func emitOne[T any](a *app, item T, human func(w io.Writer)) error {
	switch a.output {
	case "json":
		return writeJSON(a.out, item, "  ")
	case "jsonl":
		return writeJSON(a.out, item, "")
	}
	human(a.out)
	return nil
}

func writeJSON(w io.Writer, v any, indent string) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(v)
}

// writeTable aligns the columns; the first row is the heading.
func (a *app) writeTable(rows [][]string) error {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i > 0 {
				b.WriteString("  ")
			}
			if n == 0 {
				b.WriteString(a.bold(cell))
			} else {
				b.WriteString(a.paint(cell))
			}
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
			}
		}
		if _, err := fmt.Fprintln(a.out, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// bold marks a heading, on a terminal only.
func (a *app) bold(cell string) string {
	if !a.color {
		return cell
	}
	return "\x1b[1m" + cell + "\x1b[0m"
}

// paint colours a word that names a state, on a terminal only.
func (a *app) paint(cell string) string {
	if !a.color {
		return cell
	}
	switch cell {
	case "delivered", "verified", "active", "ok", "bound":
		return "\x1b[32m" + cell + "\x1b[0m"
	case "failed", "revoked", "expired", "refused":
		return "\x1b[31m" + cell + "\x1b[0m"
	case "pending", "deferred", "skipped", "inactive", "leased", "warning":
		return "\x1b[33m" + cell + "\x1b[0m"
	}
	return cell
}

// fields prints "name  value" lines, aligned; empty values are left out.
func fields(w io.Writer, pairs ...string) {
	width := 0
	for i := 0; i+1 < len(pairs); i += 2 {
		width = max(width, len(pairs[i]))
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(w, "%-*s  %s\n", width, pairs[i], pairs[i+1])
		}
	}
}

// stamp is a time for programs: RFC 3339 in UTC, to the microsecond; "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00")
}

// convert makes a view of each item.
func convert[T, V any](items []T, view func(T) V) []V {
	views := make([]V, 0, len(items))
	for _, item := range items {
		views = append(views, view(item))
	}
	return views
}

// when is a time for people: local, to the second; "" for none.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05" + zoneLayout(t))
}

// zoneLayout is the layout of the zone's name, which goes without saying for UTC only:
// sentences and logs are in UTC.
func zoneLayout(t time.Time) string {
	if name, _ := t.Local().Zone(); name == "UTC" {
		return ""
	}
	return " MST"
}

// span is a duration as people write it: 1m and not 1m0s.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// orDash keeps an empty cell visible.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// oneLine makes text safe for a terminal: no control characters, at most n runes.
func oneLine(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if utf8.RuneCountInString(s) > n {
		return string([]rune(s)[:n-1]) + "…"
	}
	return s
}

// progress says what takes long, to a person at a terminal only.
func (a *app) progress(format string, args ...any) {
	if a.person {
		fmt.Fprintf(a.err, format+" …\n", args...)
	}
}
