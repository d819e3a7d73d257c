package sender

// State is how far a domain or an address has come to be proven (S21, S22).
//
//	            found, overridden
//	● ─▶ pending ────────────────▶ verified ◀──────────────┐
//	        ┆                         ┆                    │
//	        ┆ given up                ┆ refuted            │ found, overridden
//	        ▼                         ▼                    │
//	      failed ──┐               revoked ────────────────┤
//	               └───────────────────────────────────────┘
//
// The dotted ways are not walked by a single check. What one says:
//
//	from     | found    | overridden | absent | unknown
//	pending  | verified | verified   | stays  | stays
//	verified | stays    | stays      | stays  | stays
//	failed   | verified | verified   | stays  | stays
//	revoked  | verified | verified   | stays  | stays
//
// One check that finds nothing takes nothing away: that takes several over days.
// A look-up that failed says nothing at all. Verified alone lets mail through.
type State string

// The states of a domain or an address.
const (
	StatePending  State = "pending"
	StateVerified State = "verified"
	StateFailed   State = "failed"
	StateRevoked  State = "revoked"
)

// evidence is what one look at a domain came to.
type evidence string

const (
	found      evidence = "found"      // the DNS has what only its owner can have put there
	overridden evidence = "overridden" // an owner of the relay vouches for it
	absent     evidence = "absent"     // the DNS answered, and has it not
	unknown    evidence = "unknown"    // the DNS did not answer
)

// next is the table above.
func (s State) next(e evidence) State {
	switch e {
	case found, overridden:
		return StateVerified
	case absent, unknown:
		return s
	}
	return s
}
