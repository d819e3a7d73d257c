package account

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxCached bounds the users kept in memory; one takes about 1 KiB.
const maxCached = 10_000

// cache keeps what the database says of users, by name. What was read from the
// database before a change is never kept after it: a reader notes the
// generation before it reads, and put refuses what another generation read.
type cache struct {
	limit int
	size  prometheus.Gauge

	mu         sync.RWMutex
	generation uint64
	records    map[string]*record
}

func newCache(limit int, size prometheus.Gauge) *cache {
	return &cache{limit: limit, size: size, records: map[string]*record{}}
}

// get returns what is kept of name, or nil, and the generation for put.
func (c *cache) get(name string) (*record, uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.records[name], c.generation
}

// put keeps r unless something changed since generation. A full cache gives up
// one record, no matter which: each can be read again.
func (c *cache) put(r *record, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if _, known := c.records[r.user.Name]; !known && len(c.records) >= c.limit {
		for name := range c.records {
			delete(c.records, name)
			break
		}
	}
	c.records[r.user.Name] = r
	c.size.Set(float64(len(c.records)))
}

// drop forgets name, and with it all reads under way.
func (c *cache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	delete(c.records, name)
	c.size.Set(float64(len(c.records)))
}

// clear forgets everything, and all reads under way.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	clear(c.records)
	c.size.Set(0)
}
