// Package sender knows the domains and addresses one may send from, and how each is proven.
package sender

import (
	"embed"
	"errors"
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/cache"
	"mittente/internal/db"
	"mittente/internal/dns"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/signer"
)

// Deps is what the room works with.
type Deps struct {
	DB       *db.DB
	Resolver *dns.Resolver // used by VerifyDomain and Run alone; may be nil otherwise
	Signer   *signer.Signer
	Letters  *letter.Letters
	Hostname string // of this relay, for the SPF record that it proposes
}

// Senders is the room. It is safe for concurrent use.
type Senders struct {
	deps      Deps
	metrics   *metrics
	snapshots *cache.Cache[id.User, *snapshot]
	woken     chan struct{} // Run has to look anew when the next domain is due
}

// New returns the room over a database that has its Schema; reg may be nil. It
// panics when reg has these metrics already.
func New(deps Deps, reg prometheus.Registerer) (*Senders, error) {
	if deps.Hostname == "" {
		return nil, errors.New("sender: the host name is missing")
	}
	m := newMetrics(reg)
	return &Senders{
		deps: deps, metrics: m, woken: make(chan struct{}, 1),
		snapshots: cache.New[id.User, *snapshot](maxSnapshots, m.cached),
	}, nil
}

// Invalidate forgets all that is kept in memory, because another process has
// changed the database. See db.OnForeignChange.
func (s *Senders) Invalidate() {
	s.snapshots.Clear()
	s.wake()
}

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room; those of rooms signer and letter are made before.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic("sender: " + err.Error()) // the folder is compiled in
	}
	return db.Schema{Room: "sender", FS: sub}
}
