package dispatch

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"mittente/internal/mail"
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
