package submission

import (
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/sender"
	"mittente/internal/spool"
)

// Reason says why the gate refused. Each door has one table that turns a reason
// into its own words.
type Reason string

// The reasons of a Rejection. Those from StorageFull on are temporary: the
// same submission may pass later.
const (
	NotAuthorised   Reason = "not_authorised" // the address is not among the user's senders
	Pending         Reason = "pending"        // it is, but is not verified yet
	FormVisitor     Reason = "form_visitor"   // the reverse-path is fine, the header From is foreign (S24)
	Malformed       Reason = "malformed"      // From or Sender can't be relied upon, or the header can't be read
	Loop            Reason = "loop"           // RFC 5321 §6.3: too many Received fields
	CredentialSpent Reason = "spent"          // a one-time credential has had its message
	StorageFull     Reason = "storage_full"   // no room on the disk
	StorageDown     Reason = "storage_down"   // the database does not answer
	Busy            Reason = "busy"           // too many messages are being taken in
	OverQuota       Reason = "over_quota"     // the user's recipients of this hour are used up
)

// Place is where an address stood.
type Place string

// The places that are judged (requirement S20).
const (
	PlaceReversePath Place = "reverse-path"
	PlaceFrom        Place = "from"
	PlaceSender      Place = "sender"
)

// Rejection is a refusal by the gate. Nothing of the submission was kept.
type Rejection struct { //nolint:errname // Rejection is the field's word for it (ARCHITECTURE.md)
	Reason  Reason
	User    string        // name of the SMTP+ user
	Address string        // the address at fault, for people; empty when there is none
	Place   Place         // where the address stood
	Kind    sender.Kind   // Pending: what is to be verified
	State   sender.State  // Pending: how far that has come; it may be refused by its owner, or revoked
	Entry   string        // Pending: that entry, for people, such as "*.example.org"
	Limit   int64         // OverQuota: recipients an hour
	Wait    time.Duration // OverQuota: until the same recipient may pass, 1 min to 60 min
	Event   id.Event      // the record of this refusal; zero for most temporary ones, and for those beyond 120 of a user in a minute
	Cause   error         // what was wrong in detail; may be nil
}

// Error says what was refused and why; it is for logs, not for the client.
func (r *Rejection) Error() string {
	text := "submission refused: " + string(r.Reason)
	if r.Address != "" {
		text += fmt.Sprintf(": %s <%s>", r.Place, r.Address)
	}
	if r.Cause != nil {
		text += ": " + r.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (r *Rejection) Unwrap() error { return r.Cause }

// Temporary reports whether the same submission may pass later.
func (r *Rejection) Temporary() bool {
	return r.Reason == StorageFull || r.Reason == StorageDown || r.Reason == Busy || r.Reason == OverQuota
}

// storageRejection translates what the database said; an error that is not the
// database's is returned as it came.
func storageRejection(user string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, db.ErrFull):
		return &Rejection{Reason: StorageFull, User: user, Cause: err}
	case errors.Is(err, db.ErrBusy), errors.Is(err, db.ErrUnavailable), errors.Is(err, spool.ErrSwept):
		return &Rejection{Reason: StorageDown, User: user, Cause: err}
	}
	return err
}
