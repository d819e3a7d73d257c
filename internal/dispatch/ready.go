package dispatch

import (
	"cmp"
	"container/heap"

	"mittente/internal/id"
)

// maxBundle is how many recipients share a transaction (RFC 5321 §4.5.3.1.8
// lets every server take 100).
const maxBundle = 100

// bundle is recipients of one message that can share a transaction at a site.
type bundle struct {
	entries []*entry // at least one
	seq     uint64
}

func (b *bundle) letter() *letter { return b.entries[0].letter }

// ready is what waits at one site: by priority, then by age. The zero value is
// empty.
type ready struct {
	heap  bundleHeap
	open  map[id.Message]*bundle // those with room for more
	seq   uint64
	count int
}

// len returns how many recipients wait.
func (r *ready) len() int { return r.count }

func (r *ready) push(e *entry) {
	r.count++
	key := e.letter.message.ID
	if b := r.open[key]; b != nil {
		if b.entries = append(b.entries, e); len(b.entries) == maxBundle {
			delete(r.open, key)
		}
		return
	}
	r.seq++
	b := &bundle{entries: []*entry{e}, seq: r.seq}
	if r.open == nil {
		r.open = make(map[id.Message]*bundle)
	}
	r.open[key] = b
	heap.Push(&r.heap, b)
}

// pop takes the bundle that goes first; the queue must not be empty.
func (r *ready) pop() *bundle {
	b := heap.Pop(&r.heap).(*bundle) //nolint:forcetypeassert // the heap has nothing else
	if key := b.letter().message.ID; r.open[key] == b {
		delete(r.open, key)
	}
	r.count -= len(b.entries)
	return b
}

func (r *ready) takeAll() []*bundle {
	all := r.heap
	*r = ready{seq: r.seq}
	return all
}

// bundleHeap implements heap.Interface.
type bundleHeap []*bundle

// Len implements heap.Interface.
func (h *bundleHeap) Len() int { return len(*h) }

// Less implements heap.Interface: the order in which mail leaves for a site.
func (h *bundleHeap) Less(i, j int) bool {
	x, y := (*h)[i], (*h)[j]
	a, b := x.letter().message, y.letter().message
	return cmp.Or(
		cmp.Compare(a.Priority, b.Priority),
		a.AcceptedAt.Compare(b.AcceptedAt),
		cmp.Compare(x.seq, y.seq),
	) < 0
}

// Swap implements heap.Interface.
func (h *bundleHeap) Swap(i, j int) { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push implements heap.Interface.
func (h *bundleHeap) Push(x any) { *h = append(*h, x.(*bundle)) } //nolint:forcetypeassert // as above

// Pop implements heap.Interface.
func (h *bundleHeap) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return b
}
