package queue

import (
	"testing"

	"mittente/internal/id"
	"mittente/internal/mail"
)

// Of 31 turns the priorities have 16, 8, 4, 2 and 1, taken at once or in pieces.
func TestSharesOfARound(t *testing.T) {
	t.Parallel()
	for _, piece := range []int{1, 2, 7, 31, 62, 500} {
		var s shares
		var sum [mail.PriorityLowest + 1]int
		total := 0
		for total < 31*500 {
			got := 0
			for p, n := range s.next("account", piece) {
				sum[p] += n
				got += n
			}
			if got != piece {
				t.Fatalf("%d turns of %d", got, piece)
			}
			total += piece
		}
		if want := [...]int{0, 16 * 500, 8 * 500, 4 * 500, 2 * 500, 500}; total == 31*500 && sum != want {
			t.Errorf("in pieces of %d: %v, want %v", piece, sum, want)
		}
	}
}

// Accounts have turns of their own: one that is always claimed together with 30
// others, one recipient each, gets all its priorities served.
func TestSharesOfAccounts(t *testing.T) {
	t.Parallel()
	var s shares
	seen := make(map[mail.Priority]int)
	for range 31 {
		for account := range 31 {
			for p, n := range s.next(string(rune('a'+account)), 1) {
				if account == 5 {
					seen[mail.Priority(p)] += n
				}
			}
		}
	}
	if seen[mail.PriorityHighest] != 16 || seen[mail.PriorityLowest] != 1 {
		t.Errorf("turns of an account: %v", seen)
	}
	for i := range 2 * maxShares {
		s.next(id.New[id.Account]().String(), i%3)
	}
	if len(s.turn) > maxShares {
		t.Errorf("%d accounts are remembered", len(s.turn))
	}
}

// S14b: in a backlog every priority of an account moves, by its share, and nothing
// is left over while there is anything of another priority.
func TestClaimByShares(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	account := id.New[id.Account]()
	for range 40 {
		for _, p := range []mail.Priority{1, 3, 5} {
			h.pending(account, p)
		}
	}
	seen := make(map[mail.Priority]int)
	for range 31 {
		for _, item := range h.claim(1) {
			seen[item.Message.Priority]++
		}
	}
	// What priorities 2 and 4 do not use is taken by the highest that waits.
	if seen[1] != 26 || seen[3] != 4 || seen[5] != 1 {
		t.Errorf("one by one: %v", seen)
	}
	for _, item := range h.claim(62) {
		seen[item.Message.Priority]++
	}
	if seen[1] != 40 || seen[5] < 3 || seen[1]+seen[3]+seen[5] != 93 {
		t.Errorf("and 62 at once: %v", seen)
	}
}
