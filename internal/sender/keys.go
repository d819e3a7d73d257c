package sender

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

// maxSigners bounds the domains whose keys are kept unsealed; one takes some 8 KiB.
const maxSigners = 2_000

// signing says whose domain signs: several accounts may have the same one.
type signing struct {
	account id.Account
	domain  mail.Domain
}

// Prepared is a domain with keys that is in no account yet: keys take too long
// to make to be made inside a transaction.
type Prepared struct {
	domain Domain
	keys   []sealedKey
}

// sealedKey is a DKIM key as it is stored.
type sealedKey struct {
	id                  id.Key
	selector, algorithm string
	recordName          string
	recordValue         string
	sealed              []byte
}

// Name returns the domain's name.
func (p Prepared) Name() mail.Domain { return p.domain.Name }

// NewDomain makes a token and an RSA and an Ed25519 key for a domain, to be
// given to AddDomain; it takes some 100 ms. ErrInvalid when name is none.
func (s *Senders) NewDomain(name string) (Prepared, error) {
	parsed, err := mail.ParseDomain(strings.TrimSpace(name))
	if err != nil {
		return Prepared{}, fmt.Errorf("%w: %w", account.ErrInvalid, err)
	}
	return s.prepare(parsed)
}

func (s *Senders) prepare(name mail.Domain) (Prepared, error) {
	p := Prepared{domain: Domain{ID: id.New[id.Domain](), Name: name, State: StatePending, Token: randomText(26), CreatedAt: db.Now()}}
	keys, err := s.newKeys(name)
	if err != nil {
		return Prepared{}, fmt.Errorf("make keys of %s: %w", name, err)
	}
	for _, key := range keys {
		private, err := key.MarshalPrivate()
		if err != nil {
			return Prepared{}, fmt.Errorf("make keys of %s: %w", name, err)
		}
		k := sealedKey{id: id.New[id.Key](), selector: key.Selector, algorithm: key.Algorithm()}
		k.recordName, k.recordValue = key.Record()
		k.sealed = s.seal.close(k.id, p.domain.ID, private)
		clear(private)
		p.keys = append(p.keys, k)
	}
	return p, nil
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

// Signers returns the keys that sign for a domain of an account, RSA first,
// whatever its state: mail accepted while it was verified is still signed.
// ErrNotFound when the account has no such domain. Known keys cost no look into
// the database.
func (s *Senders) Signers(ctx context.Context, owner id.Account, domain mail.Domain) ([]dkim.Key, error) {
	which := signing{owner, domain}
	keys, generation, known := s.signers.get(which)
	if known {
		return keys, nil
	}
	err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		keys, err = db.Collect(tx, s.scanKey, sqlKeys, owner, string(domain))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load keys of %s: %w", domain, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("keys of %s %w", domain, account.ErrNotFound)
	}
	s.signers.put(which, weighed[[]dkim.Key]{keys, 1}, generation)
	return keys, nil
}

func (s *Senders) scanKey(row db.Scanner) (dkim.Key, error) {
	var (
		key    id.Key
		domain id.Domain
		name   string
		k      dkim.Key
		sealed []byte
	)
	if err := row.Scan(&key, &domain, &name, &k.Selector, &sealed); err != nil {
		return dkim.Key{}, err
	}
	private, err := s.seal.open(key, domain, sealed)
	if err != nil {
		return dkim.Key{}, err
	}
	defer clear(private)
	k.Domain = mail.Domain(name)
	k.Signer, err = dkim.ParsePrivate(private)
	return k, err
}

// randomText returns n lower-case letters and digits, 5 random bits each.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: the program ends when the system has no randomness
	return strings.ToLower(base32.HexEncoding.EncodeToString(b))[:n]
}
