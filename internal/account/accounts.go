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

const maxName = 100 // characters of the name of an account or of a list

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

// RenameAccount gives account number another name, by the rules of AddAccount.
func (a *Accounts) RenameAccount(tx *db.Tx, number int64, name string) (Account, error) {
	renamed, err := a.Account(tx, number)
	if err != nil {
		return Account{}, err
	}
	if renamed.Name, err = checkName("an account", name); err != nil {
		return Account{}, err
	}
	if err := a.freeAccountName(tx, renamed.Name, number); err != nil {
		return Account{}, err
	}
	if _, err := tx.Exec(sqlRenameAccount, number, renamed.Name); err != nil {
		return Account{}, fmt.Errorf("rename account %d: %w", number, err)
	}
	return renamed, nil
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

// AddList makes a list in an account. The name is 1 to 100 printable characters
// (else ErrInvalid), and no other list of the account has it (else ErrConflict).
func (a *Accounts) AddList(tx *db.Tx, account int64, name string) (List, error) {
	owner, err := a.Account(tx, account)
	if err != nil {
		return List{}, err
	}
	made := List{ID: id.New[id.List](), Account: owner.ID, AccountNumber: owner.Number, CreatedAt: db.Now()}
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

// RenameList gives list number another name, by the rules of AddList.
func (a *Accounts) RenameList(tx *db.Tx, number int64, name string) (List, error) {
	renamed, err := a.List(tx, number)
	if err != nil {
		return List{}, err
	}
	if renamed.Name, err = checkName("a list", name); err != nil {
		return List{}, err
	}
	if err := a.freeListName(tx, renamed); err != nil {
		return List{}, err
	}
	if _, err := tx.Exec(sqlRenameList, number, renamed.Name); err != nil {
		return List{}, fmt.Errorf("rename list %d: %w", number, err)
	}
	return renamed, nil
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
	err := row.Scan(&a.ID, &a.Number, &a.Name, &created)
	a.CreatedAt = db.Time(created)
	return a, err
}

func scanList(row db.Scanner) (List, error) {
	var (
		l       List
		created int64
	)
	err := row.Scan(&l.ID, &l.Account, &l.AccountNumber, &l.Number, &l.Name, &created)
	l.CreatedAt = db.Time(created)
	return l, err
}
