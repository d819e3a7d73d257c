package sender

// State is how far a domain or an address has come to be proven (S21, S22).
//
//	            found, overridden, agreed
//	● ─▶ pending ────────────────▶ verified ◀──────────────┐
//	        │                         │                    │
//	        │ given up, declined      │ refuted, declined, │ found, overridden,
//	        ▼                         ▼ withdrawn          │ agreed
//	      failed ──┐               revoked ────────────────┤
//	               └───────────────────────────────────────┘
//
//	from     | found, overridden, agreed | absent, unknown | given up | declined | withdrawn | refuted
//	pending  | verified                  | stays           | failed   | failed   | revoked   | stays
//	verified | stays                     | stays           | stays    | revoked  | revoked   | revoked
//	failed   | verified                  | stays           | stays    | stays    | revoked   | stays
//	revoked  | verified                  | stays           | stays    | stays    | stays     | stays
//
// One check that finds nothing takes nothing away: that takes several over days,
// which together are a refutation. A look-up that failed says nothing at all.
// Verified alone lets mail through.
type State string

// The states of a domain or an address.
const (
	StatePending  State = "pending"
	StateVerified State = "verified"
	StateFailed   State = "failed"
	StateRevoked  State = "revoked"
)

// evidence is what is known of a domain or an address at one moment.
type evidence string

const (
	found      evidence = "found"      // the DNS has what only its owner can have put there
	overridden evidence = "overridden" // an owner of the relay vouches for it
	agreed     evidence = "agreed"     // its owner has answered a letter
	absent     evidence = "absent"     // the DNS answered, and has it not
	unknown    evidence = "unknown"    // the DNS did not answer
	givenUp    evidence = "given up"   // absent for 30 days
	declined   evidence = "declined"   // its owner has answered a letter with no
	refuted    evidence = "refuted"    // absent in three checks over 72 hours
	withdrawn  evidence = "withdrawn"  // an owner of the relay takes it away
)

// next is the table above.
func (s State) next(e evidence) State {
	switch e {
	case found, overridden, agreed:
		return StateVerified
	case withdrawn:
		return StateRevoked
	case givenUp, declined, refuted:
		return s.loses(e)
	case absent, unknown:
		return s
	}
	return s
}

func (s State) loses(e evidence) State {
	switch {
	case s == StatePending && e != refuted:
		return StateFailed
	case s == StateVerified && e != givenUp:
		return StateRevoked
	}
	return s
}
