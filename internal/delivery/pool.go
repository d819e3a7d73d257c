package delivery

import (
	"bufio"
	"slices"
	"sync"
	"time"
)

// maxLeaving bounds the connections that wait for the reply to QUIT.
const maxLeaving = 64

// pool keeps connections between attempts, each for a short while.
type pool struct {
	timeout time.Duration
	max     int
	metrics *metrics
	waiting sync.WaitGroup // for those that take leave

	mu      sync.Mutex
	idle    map[terms][]*conn // the one used last at the end
	n       int
	leaving int
	closed  bool
}

func newPool(timeout time.Duration, limit int, m *metrics) *pool {
	return &pool{timeout: timeout, max: limit, metrics: m, idle: map[terms][]*conn{}}
}

// get returns an idle connection made under t, or nil.
func (p *pool) get(t terms) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[t]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	p.take(c)
	c.timer.Stop()
	c.reused = true
	return c
}

// put keeps c for another attempt; when there is no room, any other gives way.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.leave(c)
		return
	}
	if p.n >= p.max {
		p.evict()
	}
	p.idle[c.terms] = append(p.idle[c.terms], c)
	p.n++
	p.metrics.idle.Set(float64(p.n))
	if c.timer == nil {
		c.timer = time.AfterFunc(p.timeout, func() { p.expire(c) })
	} else {
		c.timer.Reset(p.timeout)
	}
}

// evict ends the longest idle connection of a destination picked at random,
// so that none can keep the others out. p.mu is held.
func (p *pool) evict() {
	for _, list := range p.idle {
		c := list[0]
		p.take(c)
		c.timer.Stop()
		p.leave(c)
		return
	}
}

func (p *pool) expire(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.take(c) {
		p.leave(c)
	}
}

// quit ends a connection without keeping the attempt waiting.
func (p *pool) quit(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave(c)
}

// take removes c from the idle ones; false when it is not among them. p.mu is held.
func (p *pool) take(c *conn) bool {
	list := p.idle[c.terms]
	i := slices.Index(list, c)
	if i < 0 {
		return false
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(p.idle, c.terms)
	} else {
		p.idle[c.terms] = list
	}
	p.n--
	p.metrics.idle.Set(float64(p.n))
	return true
}

// leave says QUIT in the background; where that is not to be waited for, it
// closes. p.mu is held.
func (p *pool) leave(c *conn) {
	if c.broken || p.closed || p.leaving >= maxLeaving {
		c.close()
		return
	}
	p.leaving++
	p.waiting.Go(func() {
		c.quit()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.leaving--
	})
}

// close ends all idle connections and waits until they have taken leave.
func (p *pool) close() {
	p.mu.Lock()
	for _, list := range p.idle {
		for _, c := range list {
			c.timer.Stop()
			p.leave(c)
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
	p.pool.Put(s)
}
