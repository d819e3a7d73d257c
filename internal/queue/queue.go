// Package queue keeps messages and their recipients: the state of each, and when it is due.
package queue

import (
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/node"
	"mittente/internal/spool"
)

// Errors of this package; errors.Is finds them.
var (
	// ErrLeaseLost says that a recipient is no longer leased to the one who
	// wants to settle it: another start of the node, or another node, has it.
	ErrLeaseLost = errors.New("queue: the lease is lost")
	// ErrNotFound says that there is no message or recipient of that id.
	ErrNotFound = errors.New("queue: not found")
	// ErrMove says that a recipient's state does not allow what was asked.
	ErrMove = errors.New("queue: the state does not allow it")
)

// Retention says how long things are kept.
type Retention struct {
	Delivered time.Duration // content of which all recipients got a copy; 0: 24 h
	Failed    time.Duration // other content; 0: 72 h
	Events    time.Duration // messages, recipients and events; 0: 90 days
}

func (r Retention) withDefaults() Retention {
	if r.Delivered == 0 {
		r.Delivered = 24 * time.Hour
	}
	if r.Failed == 0 {
		r.Failed = 72 * time.Hour
	}
	if r.Events == 0 {
		r.Events = 90 * 24 * time.Hour
	}
	return r
}

// Deps is what a queue works with. What Schedule and Paused read, they read in the
// transaction that they are given: another would wait for it.
type Deps struct {
	DB        *db.DB
	Spool     *spool.Spool
	Retention Retention
	Schedule  func(*db.Tx, id.List) Schedule // of a list's retries; nil: the house's for all
	Paused    func(*db.Tx, id.List) bool     // whether no mail of a list may be attempted now (requirement M8); nil: none is paused
	Log       *slog.Logger                   // of what Run can only note; nil: nowhere
	Jitter    func() float64                 // in [0,1), spreads retries; nil: random
	Clock     func() time.Time               // the wall clock, which may jump; nil: the system's
}

func (d Deps) withDefaults() Deps {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Jitter == nil {
		d.Jitter = rand.Float64
	}
	if d.Schedule == nil {
		d.Schedule = func(*db.Tx, id.List) Schedule { return Schedule{} }
	}
	if d.Paused == nil {
		d.Paused = func(*db.Tx, id.List) bool { return false }
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	d.Retention = d.Retention.withDefaults()
	return d
}

// Queue is the schedule of all mail. Its methods may be called concurrently.
type Queue struct {
	*node.Nodes // of which this process is one

	deps    Deps
	db      *db.DB
	log     *slog.Logger
	metrics *metrics

	full     atomic.Bool            // see Direct
	turn     atomic.Pointer[[]byte] // the account that Claim served last
	shares   shares
	onDue    atomic.Pointer[func()]
	onNotice atomic.Pointer[func()]
	onWish   atomic.Pointer[func()]
	room     atomic.Pointer[func(id.Account) int]
	behind   atomic.Int64  // by so much the clock was set back before Start, as a time.Duration
	lists    chan struct{} // holds one signal: see ListsChanged
}

// New makes a queue; it starts nothing. A nil registerer keeps its metrics to itself.
func New(deps Deps, reg prometheus.Registerer) *Queue {
	deps = deps.withDefaults()
	q := &Queue{deps: deps, db: deps.DB, log: deps.Log, metrics: newMetrics(reg), lists: make(chan struct{}, 1)}
	q.Nodes = node.New(deps.DB, func() time.Time { return q.deps.Clock() })
	return q
}

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return db.Schema{Room: "queue", FS: sub}
}

// Paused reports whether no mail of a list may be attempted now. What a node has
// leased of it and not begun to attempt is to be released; claims pass it over.
func (q *Queue) Paused(tx *db.Tx, l id.List) bool { return !l.IsZero() && q.deps.Paused(tx, l) }

// OnDue sets what is called after recipients have become due by another way
// than time: leases that came back, new mail that was not leased. It must not
// block. Call it before Run.
func (q *Queue) OnDue(do func()) { q.onDue.Store(&do) }

// OnNotice sets what is called after a commit by which a sender is to be told
// something now (Notices). It must not block. Call it before Run.
func (q *Queue) OnNotice(do func()) { q.onNotice.Store(&do) }

// OnWish sets what is called after a commit by which somebody of this process
// has asked something of who holds a lease (Wishes); what another process asks is
// a foreign change. It must not block. Call it before Run.
func (q *Queue) OnWish(do func()) { q.onWish.Store(&do) }

func (q *Queue) tellDue() { tell(&q.onDue) }

func tell(to *atomic.Pointer[func()]) {
	if do := to.Load(); do != nil {
		(*do)()
	}
}

// Direct says whether Enqueue may lease new recipients to this node. A
// dispatcher with a full memory turns it off: mail then waits as pending and is
// claimed when there is room. It is on at first.
func (q *Queue) Direct(on bool) { q.full.Store(!on) }

// Room sets what says how many more recipients of an account this node can take
// in; without it there is no bound. Enqueue leases a message to this node only
// if there is room for all its recipients, and Claim takes no more than that. It
// is called in transactions: it must not block.
func (q *Queue) Room(of func(id.Account) int) { q.room.Store(&of) }

// roomOf returns how many recipients of the account can be taken in.
func (q *Queue) roomOf(a id.Account) int {
	if of := q.room.Load(); of != nil {
		return max(0, (*of)(a))
	}
	return math.MaxInt
}
