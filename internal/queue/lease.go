package queue

import (
	"context"
	"fmt"

	"mittente/internal/db"
	"mittente/internal/node"
)

// Lease is the right of one node to attempt and settle a recipient.
type Lease = node.Lease

const reclaimSlice = 100 // recipients per transaction

const (
	// The nodes that hold leases: one step along the index for each.
	selectHolders db.SQL = `
WITH RECURSIVE holders (lease_node) AS (
    SELECT lease_node FROM (
        SELECT lease_node FROM recipient WHERE state = 'leased' ORDER BY lease_node LIMIT 1) AS lowest
    UNION ALL
    SELECT (SELECT r.lease_node FROM recipient AS r
            WHERE r.state = 'leased' AND r.lease_node > holders.lease_node
            ORDER BY r.lease_node LIMIT 1)
    FROM holders WHERE holders.lease_node IS NOT NULL
)
SELECT lease_node FROM holders WHERE lease_node IS NOT NULL`

	reclaimLeases db.SQL = `
UPDATE recipient SET state = 'pending', lease_node = 0, lease_generation = 0
WHERE state = 'leased' AND id IN (
    SELECT id FROM recipient
    WHERE state = 'leased' AND lease_node = $1 AND lease_generation < $2 AND wish = '' LIMIT $3)`

	selectWishedFor db.SQL = `SELECT ` + columns + ` FROM recipient
WHERE wish <> '' AND lease_node = $1 AND lease_generation < $2 AND state = 'leased' LIMIT $3`
)

// Start makes this process the node of that name, in a new generation: from now
// on Enqueue and Claim lease to it, and what an earlier start of the node still
// holds can't be settled by it any more. Its recipients are taken back by Run,
// in slices, while new work goes on.
func (q *Queue) Start(ctx context.Context, name string) error {
	ahead, err := q.Nodes.Start(ctx, name)
	if err == nil && ahead > clockJump {
		q.behind.Store(int64(ahead))
	}
	return err
}

// Reclaim takes back what earlier starts of this node and nodes without a
// heartbeat hold, in slices, and returns how many recipients became pending.
func (q *Queue) Reclaim(ctx context.Context) (int, error) {
	me := q.Lease()
	if me.IsZero() {
		return 0, fmt.Errorf("reclaim: %w", node.ErrNotStarted)
	}
	var dead []Lease
	err := q.db.Batch(ctx, func(tx *db.Tx) error {
		holders, err := db.Collect(tx, func(row db.Scanner) (n int64, err error) {
			err = row.Scan(&n)
			return n, err
		}, selectHolders)
		if err == nil {
			dead, err = q.Fence(tx, holders)
		}
		return err
	})
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
