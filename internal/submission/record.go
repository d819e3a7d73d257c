package submission

import (
	"cmp"
	"context"
	"strconv"
	"sync"
	"time"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const (
	formVisitors   = 3  // different From under one reverse-path that make an online form (S18)
	manyAddresses  = 20 // different addresses of a user at one place, or of clients, that are one trouble
	maxTranscript  = 4 << 10
	quotaToldEvery = time.Minute
	maxRecorded    = 120 // refusals of a user in a minute that have an event of their own: one may take 5 KiB
	maxTold        = 10_000
)

// refuse records a refusal and what an operator should know of it, and returns
// it. That it can't be recorded, for the disk is full, makes it no less a refusal.
func (g *Gate) refuse(ctx context.Context, v visit, r Rejection) error {
	user := v.Principal.User
	r.User = user.Name
	if r.Reason == OverQuota && !g.told.first(user.ID, time.Now()) {
		return &r // every recipient is refused for minutes: one record of it will do
	}
	e := g.event(v.Session, event.Refusal{
		User:        user.Name,
		Address:     r.Address,
		Place:       string(r.Place),
		Reason:      string(r.Reason),
		ReversePath: v.env.From.String(),
		Recipients:  len(v.env.To),
	})
	said := r
	said.Event = e.ID
	v.say(e, &said)
	if g.record(ctx, e, r.alert(v)) {
		r.Event = e.ID
	}
	return &r
}

// record writes a refusal down, and raises its alerts. It reports whether the
// event is there: a program that is refused in a loop counts in its alerts only.
func (g *Gate) record(ctx context.Context, e event.Event, alerts ...alert.Alert) bool {
	recorded := g.told.another(e.Detail.Refusal.User, e.At)
	err := g.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		if recorded {
			if err := event.Append(tx, e); err != nil {
				return err
			}
		}
		for _, a := range alerts {
			if a.LastAt = e.At; recorded {
				a.Event = e.ID
			}
			if err := alert.Raise(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
	return err == nil && recorded
}

// event is a refusal in the record's words.
func (g *Gate) event(s Session, r event.Refusal) event.Event {
	r.Client = s.Client.Addr().Unmap().String()
	if s.Transcript != nil {
		t := s.Transcript()
		r.Transcript = t[max(0, len(t)-maxTranscript):]
	}
	return event.Event{
		ID: id.New[id.Event](), Account: s.Principal.User.Account, At: time.Now(), Kind: event.Refused, Detail: event.Detail{Refusal: &r},
	}
}

// say ends the record of a refusal with what the client is told.
func (s Session) say(e event.Event, refused error) {
	if s.Words == nil {
		return
	}
	r := e.Detail.Refusal
	r.Reply = s.Words(refused)
	if r.Transcript != "" {
		r.Transcript += "S: " + r.Reply + "\n"
	}
}

// alert is a refusal in the words of the alert centre (S18). It has nothing of
// the user but its name (S15).
func (r *Rejection) alert(v visit) alert.Alert {
	user := v.Principal.User
	a := alert.Alert{
		Account: user.Account, List: user.List, Kind: alert.SendingProblem, Key: user.Name + " " + string(r.Reason),
		Facts: map[string]string{
			"user": user.Name, "reason": string(r.Reason), "address": r.Address, "place": string(r.Place), "entry": r.Entry, "state": string(r.State),
			"reverse_path": v.env.From.String(), "client": v.Client.Addr().Unmap().String(), "helo": v.Helo,
		},
	}
	if n := len(v.env.To); n > 0 {
		a.Facts["recipients"] = strconv.Itoa(n)
	}
	if r.Cause != nil {
		a.Facts["cause"] = r.Cause.Error()
	}
	if r.Limit > 0 {
		a.Facts["quota_per_hour"] = strconv.FormatInt(r.Limit, 10)
	}
	if r.Address == "" {
		return a
	}
	a.Kind, a.Key = alert.SenderDomain, user.Name+" "+string(r.Place)+" "+addressKey(r.Address)
	a.Group = alert.Group{
		Key: user.Name + " " + string(r.Place) + " many addresses", Most: manyAddresses,
		Vary: "address", Facts: map[string]string{"pattern": "many_addresses"},
	}
	if r.Reason == FormVisitor {
		a.Group = alert.Group{
			Key: user.Name + " form under " + addressKey(v.env.From.String()), Most: formVisitors,
			Vary: "address", Facts: map[string]string{"pattern": "online_form"},
		}
	}
	return a
}

// addressKey folds what is one sender for S20.
func addressKey(text string) string {
	if a, err := mail.ParseAddress(text); err == nil {
		return a.Key()
	}
	return text
}

// AuthRefused records the refusal of an authentication where that is worth a
// record: a right password that did not help, and a client that guesses. Doors
// call it with what account.Authenticate or an Exchange returned.
func (g *Gate) AuthRefused(ctx context.Context, why *account.AuthError, s Session) {
	switch why.Reason {
	case account.BadCredentials:
		if why.Crossed {
			g.raise(ctx, guessing(why, s))
		}
	case account.NotFromHere, account.TLSRequired, account.Inactive:
		g.recordAuth(ctx, why, s)
	case account.TooMany, account.Unbound, account.Removed, account.PasswordChanged, account.Spent:
	}
}

// guessing is what an operator should know of a client that tries passwords. A
// name that is none of ours stays out of it: people put their password there.
func guessing(why *account.AuthError, s Session) alert.Alert {
	client := s.Client.Addr().Unmap().String()
	name := why.Name
	if !account.IsName(name) {
		name = ""
	}
	return alert.Alert{
		Kind: alert.Security, Key: "guessing from " + client,
		Facts: map[string]string{"pattern": "guessing", "client": client, "name": name, "helo": s.Helo},
		Group: manyClients("guessing from many clients"),
	}
}

// manyClients makes one entry of those that differ in the client only: whoever
// has a network of addresses fills no table.
func manyClients(key string) alert.Group {
	return alert.Group{Key: key, Most: manyAddresses, Vary: "client"}
}

// recordAuth records a refusal of credentials that are, or were, right.
func (g *Gate) recordAuth(ctx context.Context, why *account.AuthError, s Session) {
	user, err := g.deps.Accounts.UserByNameCached(ctx, why.Name)
	if err != nil {
		user = s.Principal.User // it was removed
	}
	s.Principal.User = user
	e := g.event(s, event.Refusal{User: cmp.Or(user.Name, why.Name), Reason: string(why.Reason)})
	s.say(e, why)
	g.record(ctx, e, authAlerts(why, s)...) // it is refused, recorded or not
}

// authAlerts is what an operator should know of it.
func authAlerts(why *account.AuthError, s Session) []alert.Alert {
	user := s.Principal.User
	client := s.Client.Addr().Unmap().String()
	a := alert.Alert{
		Account: user.Account, List: user.List,
		Facts: map[string]string{"user": user.Name, "reason": string(why.Reason), "client": client, "helo": s.Helo},
	}
	var all []alert.Alert
	if why.InClear {
		a.Kind, a.Key = alert.PasswordInClear, user.Name
		all = append(all, a)
	}
	switch why.Reason {
	case account.NotFromHere: // somebody has the password who should not
		a.Kind, a.Key, a.Group = alert.Security, user.Name+" from "+client, manyClients(user.Name+" from many clients")
		all = append(all, a)
	case account.Inactive:
		a.Kind, a.Key = alert.SendingProblem, user.Name+" "+string(why.Reason)
		all = append(all, a)
	case account.BadCredentials, account.TooMany, account.Unbound, account.TLSRequired,
		account.Removed, account.PasswordChanged, account.Spent:
	}
	return all
}

// raise notes a trouble that belongs to no event.
func (g *Gate) raise(ctx context.Context, a alert.Alert) {
	_ = g.deps.DB.Batch(ctx, func(tx *db.Tx) error { return alert.Raise(tx, a) }) // what can't be noted now is noted when it happens again
}

// told remembers which users were recorded to be over their quota lately, and how
// many refusals of each were recorded in the running minute.
type told struct {
	mu       sync.Mutex
	at       map[id.User]time.Time
	minute   int64
	recorded map[string]int
}

func newTold() *told { return &told{at: map[id.User]time.Time{}, recorded: map[string]int{}} }

// another reports whether one more refusal of the user is to be recorded.
func (t *told) another(user string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := minute(now); m != t.minute {
		t.minute = m
		clear(t.recorded)
	}
	t.recorded[user]++
	return t.recorded[user] <= maxRecorded
}

// first reports whether it is the first time within a minute.
func (t *told) first(user id.User, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, known := t.at[user]; known && now.Sub(last) < quotaToldEvery {
		return false
	}
	if len(t.at) >= maxTold {
		clear(t.at)
	}
	t.at[user] = now
	return true
}
