package account

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// List is an isolated environment inside an account: it has its own users,
// settings and statistics (requirement S1).
type List struct {
	ID            id.List    `json:"id"`
	Account       id.Account `json:"account"`
	AccountNumber int64      `json:"account_number"`
	Number        int64      `json:"number"` // from 1, unique in the installation
	Name          string     `json:"name"`
	CreatedAt     time.Time  `json:"created_at"`
	Settings
}

// Settings are what a list says of its mail.
type Settings struct {
	MinTLS     string          `json:"min_tls"`         // to the next hop: TLSMay, TLSEncrypt or TLSVerify at least
	Retry      []time.Duration `json:"retry,omitempty"` // waits between attempts, whole seconds, the last one repeats; empty: the house's
	Lifetime   time.Duration   `json:"lifetime"`        // from acceptance to giving up, 1 min to 7 d; 0: the house's
	DelayAfter time.Duration   `json:"delay_after"`     // from acceptance to the report of a delay, 1 min to 7 d; 0: the house's
	Paused     bool            `json:"paused"`          // nothing of it is attempted until it is started again (M8)
	Lang       string          `json:"lang"`            // of letters to the owners of addresses: "it" or "en"
}

// The values of Settings.MinTLS.
const (
	TLSMay     = "may"     // in clear where the next hop offers no TLS
	TLSEncrypt = "encrypt" // never in clear
	TLSVerify  = "verify"  // only to a next hop with a valid certificate
)

// Bounds of a list's schedule.
const (
	maxRetries  = 20
	minRetry    = time.Second
	maxRetry    = 24 * time.Hour
	minLifetime = time.Minute
	maxLifetime = 7 * 24 * time.Hour
)

// EditList is a change to a list; nil leaves a thing as it is.
type EditList struct {
	Name       *string
	MinTLS     *string
	Retry      *[]time.Duration
	Lifetime   *time.Duration
	DelayAfter *time.Duration
	Paused     *bool
	Lang       *string
}

// AddList makes a list in an account. The name is 1 to 100 printable characters
// (else ErrInvalid), and no other list of the account has it (else ErrConflict).
func (a *Accounts) AddList(tx *db.Tx, account int64, name string) (List, error) {
	owner, err := a.Account(tx, account)
	if err != nil {
		return List{}, err
	}
	made := List{
		ID: id.New[id.List](), Account: owner.ID, AccountNumber: owner.Number, CreatedAt: db.Now(),
		Settings: Settings{MinTLS: TLSMay, Lang: "en"},
	}
	if made.Name, err = checkName("a list", name); err != nil {
		return List{}, err
	}
	if err := a.freeListName(tx, made); err != nil {
		return List{}, err
	}
	if err := tx.Row(sqlNextList).Scan(&made.Number); err != nil {
		return List{}, fmt.Errorf("number list: %w", err)
	}
	if _, err := tx.Exec(sqlInsertList, made.ID, made.Account, made.Number, made.Name, db.Micros(made.CreatedAt)); err != nil {
		return List{}, fmt.Errorf("add list: %w", err)
	}
	return made, nil
}

// EditList changes list number, by the rules of AddList and those named at
// Settings (else ErrInvalid), and returns it as it is now.
func (a *Accounts) EditList(tx *db.Tx, number int64, change EditList) (List, error) {
	l, err := a.List(tx, number)
	if err != nil {
		return List{}, err
	}
	if change.Name != nil {
		if l.Name, err = checkName("a list", *change.Name); err != nil {
			return List{}, err
		}
		if err := a.freeListName(tx, l); err != nil {
			return List{}, err
		}
	}
	set(&l.MinTLS, change.MinTLS)
	set(&l.Retry, change.Retry)
	set(&l.Lifetime, change.Lifetime)
	set(&l.DelayAfter, change.DelayAfter)
	set(&l.Paused, change.Paused)
	set(&l.Lang, change.Lang)
	if err := l.validate(); err != nil {
		return List{}, err
	}
	if _, err := tx.Exec(sqlUpdateList, number, l.Name, l.MinTLS, formatSteps(l.Retry),
		seconds(l.Lifetime), seconds(l.DelayAfter), l.Paused, l.Lang); err != nil {
		return List{}, fmt.Errorf("edit list %d: %w", number, err)
	}
	tx.OnCommit(func() { a.lists.Drop(l.ID) })
	return l, nil
}

func (s Settings) validate() error {
	if !slices.Contains([]string{TLSMay, TLSEncrypt, TLSVerify}, s.MinTLS) {
		return fmt.Errorf("%w min_tls %q: want %s, %s or %s", ErrInvalid, s.MinTLS, TLSMay, TLSEncrypt, TLSVerify)
	}
	if s.Lang != "it" && s.Lang != "en" {
		return fmt.Errorf("%w lang %q: want it or en", ErrInvalid, s.Lang)
	}
	if len(s.Retry) > maxRetries {
		return fmt.Errorf("%w retry: %d steps, want at most %d", ErrInvalid, len(s.Retry), maxRetries)
	}
	for _, step := range s.Retry {
		if step < minRetry || step > maxRetry || step%time.Second != 0 {
			return fmt.Errorf("%w retry %s: want whole seconds, %s to %s", ErrInvalid, step, minRetry, maxRetry)
		}
	}
	for name, d := range map[string]time.Duration{"lifetime": s.Lifetime, "delay_after": s.DelayAfter} {
		if d != 0 && (d < minLifetime || d > maxLifetime || d%time.Second != 0) {
			return fmt.Errorf("%w %s %s: want 0 (the house's), or whole seconds, %s to %s", ErrInvalid, name, d, minLifetime, maxLifetime)
		}
	}
	return nil
}

// List returns the list with that number, or ErrNotFound.
func (a *Accounts) List(tx *db.Tx, number int64) (List, error) {
	found, err := scanList(tx.Row(sqlListByNumber, number))
	if errors.Is(err, sql.ErrNoRows) {
		return List{}, fmt.Errorf("list %d %w: `list ls` shows all", number, ErrNotFound)
	}
	return found, err
}

// Lists returns the lists of an account, or of all when account is 0, by number.
func (a *Accounts) Lists(tx *db.Tx, account int64) ([]List, error) {
	if account != 0 {
		if _, err := a.Account(tx, account); err != nil {
			return nil, err
		}
	}
	return db.Collect(tx, scanList, sqlLists, account)
}

func (a *Accounts) freeListName(tx *db.Tx, l List) error {
	var n int
	if err := tx.Row(sqlListNamed, l.Account, l.Name, l.Number).Scan(&n); err != nil {
		return fmt.Errorf("look for list %q: %w", l.Name, err)
	}
	if n > 0 {
		return fmt.Errorf("%w: account %d has a list %q already: choose another name", ErrConflict, l.AccountNumber, l.Name)
	}
	return nil
}

func scanList(row db.Scanner) (List, error) {
	var (
		l                             List
		created, lifetime, delayAfter int64
		retry                         string
	)
	err := row.Scan(&l.ID, &l.Account, &l.AccountNumber, &l.Number, &l.Name, &created,
		&l.MinTLS, &retry, &lifetime, &delayAfter, &l.Paused, &l.Lang)
	if err != nil {
		return List{}, err
	}
	l.CreatedAt = db.Time(created)
	l.Lifetime, l.DelayAfter = time.Duration(lifetime)*time.Second, time.Duration(delayAfter)*time.Second
	l.Retry, err = parseSteps(retry)
	return l, err
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// formatSteps writes a schedule as seconds with spaces between.
func formatSteps(steps []time.Duration) string {
	words := make([]string, len(steps))
	for i, d := range steps {
		words[i] = strconv.FormatInt(seconds(d), 10)
	}
	return strings.Join(words, " ")
}

func parseSteps(text string) ([]time.Duration, error) {
	var steps []time.Duration
	for word := range strings.FieldsSeq(text) {
		n, err := strconv.ParseInt(word, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("the stored schedule of a list is damaged: %w", err)
		}
		steps = append(steps, time.Duration(n)*time.Second)
	}
	return steps, nil
}
