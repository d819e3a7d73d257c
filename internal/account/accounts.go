package account

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"mittente/internal/db"
	"mittente/internal/id"
)

const (
	maxName = 100           // characters of the name of an account or of a list
	maxRate = 1_000_000_000 // recipients in an hour
)

// Bootstrap makes account 1 with list 1, both called "default", unless there is an account.
func (a *Accounts) Bootstrap(tx *db.Tx) error {
	var next int64
	if err := tx.Row(sqlNextAccount).Scan(&next); err != nil {
		return fmt.Errorf("look for an account: %w", err)
	}
	if next > 1 {
		return nil
	}
	first, err := a.AddAccount(tx, "default")
	if err != nil {
		return err
	}
	_, err = a.AddList(tx, first.Number, "default")
	return err
}

// AddAccount makes an account without lists. The name is 1 to 100 printable
// characters (else ErrInvalid), and no other account has it (else ErrConflict).
func (a *Accounts) AddAccount(tx *db.Tx, name string) (Account, error) {
	name, err := checkName("an account", name)
	if err != nil {
		return Account{}, err
	}
	if err := a.freeAccountName(tx, name, 0); err != nil {
		return Account{}, err
	}
	made := Account{ID: id.New[id.Account](), Name: name, CreatedAt: db.Now()}
	if err := tx.Row(sqlNextAccount).Scan(&made.Number); err != nil {
		return Account{}, fmt.Errorf("number account: %w", err)
	}
	if _, err := tx.Exec(sqlInsertAccount, made.ID, made.Number, made.Name, db.Micros(made.CreatedAt)); err != nil {
		return Account{}, fmt.Errorf("add account: %w", err)
	}
	return made, nil
}

// EditAccount is a change to an account; nil leaves a thing as it is.
type EditAccount struct {
	Name         *string
	SpeedPerHour *int64 // recipients; 0 lifts the limit
}

// EditAccount changes account number, by the rules of AddAccount, and returns it as it is now.
func (a *Accounts) EditAccount(tx *db.Tx, number int64, change EditAccount) (Account, error) {
	edited, err := a.Account(tx, number)
	if err != nil {
		return Account{}, err
	}
	if change.Name != nil {
		if edited.Name, err = checkName("an account", *change.Name); err != nil {
			return Account{}, err
		}
		if err := a.freeAccountName(tx, edited.Name, number); err != nil {
			return Account{}, err
		}
	}
	set(&edited.SpeedPerHour, change.SpeedPerHour)
	if err := checkRate("speed_per_hour", edited.SpeedPerHour); err != nil {
		return Account{}, err
	}
	if _, err := tx.Exec(sqlUpdateAccount, number, edited.Name, edited.SpeedPerHour); err != nil {
		return Account{}, fmt.Errorf("edit account %d: %w", number, err)
	}
	tx.OnCommit(func() { a.accounts.Drop(edited.ID) })
	return edited, nil
}

// Account returns the account with that number, or ErrNotFound.
func (a *Accounts) Account(tx *db.Tx, number int64) (Account, error) {
	found, err := scanAccount(tx.Row(sqlAccountByNumber, number))
	if errors.Is(err, sql.ErrNoRows) {
		return Account{}, fmt.Errorf("account %d %w: `account ls` shows all", number, ErrNotFound)
	}
	return found, err
}

// Accounts returns all accounts, by number.
func (a *Accounts) Accounts(tx *db.Tx) ([]Account, error) {
	return db.Collect(tx, scanAccount, sqlAccounts)
}

func (a *Accounts) freeAccountName(tx *db.Tx, name string, except int64) error {
	var n int
	if err := tx.Row(sqlAccountNamed, name, except).Scan(&n); err != nil {
		return fmt.Errorf("look for account %q: %w", name, err)
	}
	if n > 0 {
		return fmt.Errorf("%w: there is an account %q already: choose another name", ErrConflict, name)
	}
	return nil
}

// checkRate bounds a number of recipients in an hour.
func checkRate(what string, n int64) error {
	if n < 0 || n > maxRate {
		return fmt.Errorf("%w %s %d: want 0 (no limit) to %d recipients", ErrInvalid, what, n, maxRate)
	}
	return nil
}

// checkName returns name without spaces around it, or ErrInvalid.
func checkName(what, name string) (string, error) {
	name = strings.TrimSpace(name)
	printable := strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	if n := utf8.RuneCountInString(name); n == 0 || n > maxName || !printable || !utf8.ValidString(name) {
		return "", fmt.Errorf("%w name of %s: want 1 to %d printable characters", ErrInvalid, what, maxName)
	}
	return name, nil
}

func scanAccount(row db.Scanner) (Account, error) {
	var (
		a       Account
		created int64
	)
	err := row.Scan(&a.ID, &a.Number, &a.Name, &a.SpeedPerHour, &created)
	a.CreatedAt = db.Time(created)
	return a, err
}
