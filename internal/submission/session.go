package submission

import (
	"net/netip"

	"mittente/internal/account"
)

// Session is what a door knows of the client that submits.
type Session struct {
	Principal account.Principal
	Client    netip.AddrPort
	Helo      string // what the client called itself; not to be trusted
	// Transcript returns what was said in the session so far, without secrets and
	// at most 4 KiB, for the record of a refusal; it may be nil.
	Transcript func() string
	// Words returns the reply in which the door tells the client of a *Rejection or
	// an *account.AuthError, on one line, for the same record; it may be nil.
	Words func(error) string
	TLS   string // version and cipher suite for the trace field; empty in clear
}
