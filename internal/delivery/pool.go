package delivery

import (
	"bufio"
	"slices"
	"sync"
	"time"

	"mittente/internal/mail"
	"mittente/internal/route"
	"mittente/internal/smtpclient"
)

// terms are what a connection is asked for: mail may travel over one that
// satisfies them. The name that EHLO says and the source are the courier's.
type terms struct {
	to       destination
	security smtpclient.Security // at least
}

// destination is what must be the same for a connection to be used again.
type destination struct {
	host               string
	port               int
	username, password string
	clear              bool // in clear by choice: that is no connection for mail which would have TLS, nor the other way round
}

func termsOf(h route.Host, p Plan, policy route.TLSPolicy) terms {
	t := terms{to: destination{host: h.Name, port: h.Port, clear: policy == route.TLSNone}, security: securityOf(policy)}
	t.to.username, t.to.password = p.Credentials()
	return t
}

// securityOf is the least protection that a policy is content with.
func securityOf(policy route.TLSPolicy) smtpclient.Security {
	switch policy {
	case route.TLSVerify:
		return smtpclient.Verified
	case route.TLSEncrypt:
		return smtpclient.Encrypted
	case route.TLSNone, route.TLSMay:
	}
	return smtpclient.Clear
}

// link is a connection with what it may be used for.
type link struct {
	*smtpclient.Conn
	to     destination
	remote string // address
	used   int    // transactions begun
	reused bool   // taken from the pool
	timer  *time.Timer
}

// sign adds to o where it comes from.
func (l *link) sign(o mail.Outcome) mail.Outcome {
	o.RemoteMTA, o.RemoteAddr, o.TLS = l.to.host, l.remote, l.TLS()
	return o
}

// maxLeaving bounds the connections that wait for the reply to QUIT.
const maxLeaving = 64

// pool keeps connections between attempts, each for a short while.
type pool struct {
	timeout time.Duration
	max     int
	metrics *metrics
	waiting sync.WaitGroup // for those that take leave

	mu      sync.Mutex
	idle    map[destination][]*link // the one used last at the end
	n       int
	leaving int
	closed  bool
}

func newPool(timeout time.Duration, limit int, m *metrics) *pool {
	return &pool{timeout: timeout, max: limit, metrics: m, idle: map[destination][]*link{}}
}

// get returns an idle connection that satisfies t, or nil.
func (p *pool) get(t terms) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range slices.Backward(p.idle[t.to]) {
		if l.Security() >= t.security {
			p.take(l)
			l.timer.Stop()
			l.reused = true
			return l
		}
	}
	return nil
}

// put keeps l for another attempt; when there is no room, any other gives way.
func (p *pool) put(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.leave(l)
		return
	}
	if p.n >= p.max {
		p.evict()
	}
	p.idle[l.to] = append(p.idle[l.to], l)
	p.n++
	p.metrics.idle.Set(float64(p.n))
	if l.timer == nil {
		l.timer = time.AfterFunc(p.timeout, func() { p.expire(l) })
	} else {
		l.timer.Reset(p.timeout)
	}
}

// evict ends the longest idle connection of a destination picked at random,
// so that none can keep the others out. p.mu is held.
func (p *pool) evict() {
	for _, list := range p.idle {
		l := list[0]
		p.take(l)
		l.timer.Stop()
		p.leave(l)
		return
	}
}

func (p *pool) expire(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.take(l) {
		p.leave(l)
	}
}

// quit ends a connection without keeping the attempt waiting.
func (p *pool) quit(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave(l)
}

// take removes l from the idle ones; false when it is not among them. p.mu is held.
func (p *pool) take(l *link) bool {
	list := p.idle[l.to]
	i := slices.Index(list, l)
	if i < 0 {
		return false
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(p.idle, l.to)
	} else {
		p.idle[l.to] = list
	}
	p.n--
	p.metrics.idle.Set(float64(p.n))
	return true
}

// leave says QUIT in the background; where that is not to be waited for, it
// closes. p.mu is held.
func (p *pool) leave(l *link) {
	if l.Broken() || p.closed || p.leaving >= maxLeaving {
		l.Close()
		return
	}
	p.leaving++
	p.waiting.Go(func() {
		l.Quit()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.leaving--
	})
}

// close ends all idle connections and waits until they have taken leave.
func (p *pool) close() {
	p.mu.Lock()
	for _, list := range p.idle {
		for _, l := range list {
			l.timer.Stop()
			p.leave(l)
		}
	}
	clear(p.idle)
	p.n, p.closed = 0, true
	p.metrics.idle.Set(0)
	p.mu.Unlock()
	p.waiting.Wait()
}

// scratch is the memory that a transaction needs and a waiting connection does not.
type scratch struct {
	w    *bufio.Writer // 64 KiB: a common message leaves in one write
	read []byte
	to   []int
	rcpt []mail.Rcpt
}

// scratchPool lends scratch out.
type scratchPool struct{ pool sync.Pool }

func (p *scratchPool) get() *scratch {
	if s, ok := p.pool.Get().(*scratch); ok {
		return s
	}
	return &scratch{w: bufio.NewWriterSize(nil, 64<<10), read: make([]byte, 32<<10)}
}

func (p *scratchPool) put(s *scratch) {
	s.w.Reset(nil)
	clear(s.rcpt[:cap(s.rcpt)])
	p.pool.Put(s)
}
