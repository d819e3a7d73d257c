package dispatch

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/db/dbtest"
	"mittente/internal/delivery"
	"mittente/internal/dkim"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/reason"
	"mittente/internal/spool"
)

// house is a dispatcher over a real queue and spool; courier and keys are fakes.
type house struct {
	*Dispatcher
	t       testing.TB
	queue   *queue.Queue
	courier *courier
	signers *signers
	disk    *dbtest.Disk
	logged  *lockedBuffer
	reg     *prometheus.Registry
	paused  atomic.Bool  // theList
	jump    atomic.Int64 // by how much the clock on the wall was set

	speeds sync.Map // id.Account or the name of a user → int64
}

// theList is that of all messages.
var theList = id.New[id.List]()

func (h *house) clock() time.Time { return time.Now().Add(time.Duration(h.jump.Load())) }

func (h *house) speedOf(_ context.Context, a id.Account, user string) Speed {
	of := func(key any) int64 {
		n, _ := h.speeds.Load(key)
		speed, _ := n.(int64)
		return speed
	}
	return Speed{Account: of(a), User: of(user)}
}

const (
	header  = "From: sender@example.com\r\nSubject: hello\r\n"
	content = header + "\r\nBody\r\n"
)

func newHouse(tb testing.TB, cfg Config) *house {
	tb.Helper()
	h := &house{
		t: tb, courier: &courier{}, signers: &signers{}, disk: &dbtest.Disk{},
		logged: &lockedBuffer{}, reg: prometheus.NewRegistry(),
	}
	d, err := db.Open(tb.Context(), db.Config{DataDir: tb.TempDir(), ReserveBytes: 1, Wrap: h.disk.Wrap}, nil)
	h.must(err)
	tb.Cleanup(func() { _ = d.Close() })
	h.must(d.Migrate(tb.Context(), queue.Schema(), event.Schema(), spool.Schema(), alert.Schema(), reason.Schema()))
	content := spool.New(d, spool.Config{}, nil)
	h.queue = queue.New(queue.Deps{
		DB: d, Spool: content, Jitter: func() float64 { return 0.5 },
		Clock: h.clock, Paused: func(_ *db.Tx, l id.List) bool { return h.paused.Load() && l == theList },
	}, nil)
	h.must(h.queue.Start(tb.Context(), "here"))
	h.Dispatcher, err = New(Deps{
		DB: d, Queue: h.queue, Spool: content, Courier: h.courier, Senders: h.signers, Speed: h.speedOf, Clock: h.clock,
		Log: slog.New(slog.NewJSONHandler(h.logged, nil)), Reg: h.reg,
	}, cfg)
	h.must(err)
	h.queue.OnDue(h.Wake)
	h.queue.OnWish(h.Obey)
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// run starts the dispatcher; stop drains it.
func (h *house) run() (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	return func() {
		h.t.Helper()
		cancel()
		h.must(<-done)
	}
}

// in runs a test with the fake clock, a house, and its dispatcher running.
func in(t *testing.T, cfg Config, do func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, cfg)
		stop := h.run()
		do(h)
		stop()
		h.must(h.deps.DB.Close())
	})
}

// letterTo is a message as submission makes it: enqueued, and its items handed over.
type letterTo struct {
	to       []string
	account  id.Account
	priority mail.Priority
	user     string      // s1_1
	domain   mail.Domain // signing
	unread   bool        // without its bytes in memory
	keep     bool        // not handed over
}

func (h *house) accept(l letterTo) []queue.Item {
	h.t.Helper()
	if l.account.IsZero() {
		l.account = id.New[id.Account]()
	}
	if l.priority == 0 {
		l.priority = mail.PriorityNormal
	}
	w := h.deps.Spool.Create(l.account)
	_, err := w.Write([]byte(content))
	h.must(err)
	c := w.Content()
	m := &queue.Message{
		ID: id.New[id.Message](), Account: l.account, List: theList, UserName: cmp.Or(l.user, "s1_1"), Priority: l.priority,
		From: mail.ReversePath{Address: address("sender@example.com")}, SigningDomain: l.domain,
		Size: c.Size, HeaderSize: len(header), Content: c.ID, AcceptedAt: h.clock().Truncate(time.Microsecond),
	}
	var paths []mail.Rcpt
	for _, a := range l.to {
		paths = append(paths, mail.Rcpt{To: mail.ForwardPath{Address: address(a)}})
	}
	var items []queue.Item
	h.must(h.deps.DB.Batch(h.t.Context(), func(tx *db.Tx) error {
		if err := w.Put(tx); err != nil {
			return err
		}
		recipients, err := h.queue.Enqueue(tx, m, paths)
		items = nil
		for _, r := range recipients {
			items = append(items, queue.Item{Message: m, Recipient: r, Bytes: c.Bytes})
		}
		if l.unread {
			for i := range items {
				items[i].Bytes = nil
			}
		}
		return err
	}))
	if !l.keep {
		h.Fresh(items)
	}
	return items
}

// to accepts a message of its own for each of the addresses.
func (h *house) to(addresses ...string) (items []queue.Item) {
	h.t.Helper()
	for _, a := range addresses {
		items = append(items, h.accept(letterTo{to: []string{a}})...)
	}
	return items
}

// states counts the recipients by state.
func (h *house) states() map[queue.State]int {
	h.t.Helper()
	counts := make(map[queue.State]int)
	h.must(h.deps.DB.View(h.t.Context(), func(tx *db.Tx) error {
		for _, s := range queue.States() {
			list, err := h.queue.Recipients(tx, queue.Selection{State: s}, queue.Page{Limit: queue.MaxLimit})
			if err != nil {
				return err
			}
			if len(list) > 0 {
				counts[s] = len(list)
			}
		}
		return nil
	}))
	return counts
}

func (h *house) wantStates(want map[queue.State]int) {
	h.t.Helper()
	if got := h.states(); fmt.Sprint(got) != fmt.Sprint(want) {
		h.t.Errorf("states %v, want %v", got, want)
	}
}

func (h *house) recipient(item queue.Item) (r queue.Recipient) {
	h.t.Helper()
	h.must(h.deps.DB.View(h.t.Context(), func(tx *db.Tx) (err error) {
		r, err = h.queue.Recipient(tx, item.Recipient.ID)
		return err
	}))
	return r
}

// inMemory is what a dispatcher has in memory.
type inMemory struct {
	recipients, letters, overflow, unsettled, workers, planners int
	bytes                                                       int64
}

func (h *house) memory() inMemory {
	h.mu.Lock()
	defer h.mu.Unlock()
	return inMemory{
		recipients: h.count, letters: len(h.letters), overflow: len(h.overflow), unsettled: len(h.unsettled),
		workers: h.workers, planners: h.planners, bytes: h.bytes,
	}
}

// attempt is one call of Deliver.
type attempt struct {
	site    string
	to      []string
	at      time.Time
	content string
}

// courier answers as a test says, and notes what it was asked.
type courier struct {
	plan    func(mail.Domain) (string, *mail.Outcome)                      // nil: the site is the domain
	deliver func(ctx context.Context, site string, to string) mail.Outcome // nil: delivered
	quiet   bool                                                           // neither reads the content nor notes anything

	mu       sync.Mutex
	planned  []mail.Domain
	attempts []attempt
	active   map[string]int
	most     map[string]int // at once, by site; "" is all
}

func (c *courier) Plan(_ context.Context, d mail.Domain) (delivery.Plan, *mail.Outcome) {
	c.mu.Lock()
	c.planned = append(c.planned, d)
	c.mu.Unlock()
	if c.plan == nil {
		return delivery.Plan{Site: string(d)}, nil
	}
	site, outcome := c.plan(d)
	return delivery.Plan{Site: site}, outcome
}

func (c *courier) Deliver(ctx context.Context, plan delivery.Plan, job delivery.Job) []mail.Outcome {
	if c.quiet {
		return slices.Repeat([]mail.Outcome{delivered()}, len(job.To))
	}
	a := attempt{site: plan.Site, at: time.Now()}
	for _, to := range job.To {
		a.to = append(a.to, to.To.String())
	}
	c.enter(plan.Site, 1)
	defer c.enter(plan.Site, -1)
	text, err := read(job.Content)
	if err != nil {
		o := deferred()
		o.Diagnostic = err.Error()
		return slices.Repeat([]mail.Outcome{o}, len(job.To))
	}
	if int64(len(text)) != job.Size {
		panic(fmt.Sprintf("content of %d octets, announced %d", len(text), job.Size))
	}
	a.content = text
	c.mu.Lock()
	c.attempts = append(c.attempts, a)
	deliver := c.deliver
	c.mu.Unlock()
	outcomes := make([]mail.Outcome, len(job.To))
	for i, to := range job.To {
		if deliver == nil {
			outcomes[i] = delivered()
		} else {
			outcomes[i] = deliver(ctx, plan.Site, to.To.String())
		}
	}
	return outcomes
}

// set has the courier answer otherwise from now on.
func (c *courier) set(deliver func(ctx context.Context, site, to string) mail.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deliver = deliver
}

func (c *courier) enter(site string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active == nil {
		c.active, c.most = make(map[string]int), make(map[string]int)
	}
	for _, name := range []string{site, ""} {
		c.active[name] += n
		c.most[name] = max(c.most[name], c.active[name])
	}
}

// plans returns how often Plan was called.
func (c *courier) plans() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.planned)
}

// atOnce returns how many deliveries there were at once at a site; "" is all.
func (c *courier) atOnce(site string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most[site]
}

// done returns the attempts so far at the sites given, or at all.
func (c *courier) done(sites ...string) (found []attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.attempts {
		if len(sites) == 0 || slices.Contains(sites, a.site) {
			found = append(found, a)
		}
	}
	return found
}

func read(open func() (io.ReadCloser, error)) (string, error) {
	r, err := open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

// signers has one key for every domain but those without.
type signers struct {
	key     dkim.Key
	without mail.Domain
	err     error
	asked   atomic.Int64
}

func (s *signers) Signers(_ context.Context, _ id.Account, d mail.Domain) ([]dkim.Key, error) {
	s.asked.Add(1)
	if s.err != nil || d == s.without {
		return nil, s.err
	}
	return []dkim.Key{s.key}, nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns the lines of the log that contain all of the texts.
func (l *lockedBuffer) lines(texts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(line, s) }) {
			found = append(found, line)
		}
	}
	return found
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func delivered() mail.Outcome {
	return mail.Outcome{Action: mail.Delivered, Scope: mail.ScopeRecipient, Code: 250, Status: mail.Status{Class: 2}, RemoteMTA: "mx.test"}
}

func deferred() mail.Outcome {
	return mail.Outcome{Action: mail.Deferred, Scope: mail.ScopeRecipient, Code: 450, Status: mail.Status{Class: 4, Subject: 2, Detail: 1}}
}

func refused() mail.Outcome {
	return mail.Outcome{Action: mail.Failed, Scope: mail.ScopeRecipient, Code: 550, Status: mail.Status{Class: 5, Subject: 1, Detail: 1}}
}

// unreachable is trouble of the site.
func unreachable() mail.Outcome {
	return mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 1},
		Diagnostic: "connection refused",
	}
}

// Explain says why a recipient has not been sent yet, as reason.Why does, by what
// the dispatcher knows now rather than by what it has last written down.
func (d *Dispatcher) Explain(s reason.State) reason.Reason {
	now := time.Now()
	n := reason.Node{Name: d.cfg.Node, Alive: true}
	d.mu.Lock()
	if dom := d.domains[s.Recipient.To.Address.Domain()]; dom != nil && dom.plan != nil {
		s.Site = dom.plan.Site
	}
	if site := d.sites[s.Site]; site != nil {
		r := d.siteReport(site, now)
		n.Site = &r
	}
	if p := d.paces.account[s.Recipient.Account]; p != nil && p.Free(now) < 1 {
		r := p.report(now)
		n.Account = &r
	}
	if p := d.paces.user[s.Recipient.User]; p != nil && p.Free(now) < 1 {
		r := p.report(now)
		n.User = &r
	}
	h := d.house()
	n.House = &h
	d.mu.Unlock()
	return reason.Why(s, []reason.Node{n}, now)
}
