package mail

import "fmt"

// ReversePath is where reports about a message go (RFC 5321 §4.1.2). It may be
// null, "<>", which an Address can't be; the zero value is the null one.
type ReversePath struct{ Address Address }

// ParseReversePath reads the path without its angle brackets; "" is the null one.
func ParseReversePath(s string) (ReversePath, error) {
	if s == "" {
		return ReversePath{}, nil
	}
	a, err := ParseAddress(s)
	return ReversePath{Address: a}, err
}

// IsNull reports whether nobody is to be told.
func (p ReversePath) IsNull() bool { return p.Address.IsZero() }

// String returns the path without angle brackets, for the wire and for storage.
func (p ReversePath) String() string { return p.Address.String() }

// ForwardPath is where one copy of a message goes (RFC 5321 §4.1.2).
type ForwardPath struct{ Address Address }

// ParseForwardPath reads the path without its angle brackets.
func ParseForwardPath(s string) (ForwardPath, error) {
	a, err := ParseAddress(s)
	return ForwardPath{Address: a}, err
}

// String returns the path without angle brackets, for the wire and for storage.
func (p ForwardPath) String() string { return p.Address.String() }

// Envelope is what MAIL and RCPT said of a message (RFC 5321 §2.3.1).
type Envelope struct {
	From     ReversePath
	To       []Rcpt
	SMTPUTF8 bool   // RFC 6531: the client asked for it at MAIL
	EightBit bool   // RFC 6152: BODY=8BITMIME
	Return   Return // RFC 3461 §4.3; empty: not given
	ID       string // ENVID (RFC 3461 §4.4), xtext decoded, at most 100 octets; empty: not given
}

// Priority is the importance that recipients see (requirement S14): 1 is
// highest, 5 lowest, 3 normal.
type Priority int

// The priorities that have a meaning of their own.
const (
	PriorityHighest Priority = 1
	PriorityNormal  Priority = 3
	PriorityLowest  Priority = 5
)

// Validate returns an error unless p is 1 to 5.
func (p Priority) Validate() error {
	if p < PriorityHighest || p > PriorityLowest {
		return fmt.Errorf("priority %d: want %d (highest) to %d (lowest)", p, PriorityHighest, PriorityLowest)
	}
	return nil
}
