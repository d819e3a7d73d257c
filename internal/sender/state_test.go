package sender

import "testing"

// The table in state.go, line by line.
func TestStates(t *testing.T) {
	table := map[State]map[evidence]State{
		StatePending:  {found: StateVerified, overridden: StateVerified, absent: StatePending, unknown: StatePending},
		StateVerified: {found: StateVerified, overridden: StateVerified, absent: StateVerified, unknown: StateVerified},
		StateFailed:   {found: StateVerified, overridden: StateVerified, absent: StateFailed, unknown: StateFailed},
		StateRevoked:  {found: StateVerified, overridden: StateVerified, absent: StateRevoked, unknown: StateRevoked},
	}
	for from, row := range table {
		for look, want := range row {
			if got := from.next(look); got != want {
				t.Errorf("%s, %s: %s, want %s", from, look, got, want)
			}
		}
	}
}
