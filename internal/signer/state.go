package signer

// State is where a DKIM key stands between its making and its end.
//
//	             switch          switched away        revoke
//	● ──▶ next ────────▶ active ────────────▶ retired ────────▶ revoked ──▶ ●
//	       │               ▲ │                                      30 days
//	       └─▶ ●    first  │ │ the domain is removed
//	     abandoned         ● └───▶ left ──▶ ●
//	                                    7 days, and no mail is queued under it
//
//	state   | signs        | record to be published
//	next    | no           | yes: verifiers must find it before it signs
//	active  | yes          | yes
//	retired | no           | yes: signed mail is still on its way
//	revoked | no, erased   | with an empty p= (RFC 6376 §3.6.1), or none
//	left    | queued mail  | yes
type State string

// The states of a key.
const (
	StateNext    State = "next"
	StateActive  State = "active"
	StateRetired State = "retired"
	StateRevoked State = "revoked"
	StateLeft    State = "left"
)

// step is what an operator, or the removal of a domain, does with keys.
type step string

const (
	stepSwitch step = "switch"
	stepRevoke step = "revoke"
	stepLeave  step = "leave"
)

// next returns the state that a step leads to, the same one where it changes
// nothing, and "" for a key that ends.
func (s State) next(by step) State {
	switch {
	case by == stepSwitch && s == StateNext:
		return StateActive
	case by == stepSwitch && s == StateActive:
		return StateRetired
	case by == stepRevoke && s == StateRetired:
		return StateRevoked
	case by == stepLeave && s == StateActive:
		return StateLeft
	case by == stepLeave && s != StateLeft:
		return ""
	}
	return s
}
