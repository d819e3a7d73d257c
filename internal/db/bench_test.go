package db

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const benchInsert SQL = `INSERT INTO note (name, body) VALUES ($1, $2)`

// BenchmarkBatch measures an insert of 10 KB, synced, by callers that each wait
// for theirs. One operation is one caller's.
func BenchmarkBatch(b *testing.B) {
	body := make([]byte, 10_000)
	for i := range body {
		body[i] = byte(i)
	}
	for _, callers := range []int{1, 8, 32, 100} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			d, f := open(b)
			begun := f.commits()
			jobs := make(chan int)
			var all sync.WaitGroup
			var failed atomic.Int64
			for range callers {
				all.Go(func() {
					for i := range jobs {
						name := fmt.Sprintf("%012d", i)
						err := d.Batch(b.Context(), func(tx *Tx) error {
							_, err := tx.Exec(benchInsert, name, body)
							return err
						})
						if err != nil {
							failed.Add(1)
						}
					}
				})
			}
			b.ReportAllocs()
			start, n := time.Now(), 0
			for b.Loop() {
				jobs <- n
				n++
			}
			close(jobs)
			all.Wait()
			if failed.Load() > 0 {
				b.Fatalf("%d failed", failed.Load())
			}
			b.ReportMetric(float64(n)/time.Since(start).Seconds(), "inserts/s")
			b.ReportMetric(float64(n)/float64(max(1, f.commits()-begun)), "callers/commit")
		})
	}
}

// BenchmarkView measures what it costs to look up one row.
func BenchmarkView(b *testing.B) {
	d, _ := open(b)
	if err := d.Batch(b.Context(), putting("a")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		err := d.View(b.Context(), func(tx *Tx) error {
			var body []byte
			return tx.Row(selectNote, "a").Scan(&body)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
