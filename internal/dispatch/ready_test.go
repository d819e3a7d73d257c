package dispatch

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

// Whatever is put in comes out, no bundle is too large or mixed, and each is
// the best of those that wait.
func TestReady(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		start := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
		var letters []*letter
		for range rapid.IntRange(1, 5).Draw(r, "letters") {
			letters = append(letters, &letter{message: &queue.Message{
				ID:         id.New[id.Message](),
				Priority:   mail.Priority(rapid.IntRange(1, 5).Draw(r, "priority")),
				AcceptedAt: start.Add(time.Duration(rapid.IntRange(0, 3).Draw(r, "age")) * time.Second),
			}})
		}
		var queue ready
		waiting := make(map[*letter]int)
		total := 0
		order := func(a, b *letter) int {
			return cmp.Or(cmp.Compare(a.message.Priority, b.message.Priority), a.message.AcceptedAt.Compare(b.message.AcceptedAt))
		}
		r.Repeat(map[string]func(*rapid.T){
			"push": func(r *rapid.T) {
				l := rapid.SampledFrom(letters).Draw(r, "letter")
				n := rapid.IntRange(1, 150).Draw(r, "n")
				for range n {
					queue.push(&entry{letter: l})
				}
				waiting[l] += n
				total += n
			},
			"pop": func(r *rapid.T) {
				if queue.len() == 0 {
					r.Skip("nothing waits")
				}
				b := queue.pop()
				l := b.letter()
				if len(b.entries) > maxBundle || len(b.entries) > waiting[l] {
					r.Fatalf("%d of %d", len(b.entries), waiting[l])
				}
				if slices.ContainsFunc(b.entries, func(e *entry) bool { return e.letter != l }) {
					r.Fatal("two messages in one bundle")
				}
				for other, n := range waiting {
					if n > 0 && order(other, l) < 0 {
						r.Fatal("a better one waits")
					}
				}
				waiting[l] -= len(b.entries)
				total -= len(b.entries)
			},
			"": func(r *rapid.T) {
				if queue.len() != total {
					r.Fatalf("%d wait, want %d", queue.len(), total)
				}
			},
		})
		for _, b := range queue.takeAll() {
			total -= len(b.entries)
		}
		if total != 0 || queue.len() != 0 {
			r.Fatalf("%d are lost, %d left", total, queue.len())
		}
	})
}
