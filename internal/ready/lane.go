package ready

import (
	"cmp"
	"container/heap"
	"slices"

	"mittente/internal/id"
	"mittente/internal/mail"
)

// place is where a lane stands.
type place int

const (
	nowhere place = iota // it is empty, or in somebody's hands
	inLine               // among its account's
	beside               // beside its site
)

// lane is the mail of one account for one site.
type lane[E any] struct {
	site   *Site[E]
	tenant *tenant[E]
	where  place
	count  int // recipients
	seq    uint64

	classes [priorities]class[E]
	clock   float64 // how far the lane has come, in shares
	open    map[id.Message]*bundle[E]
}

// class is the bundles of one priority: a share of 16, 8, 4, 2 or 1. The next of
// them goes when the lane's clock has come to its time, which is further away the
// smaller the share: what has just come waits no longer than one share, and
// nothing waits for ever.
type class[E any] struct {
	bundles bundleHeap[E]
	next    float64
}

// bundle is recipients of one message that share a transaction.
type bundle[E any] struct {
	mail    Mail
	entries []E
	seq     uint64
}

// stride is the time of one bundle of a class: the inverse of its share.
func stride(i int) float64 { return float64(uint(1) << i) }

func classOf(p mail.Priority) int { return min(max(int(p-mail.PriorityHighest), 0), priorities-1) }

func (l *lane[E]) push(m Mail, e E) {
	l.count++
	if b := l.open[m.Message]; b != nil {
		if b.entries = append(b.entries, e); len(b.entries) == MaxBundle {
			delete(l.open, m.Message)
		}
		return
	}
	l.seq++
	b := &bundle[E]{mail: m, entries: []E{e}, seq: l.seq}
	if l.open == nil {
		l.open = make(map[id.Message]*bundle[E])
	}
	l.open[m.Message] = b
	l.add(b)
}

func (l *lane[E]) add(b *bundle[E]) {
	i := classOf(b.mail.Priority)
	c := &l.classes[i]
	if len(c.bundles) == 0 {
		c.next = l.clock + stride(i)
	}
	heap.Push(&c.bundles, b)
}

// pop takes the bundle whose turn it is; the lane must not be empty.
func (l *lane[E]) pop() []E {
	first := -1
	for i := range l.classes {
		c := &l.classes[i]
		if len(c.bundles) > 0 && (first < 0 || c.next < l.classes[first].next) {
			first = i
		}
	}
	c := &l.classes[first]
	l.clock = c.next
	c.next += stride(first)
	b := heap.Pop(&c.bundles).(*bundle[E]) //nolint:forcetypeassert // the heap has nothing else
	if l.open[b.mail.Message] == b {
		delete(l.open, b.mail.Message)
	}
	l.count -= len(b.entries)
	return b.entries
}

// filter takes out what is gone.
func (l *lane[E]) filter(gone func(E) bool) (taken []E) {
	for i := range l.classes {
		c := &l.classes[i]
		for _, b := range c.bundles {
			kept := b.entries[:0:0]
			for _, e := range b.entries {
				if gone(e) {
					taken = append(taken, e)
				} else {
					kept = append(kept, e)
				}
			}
			if b.entries = kept; len(kept) == 0 && l.open[b.mail.Message] == b {
				delete(l.open, b.mail.Message)
			}
		}
		c.bundles = slices.DeleteFunc(c.bundles, func(b *bundle[E]) bool { return len(b.entries) == 0 })
		heap.Init(&c.bundles)
	}
	l.count -= len(taken)
	return taken
}

// bundleHeap implements heap.Interface: the older mail first.
type bundleHeap[E any] []*bundle[E]

// Len implements heap.Interface.
func (h *bundleHeap[E]) Len() int { return len(*h) }

// Less implements heap.Interface.
func (h *bundleHeap[E]) Less(i, j int) bool {
	a, b := (*h)[i], (*h)[j]
	return cmp.Or(a.mail.Accepted.Compare(b.mail.Accepted), cmp.Compare(a.seq, b.seq)) < 0
}

// Swap implements heap.Interface.
func (h *bundleHeap[E]) Swap(i, j int) { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push implements heap.Interface.
func (h *bundleHeap[E]) Push(x any) { *h = append(*h, x.(*bundle[E])) } //nolint:forcetypeassert // as above

// Pop implements heap.Interface.
func (h *bundleHeap[E]) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return b
}

// fifo is a queue that also takes at its head. The zero value is empty.
type fifo[T any] struct {
	items []T // a ring
	first int
	n     int
}

func (f *fifo[T]) len() int { return f.n }

func (f *fifo[T]) at(i int) int { return (f.first + i + len(f.items)) % len(f.items) }

func (f *fifo[T]) grow() {
	if f.n < len(f.items) {
		return
	}
	items := make([]T, max(8, 2*len(f.items)))
	for i := range f.n {
		items[i] = f.items[f.at(i)]
	}
	f.items, f.first = items, 0
}

func (f *fifo[T]) push(v T) {
	f.grow()
	f.items[f.at(f.n)] = v
	f.n++
}

func (f *fifo[T]) unshift(v T) {
	f.grow()
	f.first = f.at(-1)
	f.items[f.first] = v
	f.n++
}

func (f *fifo[T]) pop() T {
	v := f.items[f.first]
	var zero T
	f.items[f.first] = zero
	f.first = f.at(1)
	if f.n--; f.n == 0 && len(f.items) > 1024 {
		*f = fifo[T]{}
	}
	return v
}
