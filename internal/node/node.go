// Package node knows which processes work on the database, and which of them live.
package node

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"mittente/internal/db"
)

// ErrNotFound says that there is no node of that name.
var ErrNotFound = errors.New("node: not found")

// ErrNotStarted says that this process is no node yet.
var ErrNotStarted = errors.New("this process is no node yet")

const (
	// HeartbeatEvery is how often a node gives a sign of life.
	HeartbeatEvery = 5 * time.Second
	// DeadAfter is after how long without one its leases are anyone's.
	DeadAfter = 30 * time.Second
)

// Lease is the right of one node to do something with what it holds. It carries
// no time: it lives as long as the node's heartbeat, and dies with the
// generation, which every start of the node raises.
type Lease struct {
	Node       int64 // number of the node, from 1
	Generation int64 // starts of that node, from 1
}

// IsZero reports whether nobody holds the lease.
func (l Lease) IsZero() bool { return l == Lease{} }

// Nodes are the processes that work on one database, as one of them sees them. Its
// methods may be called concurrently.
type Nodes struct {
	db   *db.DB
	wall func() time.Time
	me   atomic.Pointer[self] // nil until Start

	mu   sync.Mutex
	seen map[int64]sighting // by number of the node
}

// self is what this process is.
type self struct {
	name  string
	lease Lease
}

// sighting is when a heartbeat was first seen, by a clock that nobody sets.
type sighting struct {
	heartbeat int64
	since     time.Time
}

// New returns the nodes of a database that has its Schema; it starts nothing. wall
// is the clock by which heartbeats are told; nil: the system's.
func New(d *db.DB, wall func() time.Time) *Nodes {
	if wall == nil {
		wall = time.Now
	}
	return &Nodes{db: d, wall: wall, seen: make(map[int64]sighting)}
}

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return db.Schema{Room: "node", FS: sub}
}

const (
	selectHeartbeat db.SQL = `SELECT heartbeat FROM node WHERE name = $1`

	startNode db.SQL = `
INSERT INTO node (number, name, generation, heartbeat)
SELECT COALESCE(MAX(number), 0) + 1, CAST($1 AS TEXT), 1, CAST($2 AS BIGINT) FROM node WHERE 1 = 1
ON CONFLICT (name) DO UPDATE SET generation = node.generation + 1, heartbeat = excluded.heartbeat
RETURNING number, generation`

	beatNode db.SQL = `UPDATE node SET heartbeat = $3 WHERE number = $1 AND generation = $2`

	selectOthers db.SQL = `SELECT number, heartbeat FROM node WHERE number <> $1`

	// A dead node that comes back must not think that its leases still hold, so
	// its generation goes up before they are given away.
	fenceNode db.SQL = `
UPDATE node SET generation = generation + 1 WHERE number = $1 AND heartbeat = $2
RETURNING number, generation`
)

// Lease returns that of this process; zero before Start.
func (n *Nodes) Lease() Lease {
	if me := n.me.Load(); me != nil {
		return me.lease
	}
	return Lease{}
}

// Holds reports whether a lease is one of this node's present generation, as
// far as this process knows.
func (n *Nodes) Holds(l Lease) bool { return !l.IsZero() && l == n.Lease() }

// Start makes this process the node of that name, in a new generation: what an
// earlier start of the node holds is not its own any more. ahead is by how much that
// start's last heartbeat lies in the future: so much has the clock been set back
// since; else 0.
func (n *Nodes) Start(ctx context.Context, name string) (ahead time.Duration, err error) {
	var lease Lease
	now := n.wall()
	err = n.db.Batch(ctx, func(tx *db.Tx) error {
		last, err := db.Collect(tx, func(row db.Scanner) (at int64, err error) {
			err = row.Scan(&at)
			return at, err
		}, selectHeartbeat, name)
		if err != nil {
			return err
		}
		if ahead = 0; len(last) > 0 {
			ahead = max(0, db.Time(last[0]).Sub(now))
		}
		if err := tx.Row(startNode, name, db.Micros(now)).Scan(&lease.Node, &lease.Generation); err != nil {
			return err
		}
		_, err = n.silent(tx, lease.Node)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("start node %s: %w", name, err)
	}
	n.me.Store(&self{name: name, lease: lease})
	return ahead, nil
}

// Heartbeat tells the other nodes that this one lives, and looks at theirs. When
// this node was taken for dead meanwhile, it starts it anew.
func (n *Nodes) Heartbeat(ctx context.Context) error {
	me := n.me.Load()
	if me == nil {
		return fmt.Errorf("heartbeat: %w", ErrNotStarted)
	}
	var alive int64
	err := n.db.Batch(ctx, func(tx *db.Tx) (err error) {
		if _, err := n.silent(tx, me.lease.Node); err != nil {
			return err
		}
		alive, err = tx.Exec(beatNode, me.lease.Node, me.lease.Generation, db.Micros(n.wall()))
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("heartbeat: %w", err)
	case alive == 0:
		_, err := n.Start(ctx, me.name)
		return err
	}
	return nil
}

// Fence takes the leases from those of the given nodes that are dead: it raises
// their generation, and returns the leases that they would have now; all older ones
// are anyone's.
func (n *Nodes) Fence(tx *db.Tx, holders []int64) ([]Lease, error) {
	me := n.Lease()
	silent, err := n.silent(tx, me.Node)
	if err != nil {
		return nil, err
	}
	var dead []Lease
	for _, number := range holders {
		heartbeat, ok := silent[number]
		if !ok {
			continue
		}
		fenced, err := db.Collect(tx, func(row db.Scanner) (l Lease, err error) {
			err = row.Scan(&l.Node, &l.Generation)
			return l, err
		}, fenceNode, number, heartbeat)
		if err != nil {
			return nil, err
		}
		dead = append(dead, fenced...)
	}
	return dead, nil
}

// silent returns the last heartbeats of the nodes that gave no sign of life for too
// long. What a heartbeat says is the time of another clock, which may have been set,
// as may ours: what counts is for how long this process has seen the same one.
func (n *Nodes) silent(tx *db.Tx, me int64) (map[int64]int64, error) {
	type other struct{ number, heartbeat int64 }
	others, err := db.Collect(tx, func(row db.Scanner) (o other, err error) {
		err = row.Scan(&o.number, &o.heartbeat)
		return o, err
	}, selectOthers, me)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	silent := make(map[int64]int64)
	for _, o := range others {
		switch s, known := n.seen[o.number]; {
		case !known || s.heartbeat != o.heartbeat:
			n.seen[o.number] = sighting{o.heartbeat, now}
		case now.Sub(s.since) > DeadAfter:
			silent[o.number] = o.heartbeat
		}
	}
	return silent, nil
}
