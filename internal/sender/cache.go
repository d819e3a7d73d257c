package sender

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// cache keeps what the database says, bounded by the sum of weights. What was
// read before a change is never kept after it: a reader notes the generation
// before it reads, and put refuses what another generation read.
type cache[K comparable, V any] struct {
	limit int
	size  prometheus.Gauge // of the weight

	mu         sync.RWMutex
	generation uint64
	weight     int
	entries    map[K]weighed[V]
}

type weighed[V any] struct {
	value  V
	weight int
}

func newCache[K comparable, V any](limit int, size prometheus.Gauge) *cache[K, V] {
	return &cache[K, V]{limit: limit, size: size, entries: map[K]weighed[V]{}}
}

// get returns what is kept under key, and the generation for put.
func (c *cache[K, V]) get(key K) (value V, generation uint64, known bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, known := c.entries[key]
	return e.value, c.generation, known
}

// put keeps value unless something changed since generation. A full cache gives
// up others, no matter which: each can be read again.
func (c *cache[K, V]) put(key K, e weighed[V], generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	c.remove(key)
	for other := range c.entries {
		if c.weight+e.weight <= c.limit {
			break
		}
		c.remove(other)
	}
	c.entries[key] = e
	c.weight += e.weight
	c.size.Set(float64(c.weight))
}

// drop forgets key, and with it all reads under way.
func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.remove(key)
	c.size.Set(float64(c.weight))
}

// clear forgets everything, and all reads under way.
func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	clear(c.entries)
	c.weight = 0
	c.size.Set(0)
}

func (c *cache[K, V]) remove(key K) {
	c.weight -= c.entries[key].weight
	delete(c.entries, key)
}
