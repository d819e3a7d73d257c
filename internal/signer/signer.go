// Package signer has the DKIM keys of the domains that mail is signed for: sealed, published and rotated.
package signer

import (
	"context"
	"embed"
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/cache"
	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/dns"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// maxCached bounds the domains whose keys are kept unsealed; one takes some 8 KiB.
const maxCached = 2_000

// Deps is what the room works with.
type Deps struct {
	DB       *db.DB
	Resolver *dns.Resolver // used by RotateCheck and RotateSwitch alone; may be nil otherwise
	Secret   Secret
	Hostname string // of this relay; its key signs for those who have none. Where it is no domain name, nothing does
	// InUse reports whether mail is queued that a domain of an account has to
	// sign. nil: keys of a removed domain are kept for 30 days, whatever is queued.
	InUse func(ctx context.Context, owner id.Account, domain mail.Domain) (bool, error)
	// NewKeys makes the keys of a domain; nil: one of RSA with 2,048 bits and one
	// of Ed25519. Tests bring some that are made already.
	NewKeys func(domain mail.Domain) ([]dkim.Key, error)
}

// Signer is the room. It is safe for concurrent use.
type Signer struct {
	deps  Deps
	host  mail.Domain // "" when the hostname is no domain name
	seal  *seal
	known *cache.Cache[whose, []dkim.Key]
}

// whose says who signs for what: several accounts may have the same domain.
// The house itself is the zero account.
type whose struct {
	account id.Account
	domain  mail.Domain
}

// New returns the room over a database that has its Schema; reg may be nil. It
// panics when reg has these metrics already.
func New(deps Deps, reg prometheus.Registerer) (*Signer, error) {
	if deps.NewKeys == nil {
		deps.NewKeys = newKeys
	}
	sealed, err := newSeal(deps.Secret)
	if err != nil {
		return nil, err
	}
	s := &Signer{deps: deps, seal: sealed, known: cache.New[whose, []dkim.Key](maxCached, newMetrics(reg).cached)}
	s.host, _ = mail.ParseDomain(deps.Hostname) // one that is none signs nothing
	return s, nil
}

// Host returns the domain of the hostname, which signs what was authorised by an
// address alone; "" when the hostname is no domain name.
func (s *Signer) Host() mail.Domain { return s.host }

// Invalidate forgets all that is kept in memory, because another process has
// changed the database. See db.OnForeignChange.
func (s *Signer) Invalidate() { s.known.Clear() }

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic("signer: " + err.Error()) // the folder is compiled in
	}
	return db.Schema{Room: "signer", FS: sub}
}
