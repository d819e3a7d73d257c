package queue

import (
	"time"

	"mittente/internal/id"
	"mittente/internal/mail"
)

// Message is what the queue knows of one accepted message. Its content lies in
// the spool; nothing of it changes after acceptance.
type Message struct {
	ID      id.Message
	Account id.Account
	List    id.List

	UserName   string // the SMTP+ user, as text: it outlives the user
	From       mail.ReversePath
	Return     mail.Return   // RET (RFC 3461 §4.3); empty: not given
	EnvelopeID string        // ENVID (RFC 3461 §4.4), decoded; empty: not given
	SMTPUTF8   bool          // RFC 6531
	EightBit   bool          // RFC 6152
	Priority   mail.Priority // of the user: the order in the queue

	SigningDomain mail.Domain // empty: sent unsigned
	HeaderFrom    string      // for people, as Subject and MessageID
	Subject       string      // decoded, at most 255 runes
	MessageID     string      // with its angle brackets

	Size       int64    // octets of the content in the spool
	BodyHash   [32]byte // SHA-256 of the body, relaxed (RFC 6376 §3.4.4)
	HeaderSize int      // the first octets of the content, without the empty line
	Content    id.Content
	AcceptedAt time.Time
}

// Recipient is one forward-path of one message, with its state.
type Recipient struct {
	ID      id.Recipient
	Message id.Message
	Account id.Account
	List    id.List
	User    string // name of the SMTP+ user
	To      mail.ForwardPath

	Notify   mail.Notify // what the sender wants to be told (RFC 3461 §4.1)
	Original string      // ORCPT (RFC 3461 §4.2), "type;address"; empty: not given

	State     State
	Lease     Lease        // who may settle it; zero unless leased
	Due       time.Time    // of the next attempt; meaningless once settled
	Attempts  int          // attempts that have an outcome
	Last      mail.Outcome // of the last attempt, or why there was none; zero before the first
	SettledAt time.Time    // zero while unsettled
	Site      string       // where its mail goes, as of the last outcome; empty: not known
	Wish      Operation    // what its holder is asked to do with it; empty: nothing
	WishedBy  string       // who asked
	Parked    bool         // pending, and passed over by claims: its list is paused

	Unreadable string // what of its row can't be read, and why; empty: nothing
	RawTo      string // the stored address when To can't be read from it; else empty
}

// Item is a recipient that is leased to this node, with what is needed to attempt it.
type Item struct {
	Message   *Message // shared by the items of one message; never written to
	Recipient Recipient
	Bytes     []byte // the content while it is still in memory; nil: read it from the spool
	Site      string // where it goes, for Settle and Postpone to note; empty: not known
}
