package sender

import "testing"

// The table in state.go, line by line.
func TestStates(t *testing.T) {
	proves := func(row map[evidence]State) map[evidence]State {
		row[found], row[overridden], row[agreed] = StateVerified, StateVerified, StateVerified
		row[withdrawn] = StateRevoked
		return row
	}
	table := map[State]map[evidence]State{
		StatePending: proves(map[evidence]State{
			absent: StatePending, unknown: StatePending, givenUp: StateFailed, declined: StateFailed, refuted: StatePending,
		}),
		StateVerified: proves(map[evidence]State{
			absent: StateVerified, unknown: StateVerified, givenUp: StateVerified, declined: StateRevoked, refuted: StateRevoked,
		}),
		StateFailed: proves(map[evidence]State{
			absent: StateFailed, unknown: StateFailed, givenUp: StateFailed, declined: StateFailed, refuted: StateFailed,
		}),
		StateRevoked: proves(map[evidence]State{
			absent: StateRevoked, unknown: StateRevoked, givenUp: StateRevoked, declined: StateRevoked, refuted: StateRevoked,
		}),
	}
	for from, row := range table {
		for look, want := range row {
			if got := from.next(look); got != want {
				t.Errorf("%s, %s: %s, want %s", from, look, got, want)
			}
		}
	}
}
