// Package cache keeps in memory what the database says, and nothing from before its last change.
package cache

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Cache is bounded by the sum of weights. What was read from the database before
// a change is never kept after it: a reader notes the generation before it reads,
// and Put refuses what another generation read. It is safe for concurrent use.
type Cache[K comparable, V any] struct {
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

// New returns an empty cache; size shows the sum of weights, of which there is at most limit.
func New[K comparable, V any](limit int, size prometheus.Gauge) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, size: size, entries: map[K]weighed[V]{}}
}

// Get returns what is kept under key, and the generation for Put.
func (c *Cache[K, V]) Get(key K) (value V, generation uint64, known bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, known := c.entries[key]
	return e.value, c.generation, known
}

// Put keeps value unless something changed since generation. A full cache gives
// up others, no matter which: each can be read again.
func (c *Cache[K, V]) Put(key K, value V, weight int, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	c.remove(key)
	for other := range c.entries {
		if c.weight+weight <= c.limit {
			break
		}
		c.remove(other)
	}
	c.entries[key] = weighed[V]{value, weight}
	c.weight += weight
	c.size.Set(float64(c.weight))
}

// Drop forgets key, and with it all reads under way.
func (c *Cache[K, V]) Drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.remove(key)
	c.size.Set(float64(c.weight))
}

// Clear forgets everything, and all reads under way.
func (c *Cache[K, V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	clear(c.entries)
	c.weight = 0
	c.size.Set(0)
}

// Weight is the sum of what is kept.
func (c *Cache[K, V]) Weight() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.weight
}

func (c *Cache[K, V]) remove(key K) {
	c.weight -= c.entries[key].weight
	delete(c.entries, key)
}
