package queue

import "testing"

// The table allows the arrows of the picture and no others.
func TestMoves(t *testing.T) {
	t.Parallel()
	moves := []move{claim, giveBack, deliver, fail, postpone, expire, hold, resume, cancel, suppress}
	// The picture of state.go, row by row; an empty cell is a move that is refused.
	want := map[State]map[move]State{
		Pending: {claim: Leased, hold: Held, cancel: Cancelled},
		Leased: {
			giveBack: Pending, postpone: Pending, deliver: Delivered, fail: Failed,
			expire: Expired, suppress: Suppressed,
		},
		Held: {resume: Pending, cancel: Cancelled},
	}
	for _, from := range States() {
		for _, m := range moves {
			to, ok := from.next(m)
			expected, allowed := want[from][m]
			if ok != allowed || (ok && to != expected) {
				t.Errorf("%s, %s: got %s, %v; want %s, %v", from, m, to, ok, expected, allowed)
			}
			if !ok && to != from {
				t.Errorf("%s, %s: a refused move went to %s", from, m, to)
			}
		}
		if from.Settled() && len(want[from]) > 0 {
			t.Errorf("%s is settled and can move", from)
		}
		if !from.Settled() && len(want[from]) == 0 {
			t.Errorf("%s is unsettled and can't move", from)
		}
	}
}

// Only the states of the picture pass.
func TestStateValidate(t *testing.T) {
	t.Parallel()
	for _, s := range States() {
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []State{"", "done", "Pending"} {
		if s.Validate() == nil {
			t.Errorf("%q passes", s)
		}
		if s.Settled() {
			t.Errorf("%q is settled", s)
		}
	}
}
