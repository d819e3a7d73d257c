package account

import (
	"fmt"
	"time"

	"mittente/internal/id"
)

// Reason says why a client may not send as a user. Each door has one table that
// turns a reason into its own words.
type Reason string

// The reasons of an AuthError. Only the first three may be told to anybody: the
// others come up only after the right password.
const (
	BadCredentials  Reason = "bad_credentials"  // no such user, or not its password
	TooMany         Reason = "too_many"         // the client has guessed too often: nothing was looked at
	Unbound         Reason = "unbound"          // SCRAM: not the TLS session that the client sees, or a downgrade (RFC 5802 §6)
	NotFromHere     Reason = "not_from_here"    // right password, but not to be used from this client's address
	TLSRequired     Reason = "tls_required"     // right password, in clear, of a user that must use TLS
	Inactive        Reason = "inactive"         // right password of a user that is not ticked as active (S12)
	Removed         Reason = "removed"          // open session: the user is gone (S6)
	PasswordChanged Reason = "password_changed" // open session: the password was regenerated (S9)
	Spent           Reason = "spent"            // open session: a one-time password had its message, or its time
)

// AuthError says that a client may not, or may no longer, send as a user.
type AuthError struct {
	Reason Reason
	Name   string  // as the client gave it, at most 64 octets
	User   id.User // zero for BadCredentials, TooMany and Unbound, so that nothing tells whether there is such a user

	Wait     time.Duration // TooMany: until the client may try again
	Repeated bool          // BadCredentials: the client showed these already, perhaps by another mechanism: no further guess
	Crossed  bool          // BadCredentials: with this failure the client has guessed too often; said once an hour
	InClear  bool          // the right password of a user that must use TLS could be read on its way
}

// Error says what was refused and why; it is for logs, not for the client.
func (e *AuthError) Error() string {
	return fmt.Sprintf("authentication of %q refused: %s", e.Name, e.Reason)
}
