package queue

import (
	"sync"

	"mittente/internal/mail"
)

// shares gives the priorities of each account their turns: of 31 recipients 16 are
// of priority 1, then 8, 4, 2 and 1 (requirement S14b), however many are claimed at
// once, so that none ever starves. The zero value is ready.
type shares struct {
	mu   sync.Mutex
	turn map[string]int // of each account, within a round
}

// maxShares bounds the accounts that are remembered; forgetting them all costs a
// round that begins anew.
const maxShares = 10_000

const round = 31

// next returns how many of an account's next n turns each priority has.
func (s *shares) next(account string, n int) (of [mail.PriorityLowest + 1]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn == nil || len(s.turn) >= maxShares {
		s.turn = make(map[string]int)
	}
	turn := s.turn[account]
	for p := mail.PriorityHighest; p <= mail.PriorityLowest; p++ {
		of[p] = n / round * (round + 1) >> p
	}
	for i := range n % round {
		of[priorityOf((turn+i)%round)]++
	}
	s.turn[account] = (turn + n) % round
	return of
}

// priorityOf is whose turn it is: the trailing zeros of turn+1, so that the turns
// of a priority are spread evenly over the round.
func priorityOf(turn int) mail.Priority {
	p := mail.PriorityHighest
	for n := turn + 1; n&1 == 0; n >>= 1 {
		p++
	}
	return p
}
