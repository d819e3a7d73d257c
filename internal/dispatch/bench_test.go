package dispatch

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mittente/internal/mail"
	"mittente/internal/queue"
)

// BenchmarkDispatch is a message's way from its enqueueing to its settling by a
// courier that takes no time, a hundred clients at once, unsigned.
func BenchmarkDispatch(b *testing.B) {
	h := newHouse(b, Config{})
	h.deps.Log = slog.New(slog.DiscardHandler)
	h.courier.quiet = true
	stop := h.run()
	const parallel = 100
	messages := 0
	start := time.Now()
	for b.Loop() {
		var g sync.WaitGroup
		for range parallel {
			g.Go(func() { h.accept(letterTo{to: []string{"a@one.test"}, priority: mail.PriorityNormal}) })
		}
		g.Wait()
		messages += parallel
	}
	for h.left() > 0 {
		time.Sleep(time.Millisecond)
	}
	b.ReportMetric(float64(messages)/time.Since(start).Seconds(), "messages/s")
	stop()
}

func (h *house) left() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// BenchmarkReady is a recipient's way through the ready queue of a site where
// ten thousand wait.
func BenchmarkReady(b *testing.B) {
	var r ready
	var n atomic.Int64
	next := func() *entry {
		m := &queue.Message{Priority: mail.PriorityNormal, AcceptedAt: time.Unix(n.Add(1), 0)}
		m.ID[0], m.ID[1], m.ID[2] = byte(n.Load()), byte(n.Load()>>8), byte(n.Load()>>16)
		return &entry{letter: &letter{message: m}}
	}
	for range 10_000 {
		r.push(next())
	}
	b.ReportAllocs()
	for b.Loop() {
		r.push(next())
		r.pop()
	}
}
