package account

import (
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

const maxNote = 2000 // characters

// NewUser is what one chooses of a new user; name and password are not chosen (S4).
type NewUser struct {
	List       int64         // number of the list
	Active     bool          // takes a verified sender to be effective (S13)
	Priority   mail.Priority // 0 is PriorityNormal
	Note       string        // at most 2,000 characters
	RequireTLS bool

	Networks     []netip.Prefix // at most 100, from which alone it may be used; empty: from anywhere
	QuotaPerHour int64          // recipients; 0: none
	SpeedPerHour int64          // recipients; 0: no limit
}

// Edit is a change to a user; nil leaves a thing as it is. All but the name may
// change (S5). Whether Active may be set is the caller's to check (S13).
type Edit struct {
	List       *int64 // another list of the same account
	Active     *bool
	Priority   *mail.Priority
	Note       *string
	RequireTLS *bool

	Networks     *[]netip.Prefix
	QuotaPerHour *int64
	SpeedPerHour *int64
}

// Filter chooses users; the zero value chooses all that are not removed.
type Filter struct {
	Account int64 // number; 0: any
	List    int64 // number; 0: any
	Removed bool  // the removed ones instead
}

// AddUser makes a user with a password, which can't be read again afterwards
// (S10). The name is sACCOUNT_N with the next N of the account.
func (a *Accounts) AddUser(tx *db.Tx, wanted NewUser) (User, string, error) {
	list, err := a.List(tx, wanted.List)
	if err != nil {
		return User{}, "", err
	}
	u := User{
		ID: id.New[id.User](), Account: list.Account, AccountNumber: list.AccountNumber, List: list.ID, ListNumber: list.Number,
		Active: wanted.Active, Priority: wanted.Priority, Note: wanted.Note, RequireTLS: wanted.RequireTLS,
		Networks: normalNetworks(wanted.Networks), QuotaPerHour: wanted.QuotaPerHour, SpeedPerHour: wanted.SpeedPerHour, CreatedAt: db.Now(),
	}
	if u.Priority == 0 {
		u.Priority = mail.PriorityNormal
	}
	u.PasswordAt = u.CreatedAt
	if err := u.validate(); err != nil {
		return User{}, "", err
	}
	var number int64
	if err := tx.Row(sqlNextUser, u.Account).Scan(&number); err != nil {
		return User{}, "", fmt.Errorf("name user: %w", err)
	}
	u.Name = fmt.Sprintf("s%d_%d", u.AccountNumber, number)
	if _, err := tx.Exec(sqlInsertUser, u.ID, u.Account, u.List, number, u.Name,
		u.Active, int64(u.Priority), u.Note, u.RequireTLS, formatNetworks(u.Networks), u.QuotaPerHour, u.SpeedPerHour,
		db.Micros(u.CreatedAt)); err != nil {
		return User{}, "", fmt.Errorf("add user %s: %w", u.Name, err)
	}
	password, err := a.addCredential(tx, u, draft{length: passwordLength})
	if err != nil {
		return User{}, "", err
	}
	tx.OnCommit(func() { a.records.Drop(u.Name) })
	return u, password, nil
}

// IsName reports whether a text has the form of a user's name, sACCOUNT_N.
func IsName(text string) bool {
	rest, ok := strings.CutPrefix(text, "s")
	account, number, both := strings.Cut(rest, "_")
	return ok && both && len(text) <= 32 && isDigits(account) && isDigits(number)
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// EditUser changes a user and returns it as it is now.
func (a *Accounts) EditUser(tx *db.Tx, name string, change Edit) (User, error) {
	u, err := a.UserByName(tx, name)
	if err != nil {
		return User{}, err
	}
	if err := a.move(tx, &u, change.List); err != nil {
		return User{}, err
	}
	set(&u.Active, change.Active)
	set(&u.Priority, change.Priority)
	set(&u.Note, change.Note)
	set(&u.RequireTLS, change.RequireTLS)
	set(&u.QuotaPerHour, change.QuotaPerHour)
	set(&u.SpeedPerHour, change.SpeedPerHour)
	if change.Networks != nil {
		u.Networks = normalNetworks(*change.Networks)
	}
	if err := u.validate(); err != nil {
		return User{}, err
	}
	if _, err := tx.Exec(sqlUpdateUser, u.ID, u.List, u.Active, int64(u.Priority), u.Note, u.RequireTLS,
		formatNetworks(u.Networks), u.QuotaPerHour, u.SpeedPerHour); err != nil {
		return User{}, fmt.Errorf("edit user %s: %w", name, err)
	}
	tx.OnCommit(func() { a.records.Drop(name) })
	return u, nil
}

// move puts u on another list of its account; its name carries the account's number.
func (a *Accounts) move(tx *db.Tx, u *User, list *int64) error {
	if list == nil {
		return nil
	}
	l, err := a.List(tx, *list)
	if err != nil {
		return err
	}
	if l.Account != u.Account {
		return fmt.Errorf("%w list %d: it belongs to account %d, and %s to account %d: make a new user there",
			ErrInvalid, l.Number, l.AccountNumber, u.Name, u.AccountNumber)
	}
	u.List, u.ListNumber = l.ID, l.Number
	return nil
}

// RemoveUser takes a user and its passwords away. Mail already accepted is
// still delivered; the name stays in the history and is not used again (S6).
func (a *Accounts) RemoveUser(tx *db.Tx, name string) error {
	u, err := a.UserByName(tx, name)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(sqlRemoveUser, u.ID, db.Micros(db.Now())); err != nil {
		return fmt.Errorf("remove user %s: %w", name, err)
	}
	if _, err := tx.Exec(sqlDeleteCredentials, u.ID); err != nil {
		return fmt.Errorf("remove passwords of %s: %w", name, err)
	}
	tx.OnCommit(func() { a.records.Drop(name) })
	return nil
}

// UserByName returns a user that is not removed, or ErrNotFound.
func (a *Accounts) UserByName(tx *db.Tx, name string) (User, error) {
	u, err := scanUser(tx.Row(sqlUserByName, name))
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, fmt.Errorf("user %q %w: `user ls` shows all", shortName(name), ErrNotFound)
	}
	return u, err
}

// UserByID returns a user, removed or not, or ErrNotFound.
func (a *Accounts) UserByID(tx *db.Tx, user id.User) (User, error) {
	u, err := scanUser(tx.Row(sqlUserByID, user))
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, fmt.Errorf("user %s %w", user, ErrNotFound)
	}
	return u, err
}

// Users returns the users that filter chooses, by account and N; ErrNotFound
// when there is no such account or list.
func (a *Accounts) Users(tx *db.Tx, filter Filter) ([]User, error) {
	if filter.Account != 0 {
		if _, err := a.Account(tx, filter.Account); err != nil {
			return nil, err
		}
	}
	if filter.List != 0 {
		if _, err := a.List(tx, filter.List); err != nil {
			return nil, err
		}
	}
	return db.Collect(tx, scanUser, sqlUsers, filter.Account, filter.List, filter.Removed)
}

func (u User) validate() error {
	if err := u.Priority.Validate(); err != nil {
		return fmt.Errorf("%w %w", ErrInvalid, err)
	}
	if utf8.RuneCountInString(u.Note) > maxNote || !utf8.ValidString(u.Note) {
		return fmt.Errorf("%w note: want at most %d characters", ErrInvalid, maxNote)
	}
	if strings.ContainsFunc(u.Note, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) }) {
		return fmt.Errorf("%w note: it has control characters", ErrInvalid)
	}
	if err := checkNetworks(u.Networks); err != nil {
		return err
	}
	if err := checkRate("quota_per_hour", u.QuotaPerHour); err != nil {
		return err
	}
	return checkRate("speed_per_hour", u.SpeedPerHour)
}

func scanUser(row db.Scanner) (User, error) {
	var (
		u                            User
		created, password, used, rem int64
		networks                     string
	)
	err := row.Scan(&u.ID, &u.Account, &u.AccountNumber, &u.List, &u.ListNumber, &u.Name, &u.Active, &u.Priority, &u.Note,
		&u.RequireTLS, &networks, &u.QuotaPerHour, &u.SpeedPerHour, &created, &password, &used, &rem)
	if err != nil {
		return User{}, err
	}
	u.CreatedAt, u.PasswordAt, u.LastUsedAt, u.RemovedAt = db.Time(created), db.Time(password), db.Time(used), db.Time(rem)
	u.Networks, err = ParseNetworks(networks)
	return u, err
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}
