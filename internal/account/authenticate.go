package account

import (
	"context"
	"crypto/subtle"
	"errors"
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
	lasting []verifier // the newest first, at most lastingSlots
	oneTime []verifier // at most oneTimeSlots
}

// verifier is what a password can be checked against. The zero value fits none.
type verifier struct {
	credential id.Credential
	salt       [saltSize]byte
	hash       [hashSize]byte
	scram      *scramKeys // nil for one-time passwords and very old ones
	expires    time.Time  // zero: never
	oneTime    bool
}

func (v verifier) live(now time.Time) bool {
	return !v.credential.IsZero() && (v.expires.IsZero() || now.Before(v.expires))
}

// Authenticate lets a client in by name and password. It returns *AuthError
// when it may not send, any other error when the database did not answer.
//
//	the client has guessed too often                 TooMany
//	password wrong, or no such user                  BadCredentials
//	one-time password, not from a loopback address   NotFromHere
//	client in none of the user's networks            NotFromHere
//	user must use TLS, session in clear              TLSRequired
//	user not active                                  Inactive
//
// The first line that fits counts. Users are known from memory. A refusal for
// BadCredentials is never spoken from memory alone: it always has cost a look
// into the database and the same hashes, whether there is such a user or not, and
// 2 ms, in which what the database does for one more or less does not show.
func (a *Accounts) Authenticate(ctx context.Context, attempt AuthAttempt) (Principal, error) {
	until := time.Now().Add(refusalTime)
	p, err := a.authenticate(ctx, attempt)
	a.authenticated(p, err)
	return p, withhold(ctx, err, until)
}

const refusalTime = 2 * time.Millisecond

// withhold returns err, one of BadCredentials not before a certain time.
func withhold(ctx context.Context, err error, until time.Time) error {
	if refused, ok := errors.AsType[*AuthError](err); !ok || refused.Reason != BadCredentials {
		return err
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return err
}

// authenticated counts what Authenticate or an Exchange came to.
func (a *Accounts) authenticated(p Principal, err error) {
	a.metrics.auth.WithLabelValues(result(err)).Inc()
	if err == nil {
		a.Used(p, time.Now())
	}
}

func (a *Accounts) authenticate(ctx context.Context, attempt AuthAttempt) (Principal, error) {
	who := guessed{client: attempt.Client, name: shortName(attempt.Name)}
	if wait := a.guard.wait(who); wait > 0 {
		return Principal{}, &AuthError{Reason: TooMany, Name: who.name, Wait: wait}
	}
	r, found, err := a.find(ctx, attempt.Name, func(r *record) verifier { return a.match(r, attempt.Password) })
	if err != nil {
		return Principal{}, fmt.Errorf("authenticate: %w", err)
	}
	if found.credential.IsZero() {
		return Principal{}, a.guard.failed(who, a.guard.mark(attempt.Password), shown)
	}
	a.guard.passed(who)
	p := Principal{User: r.user, Credential: found.credential, OneTime: found.oneTime, TLS: attempt.TLS}
	if refused := p.admit(attempt.Client); refused != nil {
		refused.InClear = r.user.RequireTLS && !attempt.TLS
		return Principal{}, refused
	}
	return p, nil
}

// find looks for the verifier that fits, in memory and then in the database; the
// zero one when none does. What it asks and how often it calls match does not
// depend on whether there is such a user.
func (a *Accounts) find(ctx context.Context, name string, match func(*record) verifier) (*record, verifier, error) {
	r, _, _ := a.records.Get(name)
	found := match(r)
	if !found.credential.IsZero() {
		return r, found, nil
	}
	r, err := a.load(ctx, name)
	if err != nil {
		return nil, verifier{}, err
	}
	return r, match(r), nil
}

// admit says why a client that knows the password is not let in; nil when it is.
func (p Principal) admit(client netip.Addr) *AuthError {
	u := p.User
	switch {
	case p.OneTime && !client.Unmap().IsLoopback():
		return refuse(u, NotFromHere)
	case !p.OneTime && !u.MayComeFrom(client):
		return refuse(u, NotFromHere)
	case u.RequireTLS && !p.TLS:
		return refuse(u, TLSRequired)
	case !u.Active:
		return refuse(u, Inactive)
	}
	return nil
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
	case len(password) == passwordLength:
		candidates = slots[:lastingSlots]
		if r != nil {
			copy(candidates, r.lasting)
		}
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
// PasswordChanged, Spent, NotFromHere, TLSRequired or Inactive otherwise, and any
// other error when the database did not answer. Own changes count at once, those
// of other processes as soon as Invalidate is called.
func (a *Accounts) Current(ctx context.Context, p Principal, client netip.Addr) (Principal, error) {
	fresh, err := a.current(ctx, p, client)
	a.metrics.sessions.WithLabelValues(result(err)).Inc()
	return fresh, err
}

func (a *Accounts) current(ctx context.Context, p Principal, client netip.Addr) (Principal, error) {
	r, _, _ := a.records.Get(p.User.Name)
	if r == nil {
		var err error
		if r, err = a.load(ctx, p.User.Name); err != nil {
			return Principal{}, fmt.Errorf("check session of %s: %w", p.User.Name, err)
		}
	}
	switch {
	case r == nil:
		return Principal{}, refuse(p.User, Removed)
	case p.OneTime && !has(r.oneTime, p.Credential):
		return Principal{}, refuse(r.user, Spent)
	case !p.OneTime && !has(r.lasting, p.Credential):
		return Principal{}, refuse(r.user, PasswordChanged)
	}
	p.User = r.user
	if refused := p.admit(client); refused != nil {
		return Principal{}, refused
	}
	return p, nil
}

func has(verifiers []verifier, c id.Credential) bool {
	now := time.Now()
	return slices.ContainsFunc(verifiers, func(v verifier) bool { return v.credential == c && v.live(now) })
}

func refuse(u User, why Reason) *AuthError {
	return &AuthError{Reason: why, Name: u.Name, User: u.ID}
}

// shortName bounds what a client called itself before it goes into a log.
func shortName(s string) string { return s[:min(len(s), 64)] }
