// Package account knows who may use the relay: accounts, their lists, and SMTP+ users with their passwords.
package account

import (
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/cache"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// Errors of everything that reads or changes accounts, lists and users. They
// come wrapped in a text that says what to do. Room sender uses them as well.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict")
	ErrInvalid  = errors.New("invalid")
)

// Account is a customer of the relay; everything else belongs to one.
type Account struct {
	ID           id.Account `json:"id"`
	Number       int64      `json:"number"` // from 1, unique in the installation
	Name         string     `json:"name"`
	SpeedPerHour int64      `json:"speed_per_hour"` // recipients that leave in an hour (M10); 0: no limit
	CreatedAt    time.Time  `json:"created_at"`
}

// User is an SMTP+ user: what a program authenticates as to send mail. Logs and
// %v show its name only, because Note is never to be seen outside (S15).
type User struct {
	ID            id.User        `json:"id"`
	Account       id.Account     `json:"account"`
	AccountNumber int64          `json:"account_number"`
	List          id.List        `json:"list"`
	ListNumber    int64          `json:"list_number"`
	Name          string         `json:"name"`     // sACCOUNT_N; never used again (S4)
	Active        bool           `json:"active"`   // what the form's tick says (S12); it takes a verified sender to be effective
	Priority      mail.Priority  `json:"priority"` // S14
	Note          string         `json:"note"`
	RequireTLS    bool           `json:"require_tls"`
	Networks      []netip.Prefix `json:"networks,omitempty"` // from which it may be used; empty: from anywhere
	QuotaPerHour  int64          `json:"quota_per_hour"`     // recipients accepted in an hour, more are refused; 0: none
	SpeedPerHour  int64          `json:"speed_per_hour"`     // recipients that leave in an hour, more wait (M10); 0: no limit
	CreatedAt     time.Time      `json:"created_at"`
	PasswordAt    time.Time      `json:"password_at"`           // when the password was generated
	LastUsedAt    time.Time      `json:"last_used_at,omitzero"` // to some seconds; zero: never
	RemovedAt     time.Time      `json:"removed_at,omitzero"`   // zero: still there
}

// String returns the user's name.
func (u User) String() string { return u.Name }

// LogValue shows the name only.
func (u User) LogValue() slog.Value { return slog.StringValue(u.Name) }

// Deps is what the room works with beside its database.
type Deps struct {
	// ScramKey makes the salts of SCRAM, so that a user that is not there has one
	// as well, always the same. Another key makes all passwords unusable by SCRAM.
	ScramKey [32]byte
}

// Accounts is the room. It is safe for concurrent use.
type Accounts struct {
	db       *db.DB
	deps     Deps
	metrics  *metrics
	guard    *guard
	records  *cache.Cache[string, *record] // users by name
	lists    *cache.Cache[id.List, List]
	accounts *cache.Cache[id.Account, Account]
	hash     func(salt [saltSize]byte, password string) [hashSize]byte // a test counts its calls

	mu   sync.Mutex
	used map[id.Credential]use // last uses that wait for Run to write them
}

// Bounds of what is kept in memory, in users, lists and accounts of some 1 KiB each.
const (
	maxRecords = 10_000
	maxKept    = 2_000
)

// New returns the room over a database that has its Schema; reg may be nil.
// It panics when reg has these metrics already.
func New(d *db.DB, deps Deps, reg prometheus.Registerer) *Accounts {
	m := newMetrics(reg)
	return &Accounts{
		db: d, deps: deps, metrics: m, guard: newGuard(m.guarded), hash: hashPassword, used: map[id.Credential]use{},
		records:  cache.New[string, *record](maxRecords, m.cached.WithLabelValues("users")),
		lists:    cache.New[id.List, List](maxKept, m.cached.WithLabelValues("lists")),
		accounts: cache.New[id.Account, Account](maxKept, m.cached.WithLabelValues("accounts")),
	}
}

// Invalidate forgets all that is kept in memory, because another process has
// changed the database. See db.OnForeignChange.
func (a *Accounts) Invalidate() {
	a.records.Clear()
	a.lists.Clear()
	a.accounts.Clear()
}

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic("account: " + err.Error()) // the folder is compiled in
	}
	return db.Schema{Room: "account", FS: sub}
}
