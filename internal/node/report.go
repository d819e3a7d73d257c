package node

import (
	"context"
	"fmt"
	"time"

	"mittente/internal/db"
)

const (
	setReport db.SQL = `UPDATE node SET report = $2, reported_at = $3 WHERE name = $1`

	selectReports db.SQL = `
SELECT number, name, generation, heartbeat, report, reported_at FROM node ORDER BY name`
)

// Report writes what only the process of a node knows, as JSON, to the node's
// row. It returns ErrNotFound before that node's first Start.
func (n *Nodes) Report(ctx context.Context, name string, doc []byte) error {
	var nodes int64
	err := n.db.Batch(ctx, func(tx *db.Tx) (err error) {
		nodes, err = tx.Exec(setReport, name, string(doc), db.Micros(n.wall()))
		return err
	})
	if err == nil && nodes == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("report of node %s: %w", name, err)
	}
	return nil
}

// Report is what a node has written of itself.
type Report struct {
	Node       string
	Lease      Lease
	Heartbeat  time.Time
	Doc        []byte // JSON; nil: nothing written yet
	ReportedAt time.Time
}

// Alive reports whether the node's heartbeat is recent enough. One that lies as far
// ahead is of a clock that was set back: who lives gives another within 5 s.
func (r Report) Alive(now time.Time) bool { return now.Sub(r.Heartbeat).Abs() <= DeadAfter }

// Reports returns all nodes that were ever started, by name.
func (n *Nodes) Reports(tx *db.Tx) ([]Report, error) {
	list, err := db.Collect(tx, func(row db.Scanner) (Report, error) {
		var r Report
		var beat, at int64
		var doc string
		err := row.Scan(&r.Lease.Node, &r.Node, &r.Lease.Generation, &beat, &doc, &at)
		r.Heartbeat, r.ReportedAt = db.Time(beat), db.Time(at)
		if doc != "" {
			r.Doc = []byte(doc)
		}
		return r, err
	}, selectReports)
	if err != nil {
		return nil, fmt.Errorf("reports: %w", err)
	}
	return list, nil
}
