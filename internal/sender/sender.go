// Package sender knows the domains and addresses one may send from: their verification, keys and DNS records.
package sender

import (
	"embed"
	"errors"
	"io/fs"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/dns"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// Domain is a sender domain of an account. Errors about domains and entries
// wrap those of room account: ErrNotFound, ErrConflict, ErrInvalid.
type Domain struct {
	ID         id.Domain   `json:"id"`
	Account    id.Account  `json:"account"`
	Name       mail.Domain `json:"name"`
	State      State       `json:"state"`
	Token      string      `json:"token"`                // to be published as Records says; of this account only
	Override   bool        `json:"override"`             // verified by an owner's word instead of the DNS
	Reason     string      `json:"reason,omitempty"`     // of the override
	LastError  string      `json:"last_error,omitempty"` // why the last check proved nothing
	CreatedAt  time.Time   `json:"created_at"`
	VerifiedAt time.Time   `json:"verified_at,omitzero"`
	CheckedAt  time.Time   `json:"checked_at,omitzero"` // when the DNS was last looked at
}

// Deps is what the room works with.
type Deps struct {
	DB       *db.DB
	Resolver *dns.Resolver // used by VerifyDomain alone; may be nil otherwise
	Secret   Secret
	Hostname string // of this relay, for the SPF record that it proposes
}

// Senders is the room. It is safe for concurrent use.
type Senders struct {
	deps      Deps
	metrics   *metrics
	seal      *seal
	snapshots *cache[id.User, *snapshot]
	signers   *cache[signing, []dkim.Key]
	newKeys   func(mail.Domain) ([]dkim.Key, error) // tests bring keys that are made already
}

// New returns the room over a database that has its Schema; reg may be nil. It
// panics when reg has these metrics already.
func New(deps Deps, reg prometheus.Registerer) (*Senders, error) {
	if deps.Hostname == "" {
		return nil, errors.New("sender: the host name is missing")
	}
	sealed, err := newSeal(deps.Secret)
	if err != nil {
		return nil, err
	}
	m := newMetrics(reg)
	return &Senders{
		deps: deps, metrics: m, seal: sealed, newKeys: newKeys,
		snapshots: newCache[id.User, *snapshot](maxSnapshots, m.cached.WithLabelValues("entries")),
		signers:   newCache[signing, []dkim.Key](maxSigners, m.cached.WithLabelValues("domains_with_keys")),
	}, nil
}

// Invalidate forgets all that is kept in memory, because another process has
// changed the database. See db.OnForeignChange.
func (s *Senders) Invalidate() {
	s.snapshots.clear()
	s.signers.clear()
}

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic("sender: " + err.Error()) // the folder is compiled in
	}
	return db.Schema{Room: "sender", FS: sub}
}
