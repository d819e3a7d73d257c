package account

import (
	"context"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"mittente/internal/id"
)

// AuthAttempt is what a client showed to be let in. Its password is in no
// output of fmt, slog or encoding/json.
type AuthAttempt struct {
	Name     string
	Password string `json:"-"`
	TLS      bool   // the session is encrypted
	Client   netip.Addr
}

// String leaves the password out.
func (a AuthAttempt) String() string { return fmt.Sprintf("%q from %s", a.Name, a.Client) }

// GoString leaves the password out.
func (a AuthAttempt) GoString() string { return a.String() }

// LogValue leaves the password out.
func (a AuthAttempt) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Principal is a client that has authenticated as a user.
type Principal struct {
	User       User
	Credential id.Credential // the password it showed
	OneTime    bool          // good for one message: see Spend
	TLS        bool          // it authenticated in an encrypted session
}

// LogValue shows the user's name only.
func (p Principal) LogValue() slog.Value { return p.User.LogValue() }

// record is what memory keeps of one user.
type record struct {
	user    User
	lasting verifier
	oneTime []verifier // at most oneTimeSlots
}

// verifier is what a password can be checked against. The zero value fits none.
type verifier struct {
	credential id.Credential
	salt       [saltSize]byte
	hash       [hashSize]byte
	expires    time.Time // zero: never
	oneTime    bool
}

func (v verifier) live(now time.Time) bool {
	return !v.credential.IsZero() && (v.expires.IsZero() || now.Before(v.expires))
}

// Authenticate lets a client in by name and password. It returns *AuthError
// when it may not send, any other error when the database did not answer.
//
//	password wrong, or no such user                  BadCredentials
//	one-time password, not from a loopback address   NotFromHere
//	user must use TLS, session in clear              TLSRequired
//	user not active                                  Inactive
//
// The first line that fits counts. Users are known from memory. A refusal for
// BadCredentials is never spoken from memory alone: it always has cost a look
// into the database and the same hashes, whether there is such a user or not.
func (a *Accounts) Authenticate(ctx context.Context, attempt AuthAttempt) (Principal, error) {
	p, err := a.authenticate(ctx, attempt)
	a.metrics.auth.WithLabelValues(result(err)).Inc()
	if err == nil && !p.OneTime {
		a.Used(p.User.ID, time.Now())
	}
	return p, err
}

func (a *Accounts) authenticate(ctx context.Context, attempt AuthAttempt) (Principal, error) {
	r, _ := a.cache.get(attempt.Name)
	found := a.match(r, attempt.Password)
	if found.credential.IsZero() {
		var err error
		if r, err = a.load(ctx, attempt.Name); err != nil {
			return Principal{}, fmt.Errorf("authenticate: %w", err)
		}
		found = a.match(r, attempt.Password)
	}
	if found.credential.IsZero() {
		return Principal{}, &AuthError{Reason: BadCredentials, Name: shortName(attempt.Name)}
	}
	p := Principal{User: r.user, Credential: found.credential, OneTime: found.oneTime, TLS: attempt.TLS}
	switch {
	case p.OneTime && !attempt.Client.Unmap().IsLoopback():
		return Principal{}, refuse(r.user, NotFromHere)
	case r.user.RequireTLS && !attempt.TLS:
		return Principal{}, refuse(r.user, TLSRequired)
	case !r.user.Active:
		return Principal{}, refuse(r.user, Inactive)
	}
	return p, nil
}

// match returns the verifier that fits, or the zero one. How many hashes it
// costs depends on the password's length alone; r may be nil.
func (a *Accounts) match(r *record, password string) verifier {
	var slots [oneTimeSlots]verifier
	candidates := slots[:1]
	switch {
	case len(password) == oneTimeLength:
		candidates = slots[:]
		if r != nil {
			copy(candidates, r.oneTime)
		}
	case len(password) == passwordLength && r != nil:
		candidates[0] = r.lasting
	}
	now := time.Now()
	var found verifier
	for _, v := range candidates {
		sum := a.hash(v.salt, password)
		if subtle.ConstantTimeCompare(sum[:], v.hash[:]) == 1 && v.live(now) {
			found = v
		}
	}
	return found
}

// Current tells, at each MAIL of an open session, whether p may still send, and
// returns it with the user as it is now. It returns *AuthError with Removed,
// PasswordChanged, Spent, TLSRequired or Inactive otherwise, and any other
// error when the database did not answer. Own changes count at once, those of
// other processes as soon as Invalidate is called.
func (a *Accounts) Current(ctx context.Context, p Principal) (Principal, error) {
	fresh, err := a.current(ctx, p)
	a.metrics.sessions.WithLabelValues(result(err)).Inc()
	return fresh, err
}

func (a *Accounts) current(ctx context.Context, p Principal) (Principal, error) {
	r, _ := a.cache.get(p.User.Name)
	if r == nil {
		var err error
		if r, err = a.load(ctx, p.User.Name); err != nil {
			return Principal{}, fmt.Errorf("check session of %s: %w", p.User.Name, err)
		}
	}
	switch {
	case r == nil:
		return Principal{}, refuse(p.User, Removed)
	case p.OneTime && !r.hasOneTime(p.Credential):
		return Principal{}, refuse(r.user, Spent)
	case !p.OneTime && r.lasting.credential != p.Credential:
		return Principal{}, refuse(r.user, PasswordChanged)
	case r.user.RequireTLS && !p.TLS:
		return Principal{}, refuse(r.user, TLSRequired)
	case !r.user.Active:
		return Principal{}, refuse(r.user, Inactive)
	}
	p.User = r.user
	return p, nil
}

func (r *record) hasOneTime(c id.Credential) bool {
	now := time.Now()
	return slices.ContainsFunc(r.oneTime, func(v verifier) bool { return v.credential == c && v.live(now) })
}

func refuse(u User, why Reason) *AuthError {
	return &AuthError{Reason: why, Name: u.Name, User: u.ID}
}

// shortName bounds what a client called itself before it goes into a log.
func shortName(s string) string { return s[:min(len(s), 64)] }
