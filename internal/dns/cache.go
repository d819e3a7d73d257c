package dns

import (
	"container/list"
	"time"

	mdns "github.com/miekg/dns"
)

// overhead is roughly what an entry costs beside its records, in bytes.
const overhead = 256

// cache keeps results until they expire, the least recently used giving way
// when it is full. Not safe for concurrent use.
type cache struct {
	maxEntries, maxBytes int
	bytes                int
	entries              map[question]*list.Element
	order                *list.List // of *entry, most recently used first
}

type entry struct {
	question question
	result   *result
	bytes    int
}

func newCache(maxEntries, maxBytes int) cache {
	return cache{maxEntries: maxEntries, maxBytes: maxBytes, entries: map[question]*list.Element{}, order: list.New()}
}

func (c *cache) len() int { return len(c.entries) }

// get returns nil when nothing is known that may still be used.
func (c *cache) get(q question, now time.Time) *result {
	el, ok := c.entries[q]
	if !ok {
		return nil
	}
	e := el.Value.(*entry) // the list holds nothing else
	if !now.Before(e.result.expires) {
		c.drop(el)
		return nil
	}
	c.order.MoveToFront(el)
	return e.result
}

func (c *cache) put(q question, res *result) {
	if el, ok := c.entries[q]; ok {
		c.drop(el)
	}
	e := &entry{question: q, result: res, bytes: overhead + len(q.name)}
	for _, rr := range res.rrs {
		// In memory a record is some times larger than on the wire.
		e.bytes += 64 + 2*mdns.Len(rr)
	}
	c.entries[q] = c.order.PushFront(e)
	c.bytes += e.bytes
	for len(c.entries) > c.maxEntries || c.bytes > c.maxBytes && len(c.entries) > 1 {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(el *list.Element) {
	e := c.order.Remove(el).(*entry) // the list holds nothing else
	delete(c.entries, e.question)
	c.bytes -= e.bytes
}
