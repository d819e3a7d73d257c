package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
)

const (
	heartbeatEvery = 5 * time.Second
	heartbeatDead  = 30 * time.Second // without a heartbeat for this long, a node's leases are anyone's
	reclaimSlice   = 100              // recipients per transaction
)

const (
	startNode db.SQL = `
INSERT INTO node (number, name, generation, heartbeat)
SELECT COALESCE(MAX(number), 0) + 1, CAST($1 AS TEXT), 1, CAST($2 AS BIGINT) FROM node WHERE 1 = 1
ON CONFLICT (name) DO UPDATE SET generation = node.generation + 1, heartbeat = excluded.heartbeat
RETURNING number, generation`

	selectHeartbeat db.SQL = `SELECT heartbeat FROM node WHERE name = $1`

	beatNode db.SQL = `UPDATE node SET heartbeat = $3 WHERE number = $1 AND generation = $2`

	// A dead node that comes back must not think that its leases still hold, so
	// its generation goes up before they are given away.
	fenceDead db.SQL = `
UPDATE node SET generation = generation + 1
WHERE heartbeat < $1 AND number <> $2 AND EXISTS (
    SELECT 1 FROM recipient WHERE state = 'leased' AND lease_node = node.number)
RETURNING number, generation`

	reclaimLeases db.SQL = `
UPDATE recipient SET state = 'pending', lease_node = 0, lease_generation = 0
WHERE state = 'leased' AND id IN (
    SELECT id FROM recipient
    WHERE state = 'leased' AND lease_node = $1 AND lease_generation < $2 AND wish = '' LIMIT $3)`

	selectWishedFor db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE wish <> '' AND lease_node = $1 AND lease_generation < $2 AND state = 'leased' LIMIT $3`

	setReport db.SQL = `UPDATE node SET report = $2, reported_at = $3 WHERE name = $1`

	selectReports db.SQL = `
SELECT number, name, generation, heartbeat, report, reported_at FROM node ORDER BY name`
)

var errNotStarted = errors.New("this process is no node yet")

// node is what this process is in the cluster.
type node struct {
	name  string
	lease Lease
}

// lease returns the lease under which this process takes recipients; zero before Start.
func (q *Queue) lease() Lease {
	if n := q.node.Load(); n != nil {
		return n.lease
	}
	return Lease{}
}

// Holds reports whether a lease is one of this node's present generation, as
// far as this process knows.
func (q *Queue) Holds(l Lease) bool { return !l.IsZero() && l == q.lease() }

// Start makes this process the node of that name, in a new generation: from now
// on Enqueue and Claim lease to it, and what an earlier start of the node still
// holds can't be settled by it any more. Its recipients are taken back by Run,
// in slices, while new work goes on.
func (q *Queue) Start(ctx context.Context, name string) error {
	var lease Lease
	var behind time.Duration
	now := q.deps.Clock()
	err := q.db.Batch(ctx, func(tx *db.Tx) error {
		last, err := db.Collect(tx, func(row db.Scanner) (at int64, err error) {
			err = row.Scan(&at)
			return at, err
		}, selectHeartbeat, name)
		if err != nil {
			return err
		}
		if behind = 0; len(last) > 0 {
			behind = db.Time(last[0]).Sub(now)
		}
		return tx.Row(startNode, name, db.Micros(now)).Scan(&lease.Node, &lease.Generation)
	})
	if err != nil {
		return fmt.Errorf("start node %s: %w", name, err)
	}
	if behind > clockJump {
		q.behind.Store(int64(behind))
	}
	q.node.Store(&node{name: name, lease: lease})
	return nil
}

// Heartbeat tells the other nodes that this one lives. When this node was taken
// for dead meanwhile, it starts it anew.
func (q *Queue) Heartbeat(ctx context.Context) error {
	me := q.node.Load()
	if me == nil {
		return fmt.Errorf("heartbeat: %w", errNotStarted)
	}
	var alive int64
	err := q.db.Batch(ctx, func(tx *db.Tx) (err error) {
		alive, err = tx.Exec(beatNode, me.lease.Node, me.lease.Generation, db.Micros(q.deps.Clock()))
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("heartbeat: %w", err)
	case alive == 0:
		return q.Start(ctx, me.name)
	}
	return nil
}

// Reclaim takes back what earlier starts of this node and nodes without a
// heartbeat hold, in slices, and returns how many recipients became pending.
func (q *Queue) Reclaim(ctx context.Context) (int, error) {
	me := q.lease()
	if me.IsZero() {
		return 0, fmt.Errorf("reclaim: %w", errNotStarted)
	}
	dead, err := q.fence(ctx, me)
	if err != nil {
		return 0, fmt.Errorf("reclaim: %w", err)
	}
	total := 0
	for _, l := range append(dead, me) {
		n, err := q.reclaim(ctx, l)
		total += n
		if err != nil {
			return total, fmt.Errorf("reclaim: %w", err)
		}
	}
	return total, nil
}

// fence raises the generation of dead nodes that hold leases, and returns it.
func (q *Queue) fence(ctx context.Context, me Lease) ([]Lease, error) {
	var dead []Lease
	err := q.db.Batch(ctx, func(tx *db.Tx) (err error) {
		dead, err = db.Collect(tx, func(row db.Scanner) (l Lease, err error) {
			err = row.Scan(&l.Node, &l.Generation)
			return l, err
		}, fenceDead, db.Micros(q.deps.Clock().Add(-heartbeatDead)), me.Node)
		return err
	})
	return dead, err
}

// reclaim takes back all leases of a node that are older than its generation.
func (q *Queue) reclaim(ctx context.Context, l Lease) (total int, err error) {
	for {
		var n int64
		err := q.db.Batch(ctx, func(tx *db.Tx) (err error) {
			n, err = tx.Exec(reclaimLeases, l.Node, l.Generation, int64(reclaimSlice))
			return err
		})
		if err != nil {
			return total, err
		}
		total += int(n)
		q.metrics.reclaimed.Add(float64(n))
		if n > 0 {
			q.tellDue()
		}
		if n < reclaimSlice {
			break
		}
	}
	for {
		n, err := q.reclaimWished(ctx, l)
		total += n
		if n < operateSlice || err != nil {
			return total, err
		}
	}
}

// reclaimWished takes back leases for which something is wished, a slice of them.
func (q *Queue) reclaimWished(ctx context.Context, l Lease) (n int, err error) {
	err = q.db.Batch(ctx, func(tx *db.Tx) error {
		found, err := db.Collect(tx, func(row db.Scanner) (Recipient, error) { return scanRecipient(row) },
			selectWishedFor, l.Node, l.Generation, int64(operateSlice))
		if err != nil {
			return err
		}
		for _, r := range found {
			m, err := q.Message(tx, r.Message)
			if err != nil {
				return err
			}
			if _, err := q.release(tx, &m.Message, r); err != nil {
				return err
			}
		}
		n = len(found)
		return nil
	})
	if err != nil {
		return 0, err
	}
	q.metrics.reclaimed.Add(float64(n))
	return n, nil
}

// Report writes what only the process of a node knows, as JSON, to the node's
// row. It returns ErrNotFound before that node's first Start.
func (q *Queue) Report(ctx context.Context, name string, doc []byte) error {
	var nodes int64
	err := q.db.Batch(ctx, func(tx *db.Tx) (err error) {
		nodes, err = tx.Exec(setReport, name, string(doc), db.Micros(q.deps.Clock()))
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
	Heartbeat  time.Time // the node lives when it is at most 30 s old
	Doc        []byte    // JSON; nil: nothing written yet
	ReportedAt time.Time
}

// Alive reports whether the node's heartbeat is recent enough.
func (r Report) Alive(now time.Time) bool { return now.Sub(r.Heartbeat) <= heartbeatDead }

// Reports returns all nodes that were ever started, by name.
func (q *Queue) Reports(tx *db.Tx) ([]Report, error) {
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
