package queue

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// BenchmarkCycle is the whole way of a 10 KB message with one recipient through
// storage: accepted (message, recipient, content, event), then settled
// (recipient, message, content, event), each with its fsync.
func BenchmarkCycle(b *testing.B) {
	for _, parallel := range []int{1, 32, 100} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) {
			h := newHouse(b)
			account := id.New[id.Account]()
			body := make([]byte, 10<<10)
			var left atomic.Int64
			run := func(n int) {
				left.Store(int64(n))
				var g sync.WaitGroup
				for range parallel {
					g.Go(func() {
						for left.Add(-1) >= 0 {
							if err := h.cycle(account, body); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				g.Wait()
			}
			cycles := 0
			cpu, start := cpuTime(), time.Now()
			for b.Loop() {
				run(20 * parallel) // so that waiting for the last one counts little
				cycles += 20 * parallel
			}
			spent, took := cpuTime()-cpu, time.Since(start)
			b.ReportMetric(float64(cycles)/took.Seconds(), "cycles/s")
			b.ReportMetric(float64(spent.Microseconds())/float64(cycles), "cpu-µs/cycle")
		})
	}
}

func (h *house) cycle(account id.Account, body []byte) error {
	ctx := context.Background()
	w := h.spool.Create(account)
	if _, err := w.Write(body); err != nil {
		return err
	}
	m := &Message{
		ID: id.New[id.Message](), Account: account, UserName: "s1_1", Priority: mail.PriorityNormal,
		From: mail.ReversePath{Address: address("sender@example.com")}, SigningDomain: "example.com",
		HeaderFrom: "sender@example.com", Subject: "hello", MessageID: "<1@example.com>",
		Size: int64(len(body)), Content: w.Content().ID, AcceptedAt: time.Now(),
	}
	to := []mail.Rcpt{{To: mail.ForwardPath{Address: address("someone@example.net")}}}
	var recipients []Recipient
	err := h.db.Batch(ctx, func(tx *db.Tx) (err error) {
		if err := w.Put(tx); err != nil {
			return err
		}
		recipients, err = h.Enqueue(tx, m, to)
		return err
	})
	if err != nil {
		return err
	}
	return h.db.Batch(ctx, func(tx *db.Tx) error {
		_, err := h.Settle(tx, Item{Message: m, Recipient: recipients[0]}, delivered(), time.Now())
		return err
	})
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStart is a start with as many recipients waiting, and the first claim after it.
func BenchmarkStart(b *testing.B) {
	h := newHouse(b)
	const waiting = 100_000
	fill(b, h, waiting)
	for b.Loop() {
		if err := h.Start(b.Context(), "here"); err != nil {
			b.Fatal(err)
		}
		items, err := h.Claim(b.Context(), 500, time.Now())
		if err != nil || len(items) != 500 {
			b.Fatalf("%d, %v", len(items), err)
		}
		if _, err := h.Reclaim(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// fill puts pending recipients into the queue, a hundred to a message.
func fill(b *testing.B, h *house, n int) {
	b.Helper()
	h.Direct(false)
	to := make([]mail.Rcpt, 100)
	for i := range to {
		to[i] = mail.Rcpt{To: mail.ForwardPath{Address: address(fmt.Sprintf("r%d@example.net", i))}}
	}
	account := id.New[id.Account]()
	for range n / len(to) {
		m, w := h.someMessage(account)
		err := h.db.Batch(b.Context(), func(tx *db.Tx) error {
			if err := w.Put(tx); err != nil {
				return err
			}
			_, err := h.Enqueue(tx, m, to)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	h.Direct(true)
}

// BenchmarkEnqueue is how long a message with as many recipients holds the writer.
func BenchmarkEnqueue(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("recipients=%d", n), func(b *testing.B) {
			h := newHouse(b)
			to := make([]mail.Rcpt, n)
			for i := range to {
				to[i] = mail.Rcpt{To: mail.ForwardPath{Address: address(fmt.Sprintf("r%d@example.net", i))}}
			}
			var inside time.Duration
			for b.Loop() {
				m, w := h.someMessage(id.New[id.Account]())
				err := h.db.Batch(b.Context(), func(tx *db.Tx) error {
					if err := w.Put(tx); err != nil {
						return err
					}
					began := time.Now()
					_, err := h.Enqueue(tx, m, to)
					inside += time.Since(began)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(inside.Microseconds())/float64(b.N), "inside-µs/op")
		})
	}
}
