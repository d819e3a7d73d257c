package letter

import (
	"fmt"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const (
	askGap    = time.Minute    // between two letters of an account to one address
	askDay    = 24 * time.Hour // in which there are
	askPerDay = 5              // at most
)

// WaitError says that no letter may be sent to an address now. It wraps account.ErrConflict.
type WaitError struct {
	Address mail.Address
	Until   time.Time
	Refused bool // by its owner; otherwise there were too many letters
}

// Error says until when, and why.
func (e *WaitError) Error() string {
	until := e.Until.UTC().Format("2006-01-02 15:04 UTC")
	if e.Refused {
		return fmt.Sprintf("the owner of %s has refused: no mail may ask again before %s", e.Address.Display(), until)
	}
	return fmt.Sprintf("%s was asked a short time ago (at most %d times a day, a minute apart): not again before %s", e.Address.Display(), askPerDay, until)
}

// Unwrap returns account.ErrConflict.
func (e *WaitError) Unwrap() error { return account.ErrConflict }

// Ask has a letter sent that asks, instead of those before it that asked the
// same: their links are void. *WaitError when none may be sent now.
func (ls *Letters) Ask(tx *db.Tx, owner id.Account, q Question, by Asking) error {
	if err := ls.mayAsk(tx, owner, q.To); err != nil {
		return err
	}
	if _, err := tx.Exec(sqlReplace, owner, q.To.Key(), string(q.Domain), db.Micros(db.Now())); err != nil {
		return fmt.Errorf("replace letters to %s: %w", q.To, err)
	}
	return ls.Post(tx, owner, Ask, q, by)
}

// mayAsk returns a *WaitError when the owner of an address must be left alone.
func (ls *Letters) mayAsk(tx *db.Tx, owner id.Account, a mail.Address) error {
	until, err := ls.RestUntil(tx, owner, a)
	switch {
	case err != nil:
		return err
	case !until.IsZero():
		return &WaitError{Address: a, Until: until, Refused: true}
	}
	now := db.Now()
	asked, err := db.Collect(tx, scanTime, sqlAsked, owner, a.Key(), db.Micros(now.Add(-askDay)), askPerDay)
	if err != nil {
		return fmt.Errorf("letters to %s: %w", a, err)
	}
	var wait time.Time
	if len(asked) > 0 {
		wait = asked[0].Add(askGap)
	}
	if len(asked) == askPerDay {
		if next := asked[len(asked)-1].Add(askDay); next.After(wait) {
			wait = next
		}
	}
	if wait.After(now) {
		return &WaitError{Address: a, Until: wait}
	}
	return nil
}

// Rest has the owner of an address get no letter of the account for 90 days.
func (ls *Letters) Rest(tx *db.Tx, owner id.Account, a mail.Address) error {
	if _, err := tx.Exec(sqlSetRefusal, owner, a.Key(), db.Micros(db.Now().Add(RestAfterNo))); err != nil {
		return fmt.Errorf("note refusal: %w", err)
	}
	return nil
}

// RestUntil returns until when an account may not ask the owner of an address;
// zero when it may.
func (ls *Letters) RestUntil(tx *db.Tx, owner id.Account, a mail.Address) (time.Time, error) {
	rests, err := ls.rests(tx, owner, a.Key())
	return rests[a.Key()], err
}

func (ls *Letters) rests(tx *db.Tx, owner id.Account, key string) (map[string]time.Time, error) {
	type rest struct {
		key   string
		until time.Time
	}
	all, err := db.Collect(tx, func(row db.Scanner) (rest, error) {
		var r rest
		var until int64
		err := row.Scan(&r.key, &until)
		r.until = db.Time(until)
		return r, err
	}, sqlRefusals, owner, key, db.Micros(db.Now()))
	rests := map[string]time.Time{}
	for _, r := range all {
		rests[r.key] = r.until
	}
	if err != nil {
		return nil, fmt.Errorf("refusals: %w", err)
	}
	return rests, nil
}

// Standing is how far the asking of an address has come.
type Standing struct {
	Open      bool      // a letter waits to be sent or answered
	AskedAt   time.Time // when the last letter left; zero: none has
	ExpiresAt time.Time // until when its link can be answered; zero: it can't
	RestUntil time.Time // until when nobody may ask again; zero: somebody may
}

// Standings returns how far the asking of an account's addresses has come, by
// mail.Address.Key; of one of them, or of all when key is empty.
func (ls *Letters) Standings(tx *db.Tx, owner id.Account, key string) (map[string]Standing, error) {
	all, err := db.Collect(tx, scanStanding, sqlStanding, owner, key)
	if err != nil {
		return nil, fmt.Errorf("letters: %w", err)
	}
	standings := map[string]Standing{}
	for _, s := range all { // the last one counts
		if before := standings[s.key]; s.AskedAt.IsZero() {
			s.AskedAt = before.AskedAt
		}
		standings[s.key] = s.Standing
	}
	rests, err := ls.rests(tx, owner, key)
	for key, until := range rests {
		s := standings[key]
		s.RestUntil = until
		standings[key] = s
	}
	return standings, err
}

type keyed struct {
	key string
	Standing
}

func scanStanding(row db.Scanner) (keyed, error) {
	var (
		s             keyed
		due           bool
		sent, expires int64
		outcome       Outcome
	)
	err := row.Scan(&s.key, &due, &sent, &expires, &outcome)
	s.AskedAt = db.Time(sent)
	if outcome == "" && !due {
		s.ExpiresAt = db.Time(expires)
	}
	s.Open = outcome == "" && (due || s.ExpiresAt.After(db.Now()))
	return s, err
}

// Sent notes that a letter of Due is on its way, in the transaction that puts it
// there. ErrConflict when it is not to be sent any more.
func (ls *Letters) Sent(tx *db.Tx, l Letter) error {
	n, err := tx.Exec(sqlSent, l.ID[:], db.Micros(db.Now()), db.Micros(l.ExpiresAt))
	if err != nil {
		return fmt.Errorf("note letter: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("%w: the letter to %s is not to be sent any more", account.ErrConflict, l.Address.Display())
	}
	return nil
}

// WithdrawAddress voids all letters of an account about an address alone: their
// links are unknown from now on.
func (ls *Letters) WithdrawAddress(tx *db.Tx, owner id.Account, a mail.Address) error {
	if _, err := tx.Exec(sqlWithdrawAddress, owner, a.Key(), db.Micros(db.Now())); err != nil {
		return fmt.Errorf("withdraw letters to %s: %w", a, err)
	}
	return nil
}

// WithdrawDomain voids all letters of an account about a domain as a whole.
func (ls *Letters) WithdrawDomain(tx *db.Tx, owner id.Account, domain mail.Domain) error {
	if _, err := tx.Exec(sqlWithdrawDomain, owner, string(domain), db.Micros(db.Now())); err != nil {
		return fmt.Errorf("withdraw letters about %s: %w", domain, err)
	}
	return nil
}

// WithdrawUnsent voids letters that have not left and ask for addresses at a
// domain, as it vouches for them now.
func (ls *Letters) WithdrawUnsent(tx *db.Tx, owner id.Account, domain mail.Domain) error {
	unsent, err := db.Collect(tx, scan, sqlUnsent, owner)
	if err != nil {
		return fmt.Errorf("letters that are due: %w", err)
	}
	for _, l := range unsent {
		if l.Address.Domain() == domain {
			if err := ls.Close(tx, l, OutcomeWithdrawn); err != nil {
				return err
			}
		}
	}
	return nil
}

func scanTime(row db.Scanner) (time.Time, error) {
	var at int64
	err := row.Scan(&at)
	return db.Time(at), err
}
