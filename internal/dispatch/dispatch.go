// Package dispatch takes what is due, has it signed and delivered, and settles the outcome.
//
// # How mail moves through it
//
//	Fresh, claim ─► speed of the user? ─► planned? ─no──► domain waits for a planner
//	                   │used up             │yes             │          │ no way
//	                   ▼                    ▼                ▼          ▼
//	               postpone            ready queue ◄─────────┘        settle
//	                                        │ whose turn it is
//	                                        ▼
//	                                     worker: sign, deliver ─► settle
//
// Two stages: what is scheduled stands in the table, what is ready in memory. Of
// each account memory holds no more than is free (Room), so that there is always
// room for another's; what has none waits in the table and is claimed by accounts
// in turn.
//
// A site in trouble is dead for a while: what waits there, and what comes, is
// postponed until it is probed, which is no attempt; then one delivery probes
// (room throttle). Sites that answer slowly or not at all have bounded shares
// of the deliveries (room ready) and of the memory (site.go).
//
// An outcome that can't be written, because the database is full or away, is
// kept in memory and tried until it is; meanwhile no new work begins.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/db"
	"mittente/internal/delivery"
	"mittente/internal/dkim"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/ready"
	"mittente/internal/route"
	"mittente/internal/spool"
	"mittente/internal/throttle"
)

// Courier knows the way to a domain and carries mail there (delivery.Courier).
type Courier interface {
	Plan(ctx context.Context, domain mail.Domain) (delivery.Plan, *mail.Outcome)
	Deliver(ctx context.Context, plan delivery.Plan, job delivery.Job) []mail.Outcome
}

// Signers has the keys of sender domains (sender.Senders).
type Signers interface {
	Signers(ctx context.Context, account id.Account, domain mail.Domain) ([]dkim.Key, error)
}

// Deps is what a dispatcher works with.
type Deps struct {
	DB      *db.DB
	Queue   *queue.Queue
	Spool   *spool.Spool
	Courier Courier
	Senders Signers
	Speed   func(context.Context, id.Account, string) Speed         // of an account and its user of that name, from memory; nil: none
	MinTLS  func(context.Context, id.List) (route.TLSPolicy, error) // what a list demands; nil: nothing
	Clock   func() time.Time                                        // the wall clock, by which mail is due; nil: the system's
	Log     *slog.Logger
	Reg     prometheus.Registerer // nil: metrics are kept to itself
}

// Config bounds a dispatcher; a zero field takes its default.
type Config struct {
	MaxRecipients int             // in memory; 20,000
	MaxBytes      int64           // of content in memory; 64 MiB
	Deliveries    int             // at once; 500
	PerSite       int             // deliveries at once to one site; 20
	Planners      int             // domains looked up at once; 32
	Sites         []throttle.Rule // limits of sites, before the built-in ones
	Node          string          // under which name reports are written; empty: none are
	DrainTimeout  time.Duration   // for running deliveries when Run ends; 30 s
}

func (c Config) withDefaults() Config {
	set := func(v *int, fallback int) {
		if *v == 0 {
			*v = fallback
		}
	}
	set(&c.MaxRecipients, 20_000)
	set(&c.Deliveries, 500)
	set(&c.PerSite, 20)
	set(&c.Planners, 32)
	if c.MaxBytes == 0 {
		c.MaxBytes = 64 << 20
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	return c
}

// Validate returns an error that names the field at fault.
func (c Config) Validate() error {
	if c.MaxRecipients < 0 || c.MaxBytes < 0 || c.Deliveries < 0 || c.PerSite < 0 || c.Planners < 0 || c.DrainTimeout < 0 {
		return errors.New("dispatch: no bound may be negative")
	}
	for _, r := range c.Sites {
		if err := r.Validate(); err != nil {
			return fmt.Errorf("dispatch: %w", err)
		}
	}
	return nil
}

// Dispatcher is the one loop by which mail leaves.
type Dispatcher struct {
	deps    Deps
	cfg     Config
	metrics *metrics

	starts chan struct{} // holds one signal: something may be started
	due    chan struct{} // holds one signal: something may be claimed
	rearm  chan struct{} // holds one signal: armed has moved
	wishes chan struct{} // holds one signal: something may be wished of what is in memory
	tasks  sync.WaitGroup

	mu        sync.Mutex // guards what follows
	draining  bool
	letters   map[id.Message]*letter
	count     int                // recipients in memory
	bytes     int64              // of content in memory
	accounts  map[id.Account]int // recipients of each in memory
	starved   int                // the claimer waits until no more than so many are in memory; -1: it does not
	armed     time.Time
	lean      time.Duration // until the claimer looks again at what had no room
	paces     paces
	refreshed time.Time // when speeds were last asked for

	domains   map[mail.Domain]*domain
	unplanned []*domain // in line for a planner
	planners  int

	limits  *throttle.Table
	sites   map[string]*site
	ready   *ready.Queue[*entry]
	workers int
	waking  time.Time // when the ready queue is looked at again

	claimErr     error // of the last claim; nil when it worked
	claimFailing time.Time

	overflow       []queue.Item // to be released
	releasing      bool
	unsettled      []report // outcomes that the database has not taken yet
	unsettledSince time.Time
	settling       bool

	noDNS       time.Time // since when no way was found for want of answers; zero: one was
	noDNSRaised time.Time
}

// New makes a dispatcher, or returns what is wrong with its configuration; it
// starts nothing. From then on the queue asks it for room.
func New(deps Deps, cfg Config) (*Dispatcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	cfg = cfg.withDefaults()
	limits, err := throttle.NewTable(cfg.Sites, cfg.PerSite)
	if err != nil {
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	d := &Dispatcher{
		deps: deps, cfg: cfg, metrics: newMetrics(deps.Reg), limits: limits,
		starts:   make(chan struct{}, 1),
		due:      make(chan struct{}, 1),
		rearm:    make(chan struct{}, 1),
		wishes:   make(chan struct{}, 1),
		starved:  -1,
		letters:  make(map[id.Message]*letter),
		accounts: make(map[id.Account]int),
		domains:  make(map[mail.Domain]*domain),
		sites:    make(map[string]*site),
		ready:    ready.New[*entry](cfg.Deliveries),
		paces:    newPaces(),
	}
	deps.Queue.Room(d.roomOf)
	return d, nil
}

// Fresh takes recipients that were just enqueued, straight after the commit;
// it never waits. Items that are not leased (the dispatcher had no room) only
// make it look at the database; beyond its bounds leased ones go back there.
func (d *Dispatcher) Fresh(items []queue.Item) { d.admit(context.Background(), items) }

// Wake says that the database may have mail that is due now: another process
// has changed it, or dead leases came back. It never waits.
func (d *Dispatcher) Wake() { signal(d.due) }

// Obey says that something may be wished of what is in memory. It never waits.
func (d *Dispatcher) Obey() { signal(d.wishes) }

// Changed says that another process has changed the database: there may be mail
// that is due, wishes for what is in memory, lists that were paused, other speeds.
// It never waits.
func (d *Dispatcher) Changed() {
	d.mu.Lock()
	d.refreshed = time.Time{}
	d.mu.Unlock()
	signal(d.wishes)
	signal(d.due)
}

// Run dispatches until ctx ends. Then it begins nothing more, lets running
// deliveries finish for at most Config.DrainTimeout, settles them, gives the
// rest back to the queue, and returns. Call queue.Start before it.
func (d *Dispatcher) Run(ctx context.Context) error {
	jobs, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	d.tasks.Go(func() { d.claim(ctx) })
	d.tasks.Go(func() { d.obey(ctx) })
	d.tasks.Go(func() { d.tell(ctx) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-d.starts:
			d.start(jobs)
		}
	}
	d.drain(cancel)
	if err := d.giveBack(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	return nil
}

// start begins what can be begun: planners, workers, the release of what has no room.
func (d *Dispatcher) start(jobs context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return
	}
	d.startPlanners(jobs)
	d.startWorkers(jobs)
	if len(d.overflow) > 0 && !d.releasing {
		d.releasing = true
		d.tasks.Go(func() { d.release(jobs) })
	}
}

// drain waits for what runs, and cuts it short after the timeout.
func (d *Dispatcher) drain(cancel context.CancelFunc) {
	d.mu.Lock()
	d.draining = true
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		d.tasks.Wait()
		close(done)
	}()
	timeout := time.NewTimer(d.cfg.DrainTimeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		cancel()
		<-done
	}
}

// signal leaves one signal in c, without waiting.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
