package queue

import (
	"fmt"
	"slices"
)

// State is where a recipient stands. It moves along these arrows and no others;
// every move is written together with its event, except those between pending
// and leased, which say nothing about the recipient:
//
//	                 Enqueue
//	                    │
//	      ┌─────────────┴─ (straight to this node) ──┐
//	      ▼                                          ▼
//	┌─────────┐ claim                          ┌──────────┐
//	│ pending │ ─────────────────────────────► │  leased  │
//	│ (hasten)│ ◄───────────────────────────── │          │
//	└─────────┘ defer, release, reclaim        └──────────┘
//	  │ ▲    │                                   │  │  │
//	  │ │    └─ cancel ─► cancelled              │  │  └─ expire  ─► expired
//	hold resume           suppressed ◄─ suppress │  └──── fail    ─► failed
//	  ▼ │                                        └─────── deliver ─► delivered
//	┌──────┐
//	│ held │ ─ cancel ─► cancelled
//	└──────┘
//
// What an operator wishes for a leased recipient is done when its holder lets go
// of it unsettled: it is pending for no more than that transaction. A recipient
// whose list is paused is pending and parked: claims pass it over.
//
// What is due and can't be read is claimed and failed in one statement. A
// recipient put off without an attempt (Postpone) goes by defer or expire.
//
// A recipient in one of the five states on the right is settled, for good.
type State string

// The states of a recipient.
const (
	Pending    State = "pending"    // waits for its due time
	Leased     State = "leased"     // a node attempts it, or has it in memory
	Held       State = "held"       // an operator stopped it
	Delivered  State = "delivered"  // the next hop took responsibility
	Failed     State = "failed"     // the next hop refused it for good
	Expired    State = "expired"    // deferred until its time was over
	Cancelled  State = "cancelled"  // an operator took it back
	Suppressed State = "suppressed" // its address must not be mailed
)

// States returns all states, the unsettled ones first.
func States() []State {
	return []State{Pending, Leased, Held, Delivered, Failed, Expired, Cancelled, Suppressed}
}

// Settled reports whether nothing can happen to the recipient any more.
func (s State) Settled() bool {
	switch s {
	case Delivered, Failed, Expired, Cancelled, Suppressed:
		return true
	case Pending, Leased, Held:
		return false
	}
	return false
}

// Validate returns an error unless s is one of States.
func (s State) Validate() error {
	if slices.Contains(States(), s) {
		return nil
	}
	return fmt.Errorf("%q is not a state of a recipient", string(s))
}

// move is what can be done with a recipient.
type move string

const (
	claim    move = "claim"    // a node takes what is due
	giveBack move = "release"  // unattempted: shutdown, memory bound, dead lease
	deliver  move = "deliver"  // settle: the next hop has it
	fail     move = "fail"     // settle: never to be tried again
	postpone move = "defer"    // settle the attempt: to be tried again
	expire   move = "expire"   // settle: deferred once too often
	hasten   move = "hasten"   // an operator has it tried before its time
	hold     move = "hold"     // an operator stops it
	resume   move = "resume"   // an operator lets it go on
	cancel   move = "cancel"   // an operator takes it back
	suppress move = "suppress" // its address is not to be mailed
)

// edge is one arrow of the picture: a move, and where it begins.
type edge struct {
	from State
	move move
}

// next is the one transition table: the state in which a move leaves a
// recipient. ok is false when the move is not allowed there.
func (s State) next(m move) (to State, ok bool) {
	switch (edge{s, m}) {
	case edge{Pending, claim}:
		return Leased, true
	case edge{Pending, hasten}:
		return Pending, true
	case edge{Pending, hold}:
		return Held, true
	case edge{Pending, cancel}:
		return Cancelled, true
	case edge{Leased, giveBack}, edge{Leased, postpone}:
		return Pending, true
	case edge{Leased, deliver}:
		return Delivered, true
	case edge{Leased, fail}:
		return Failed, true
	case edge{Leased, expire}:
		return Expired, true
	case edge{Leased, suppress}:
		return Suppressed, true
	case edge{Held, resume}:
		return Pending, true
	case edge{Held, cancel}:
		return Cancelled, true
	}
	return s, false
}
