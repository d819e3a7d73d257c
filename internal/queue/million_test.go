package queue

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/query"
)

// rows is how many messages, or waiting recipients, the benchmarks of this file are
// about; MITTENTE_BENCH_ROWS=1000000 takes some minutes to fill in.
func rows(b *testing.B) int {
	b.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("MITTENTE_BENCH_ROWS"), "10000"))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkSearch is the search among many messages, of which 1 % failed and 1 %
// are deferred.
func BenchmarkSearch(b *testing.B) {
	h := newHouse(b)
	fillSearch(b, h, rows(b))
	for _, text := range []string{
		"", "to:r1234@d234.example", "to:nobody@d999999.example", "domain:d77.example", "from:a12@example.com", "user:s1_3",
		"msgid:<1234@example.com>", "subject:number-1234", "subject:invoice", "subject:nothing-has-this",
		"status:failed", "status:deferred", "status:delivered", "status:held",
		"user:s1_7 status:failed", "domain:d77.example status:failed", "to:r1234@d234.example subject:invoice",
	} {
		b.Run(text, func(b *testing.B) {
			q, err := query.Parse(text, time.Now())
			h.must(err)
			var f Found
			cpu := cpuTime()
			for b.Loop() {
				h.view(func(tx *db.Tx) (err error) {
					f, err = h.Search(tx, q, id.Message{}, 50)
					return err
				})
			}
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(f.Total), "found")
		})
	}
}

// fillSearch puts messages of 20 users and 500 senders to 1,000 domains into the queue.
func fillSearch(b *testing.B, h *house, n int) {
	b.Helper()
	account, list := id.New[id.Account](), id.New[id.List]()
	for i := 0; i < n; {
		err := h.db.Batch(context.Background(), func(tx *db.Tx) error {
			for end := min(i+1000, n); i < end; i++ {
				if err := h.accepted(tx, i, account, list); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func (h *house) accepted(tx *db.Tx, i int, account id.Account, list id.List) error {
	from := fmt.Sprintf("a%d@example.com", i%500)
	m := &Message{
		ID: id.New[id.Message](), Account: account, List: list, UserName: fmt.Sprintf("s1_%d", i%20), Priority: mail.PriorityNormal,
		From: mail.ReversePath{Address: address(from)}, SigningDomain: "example.com", HeaderFrom: from,
		Subject: fmt.Sprintf("Your invoice number-%d of today", i), MessageID: fmt.Sprintf("<%d@example.com>", i),
		Size: 1000, Content: id.New[id.Content](), AcceptedAt: db.Now(),
	}
	to := address(fmt.Sprintf("r%d@d%d.example", i, i%1000))
	recipients, err := h.Enqueue(tx, m, []mail.Rcpt{{To: mail.ForwardPath{Address: to}}})
	if err != nil {
		return err
	}
	o := delivered()
	switch i % 100 {
	case 7:
		o = failed()
	case 9:
		o = deferred()
	}
	_, err = h.Settle(tx, Item{Message: m, Recipient: recipients[0]}, o, db.Now())
	return err
}

// BenchmarkBacklog is what an operator and the dispatcher do with many recipients
// of one account that wait.
func BenchmarkBacklog(b *testing.B) {
	h := newHouse(b)
	n := rows(b)
	fill(b, h, n)
	lone := h.pending(id.New[id.Account](), mail.PriorityLowest) // is in every claim
	measure := func(name string, do func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			cpu := cpuTime()
			for b.Loop() {
				do(b)
			}
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
	measure("claim=500", func(b *testing.B) {
		b.Helper()
		items, err := h.Claim(b.Context(), 500, time.Now())
		if err != nil || len(items) != 500 {
			b.Fatalf("%d, %v", len(items), err)
		}
		if !slices.Contains(recipientsOf(items), lone.Recipient.ID) {
			b.Fatal("a lone mail waits behind a backlog")
		}
		h.batch(func(tx *db.Tx) error { return h.Release(tx, items) })
	})
	list := func(s Selection, want int) func(*testing.B) {
		return func(b *testing.B) {
			b.Helper()
			if got := len(h.recipients(s, Page{Limit: 100})); got != want {
				b.Fatalf("%d listed, want %d", got, want)
			}
		}
	}
	measure("ls", list(Selection{}, 100))
	measure("ls of nobody", list(Selection{User: "s9_9"}, 0))
	measure("ls by reply", list(Selection{Reply: "greylisted"}, 0))
	measure("count", func(b *testing.B) {
		b.Helper()
		if got := h.count(Hold, Selection{All: true}); got != n+1 {
			b.Fatalf("counted %d", got)
		}
	})
	measure("depth", func(*testing.B) {
		h.view(func(tx *db.Tx) error { _, err := h.Depth(tx, time.Now()); return err })
	})
}
