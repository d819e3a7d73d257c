package signer

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// Pair is the keys of a domain that are in no account yet: they take too long to
// make to be made inside a transaction.
type Pair struct {
	Domain mail.Domain
	keys   []made
}

// made is a DKIM key with what is stored of it.
type made struct {
	selector, algorithm string
	recordName          string
	recordValue         string
	private             []byte
}

// Key is a DKIM key as it is shown.
type Key struct {
	ID          id.Key    `json:"id"`
	Selector    string    `json:"selector"`
	Algorithm   string    `json:"algorithm"` // rsa-sha256 or ed25519-sha256
	State       State     `json:"state"`
	RecordName  string    `json:"record_name"`
	RecordValue string    `json:"record_value"` // with an empty p= once it is revoked
	CreatedAt   time.Time `json:"created_at"`
	MovedAt     time.Time `json:"moved_at"`              // when it came into its state
	PublishedAt time.Time `json:"published_at,omitzero"` // when the record was first seen; zero: it was not there when last looked for
	Problem     string    `json:"problem,omitempty"`     // of RotateCheck: why the record is not as it should be
	domain      id.Domain // the seal binds the private half to it
}

// Make makes an RSA and an Ed25519 key for a domain, to be given to Add; it
// takes some 100 ms.
func (s *Signer) Make(domain mail.Domain) (Pair, error) {
	keys, err := s.deps.NewKeys(domain)
	if err != nil {
		return Pair{}, fmt.Errorf("make keys of %s: %w", domain, err)
	}
	p := Pair{Domain: domain}
	for _, key := range keys {
		m := made{selector: key.Selector, algorithm: key.Algorithm()}
		m.recordName, m.recordValue = key.Record()
		if m.private, err = key.MarshalPrivate(); err != nil {
			return Pair{}, fmt.Errorf("make keys of %s: %w", domain, err)
		}
		p.keys = append(p.keys, m)
	}
	return p, nil
}

// Add gives a domain of an account its first keys: they sign from now on.
func (s *Signer) Add(tx *db.Tx, owner id.Account, domain id.Domain, p Pair) error {
	return s.insert(tx, owner, domain, p, StateActive)
}

func (s *Signer) insert(tx *db.Tx, owner id.Account, domain id.Domain, p Pair, state State) error {
	now := db.Micros(db.Now())
	for _, k := range p.keys {
		key := id.New[id.Key]()
		if _, err := tx.Exec(sqlInsertKey, key, owner[:], domain, string(p.Domain), k.selector, k.algorithm,
			k.recordName, k.recordValue, s.seal.close(key, domain, k.private), string(state), now); err != nil {
			return fmt.Errorf("add key of %s: %w", p.Domain, err)
		}
	}
	tx.OnCommit(func() { s.known.Drop(whose{owner, p.Domain}) })
	return nil
}

// newKeys makes the two keys every domain has: RSA for all verifiers, Ed25519
// for those that know RFC 8463. The selectors are this domain's alone, also
// when other accounts or other relays sign for it.
func newKeys(domain mail.Domain) ([]dkim.Key, error) {
	stem := "m" + time.Now().UTC().Format("200601") + randomText(6)
	viaRSA, err := dkim.NewRSA(domain, stem+"r")
	if err != nil {
		return nil, err
	}
	viaEd25519, err := dkim.NewEd25519(domain, stem+"e")
	if err != nil {
		return nil, err
	}
	return []dkim.Key{viaRSA, viaEd25519}, nil
}

// Keys returns the keys of a domain of an account, the oldest first; the house's
// are those of the zero account. Those of a removed domain are not among them.
func (s *Signer) Keys(tx *db.Tx, owner id.Account, domain mail.Domain) ([]Key, error) {
	keys, err := db.Collect(tx, scanKey, sqlKeys, owner[:], string(domain))
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", domain, err)
	}
	return keys, nil
}

// Signers returns the keys that sign for a domain of an account, RSA first,
// whatever became of the domain: mail accepted while it was verified is still
// signed. The hostname's keys sign for every account that has no keys of its own
// for it. ErrNotFound when nobody has. Known keys cost no look into the database.
func (s *Signer) Signers(ctx context.Context, owner id.Account, domain mail.Domain) ([]dkim.Key, error) {
	keys, err := s.signing(ctx, whose{owner, domain})
	if err == nil && len(keys) == 0 && domain == s.host {
		keys, err = s.signing(ctx, whose{domain: domain})
	}
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("keys of %s %w", domain, account.ErrNotFound)
	}
	return keys, err
}

// signing returns the keys that sign, none when there are none; that is kept in
// memory too, as every mail that the hostname signs asks for it.
func (s *Signer) signing(ctx context.Context, w whose) ([]dkim.Key, error) {
	keys, generation, known := s.known.Get(w)
	if known {
		return keys, nil
	}
	var found []signing
	err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		found, err = db.Collect(tx, s.scanSigning, sqlSigning, w.account[:], string(w.domain))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load keys of %s: %w", w.domain, err)
	}
	for _, f := range found {
		if f.state == found[0].state && f.movedAt == found[0].movedAt {
			keys = append(keys, f.key)
		}
	}
	s.known.Put(w, keys, 1, generation)
	return keys, nil
}

// signing is a key that may sign, and what says whether another comes first.
type signing struct {
	key     dkim.Key
	state   State
	movedAt int64
}

func (s *Signer) scanSigning(row db.Scanner) (signing, error) {
	var (
		found  signing
		key    id.Key
		domain id.Domain
		name   string
		sealed []byte
	)
	if err := row.Scan(&key, &domain, &name, &found.key.Selector, &sealed, &found.state, &found.movedAt); err != nil {
		return signing{}, err
	}
	private, err := s.seal.open(key, domain, sealed)
	if err != nil {
		return signing{}, err
	}
	defer clear(private)
	found.key.Domain = mail.Domain(name)
	found.key.Signer, err = dkim.ParsePrivate(private)
	return found, err
}

func scanKey(row db.Scanner) (Key, error) {
	var (
		k                         Key
		created, published, moved int64
	)
	err := row.Scan(&k.ID, &k.domain, &k.Selector, &k.Algorithm, &k.RecordName, &k.RecordValue, &k.State, &created, &published, &moved)
	k.CreatedAt, k.PublishedAt, k.MovedAt = db.Time(created), db.Time(published), db.Time(moved)
	if k.State == StateRevoked {
		k.RecordValue = dkim.RevokedRecord
	}
	return k, err
}

// randomText returns n lower-case letters and digits, 5 random bits each.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: the program ends when the system has no randomness
	return strings.ToLower(base32.HexEncoding.EncodeToString(b))[:n]
}
