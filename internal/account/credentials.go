package account

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

const (
	// OneTimeTTL is how long a one-time password can be used at most.
	OneTimeTTL = time.Minute

	// MaxOverlap is how long an old password may be good beside the new one.
	MaxOverlap = 30 * 24 * time.Hour

	lastingSlots = 2 // lasting passwords of a user that may be good at the same time
	oneTimeSlots = 4 // one-time passwords of a user that may wait at the same time
)

// draft is a password that is to be made.
type draft struct {
	length  int
	oneTime bool
	expires time.Time // zero: never
}

// Credential is what there is to know of a user's password, beside itself.
type Credential struct {
	ID         id.Credential `json:"id"`
	CreatedAt  time.Time     `json:"created_at"`
	ExpiresAt  time.Time     `json:"expires_at,omitzero"`   // of an old one that overlaps with the new; zero: never
	LastUsedAt time.Time     `json:"last_used_at,omitzero"` // to some seconds; zero: never
	SCRAM      bool          `json:"scram"`                 // false for one from before there was SCRAM: regenerate it
}

// Credentials returns the passwords of a user that are good now, the newest
// first: one, or two while they overlap.
func (a *Accounts) Credentials(tx *db.Tx, name string) ([]Credential, error) {
	u, err := a.UserByName(tx, name)
	if err != nil {
		return nil, err
	}
	return db.Collect(tx, scanCredential, sqlCredentials, u.ID, db.Micros(db.Now()), false)
}

func scanCredential(row db.Scanner) (Credential, error) {
	var c Credential
	var created, expires, used int64
	err := row.Scan(&c.ID, &created, &expires, &used, &c.SCRAM)
	c.CreatedAt, c.ExpiresAt, c.LastUsedAt = db.Time(created), db.Time(expires), db.Time(used)
	return c, err
}

// SetPassword generates another password for a user (S9, S11), which can't be
// read again afterwards. With no overlap the old one is refused from the commit
// on, in open sessions from their next MAIL on; otherwise it is good for that
// long still, at most MaxOverlap (else ErrInvalid). One that overlapped with the
// old one ends now: there are never more than two.
func (a *Accounts) SetPassword(tx *db.Tx, name string, overlap time.Duration) (string, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return "", fmt.Errorf("%w overlap of passwords: %s: want 0 to %s", ErrInvalid, overlap, MaxOverlap)
	}
	u, err := a.UserByName(tx, name)
	if err != nil {
		return "", err
	}
	if err := endPassword(tx, u, overlap); err != nil {
		return "", err
	}
	if _, err := tx.Exec(sqlRegenerated, u.ID, db.Micros(db.Now())); err != nil {
		return "", fmt.Errorf("date password of %s: %w", name, err)
	}
	password, err := a.addCredential(tx, u, draft{length: passwordLength})
	if err != nil {
		return "", err
	}
	tx.OnCommit(func() { a.records.Drop(name) })
	return password, nil
}

// endPassword ends the lasting password of a user, now or after overlap.
func endPassword(tx *db.Tx, u User, overlap time.Duration) error {
	remove := sqlDeleteLasting
	if overlap > 0 {
		remove = sqlDeleteOverlapping
	}
	if _, err := tx.Exec(remove, u.ID, false); err != nil {
		return fmt.Errorf("remove password of %s: %w", u.Name, err)
	}
	if _, err := tx.Exec(sqlEndLasting, u.ID, false, db.Micros(db.Now().Add(overlap))); err != nil {
		return fmt.Errorf("end password of %s: %w", u.Name, err)
	}
	return nil
}

// OneTime generates a password for one test message, good for ttl (at most
// OneTimeTTL) and for clients on loopback addresses. An inactive user may have
// one: its refusal is what the test shows. ErrConflict when several wait for
// their use already. The audit log is the caller's to write.
func (a *Accounts) OneTime(tx *db.Tx, name string, ttl time.Duration) (string, error) {
	if ttl <= 0 || ttl > OneTimeTTL {
		return "", fmt.Errorf("%w life of a one-time password: %s: want at most %s", ErrInvalid, ttl, OneTimeTTL)
	}
	u, err := a.UserByName(tx, name)
	if err != nil {
		return "", err
	}
	at := db.Now()
	if _, err := tx.Exec(sqlDeleteOver, u.ID, true, db.Micros(at)); err != nil {
		return "", fmt.Errorf("remove old one-time passwords of %s: %w", name, err)
	}
	var waiting int
	if err := tx.Row(sqlCountOneTime, u.ID, true).Scan(&waiting); err != nil {
		return "", fmt.Errorf("count one-time passwords of %s: %w", name, err)
	}
	if waiting >= oneTimeSlots {
		return "", fmt.Errorf("%w: %d tests as %s are under way: try again in a minute", ErrConflict, waiting, name)
	}
	password, err := a.addCredential(tx, u, draft{length: oneTimeLength, oneTime: true, expires: at.Add(ttl)})
	if err != nil {
		return "", err
	}
	tx.OnCommit(func() { a.records.Drop(name) })
	return password, nil
}

// Spend uses a one-time password up, in the transaction that accepts its
// message; it does nothing for a lasting one. It returns *AuthError with Spent
// when the password had its message or its time: the message must not be accepted.
func (a *Accounts) Spend(tx *db.Tx, p Principal) error {
	if !p.OneTime {
		return nil
	}
	n, err := tx.Exec(sqlSpend, p.Credential, db.Micros(db.Now()), true)
	if err != nil {
		return fmt.Errorf("spend one-time password of %s: %w", p.User.Name, err)
	}
	if n == 0 {
		return refuse(p.User, Spent)
	}
	tx.OnCommit(func() { a.records.Drop(p.User.Name) })
	return nil
}

// addCredential generates a password and stores what it can be checked against.
func (a *Accounts) addCredential(tx *db.Tx, u User, c draft) (string, error) {
	password := generatePassword(c.length)
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails: the program ends when the system has no randomness
	hash := hashPassword(salt, password)
	var stored, server []byte
	if !c.oneTime {
		keys := deriveScram(a.scramSalt(u.Name), password)
		stored, server = keys.stored[:], keys.server[:]
	}
	if _, err := tx.Exec(sqlInsertCredential, id.New[id.Credential](), u.Account, u.ID, salt[:], hash[:], stored, server,
		c.oneTime, db.Micros(db.Now()), db.Micros(c.expires)); err != nil {
		return "", fmt.Errorf("store password of %s: %w", u.Name, err)
	}
	return password, nil
}

// load reads a user with its passwords and keeps it in memory; nil when there
// is no such user. It asks the same of the database whether there is or not.
func (a *Accounts) load(ctx context.Context, name string) (*record, error) {
	_, generation, _ := a.records.Get(name)
	var r *record
	err := a.db.View(ctx, func(tx *db.Tx) error {
		u, missing, err := a.userOrAnother(tx, name)
		if err != nil {
			return err
		}
		verifiers, err := db.Collect(tx, scanVerifier, sqlVerifiers, u.ID, db.Micros(db.Now()))
		if err != nil || missing {
			return err
		}
		r = newRecord(u, verifiers)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load user: %w", err)
	}
	if r != nil {
		a.records.Put(name, r, 1, generation)
	}
	return r, nil
}

// userOrAnother returns the user of that name. When it is missing it returns
// some other, so that one look-up finds something and one does not either way:
// how long it takes is not to tell who is there.
func (a *Accounts) userOrAnother(tx *db.Tx, name string) (u User, missing bool, err error) {
	u, err = scanUser(tx.Row(sqlUserByName, name))
	missing = errors.Is(err, sql.ErrNoRows)
	if err != nil && !missing {
		return User{}, false, err
	}
	other, err := scanUser(tx.Row(sqlAnyUser, missing))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return User{}, false, err
	}
	if missing {
		u = other
	}
	return u, missing, nil
}

func newRecord(u User, verifiers []verifier) *record {
	r := &record{user: u}
	for _, v := range verifiers {
		switch {
		case !v.oneTime && len(r.lasting) < lastingSlots:
			r.lasting = append(r.lasting, v)
		case v.oneTime && len(r.oneTime) < oneTimeSlots:
			r.oneTime = append(r.oneTime, v)
		}
	}
	return r
}

func scanVerifier(row db.Scanner) (verifier, error) {
	var (
		v                          verifier
		salt, hash, stored, server []byte
		expires                    int64
	)
	if err := row.Scan(&v.credential, &salt, &hash, &expires, &v.oneTime, &stored, &server); err != nil {
		return verifier{}, err
	}
	if copy(v.salt[:], salt) != saltSize || copy(v.hash[:], hash) != hashSize {
		return verifier{}, errDamaged
	}
	if stored != nil {
		var k scramKeys
		if copy(k.stored[:], stored) != hashSize || copy(k.server[:], server) != hashSize {
			return verifier{}, errDamaged
		}
		v.scram = &k
	}
	v.expires = db.Time(expires)
	return v, nil
}

var errDamaged = errors.New("a stored password verifier is damaged: regenerate the password")
