package sender

import (
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/mail"
	"mittente/internal/signer"
)

const maxReason = 500 // characters of the reason of an override or a revocation

// Proof is what a domain was last verified by.
type Proof string

// The proofs of a domain (S22).
const (
	ProofDNS      Proof = "dns"      // its records; looked at again every day
	ProofMail     Proof = "mail"     // somebody at postmaster@, hostmaster@ or admin@ agreed
	ProofOverride Proof = "override" // an owner of the relay vouches for it
)

// Domain is a sender domain of an account. Errors about domains and entries
// wrap those of room account: ErrNotFound, ErrConflict, ErrInvalid.
type Domain struct {
	ID          id.Domain   `json:"id"`
	Account     id.Account  `json:"account"`
	Name        mail.Domain `json:"name"`
	State       State       `json:"state"`
	Token       string      `json:"token"` // to be published as Records says; of this account only
	Proof       Proof       `json:"proof,omitempty"`
	Override    bool        `json:"override"`             // verified by an owner's word instead of the DNS
	Reason      string      `json:"reason,omitempty"`     // of the override, or of the revocation
	LastError   string      `json:"last_error,omitempty"` // why the last check proved nothing
	CreatedAt   time.Time   `json:"created_at"`
	VerifiedAt  time.Time   `json:"verified_at,omitzero"`
	CheckedAt   time.Time   `json:"checked_at,omitzero"`    // when the DNS was last looked at
	NextCheckAt time.Time   `json:"next_check_at,omitzero"` // when it is looked at next; zero: not by itself
	MissingAt   time.Time   `json:"missing_since,omitzero"` // when the records of a verified domain were first found missing
	misses      int64       // checks since MissingAt that found nothing, each hours after the one before
	lastMissAt  time.Time
}

// Prepared is a domain with keys that is in no account yet: keys take too long
// to make to be made inside a transaction.
type Prepared struct {
	domain Domain
	keys   signer.Pair
}

// Name returns the domain's name.
func (p Prepared) Name() mail.Domain { return p.domain.Name }

// randomText returns n lower-case letters and digits, 5 random bits each.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: the program ends when the system has no randomness
	return strings.ToLower(base32.HexEncoding.EncodeToString(b))[:n]
}

// NewDomain makes a token and keys for a domain, to be given to AddDomain; it
// takes some 100 ms. ErrInvalid when name is none.
func (s *Senders) NewDomain(name string) (Prepared, error) {
	parsed, err := mail.ParseDomain(strings.TrimSpace(name))
	if err != nil {
		return Prepared{}, fmt.Errorf("%w: %w", account.ErrInvalid, err)
	}
	return s.prepare(parsed)
}

func (s *Senders) prepare(name mail.Domain) (Prepared, error) {
	keys, err := s.deps.Signer.Make(name)
	if err != nil {
		return Prepared{}, err
	}
	d := Domain{ID: id.New[id.Domain](), Name: name, State: StatePending, Token: randomText(26), CreatedAt: db.Now()}
	return Prepared{domain: d, keys: keys}, nil
}

// AddDomain puts a prepared domain into an account, pending. ErrConflict when
// the account has it already.
func (s *Senders) AddDomain(tx *db.Tx, owner id.Account, p Prepared) (Domain, error) {
	known, err := s.find(tx, owner, p.domain.Name)
	if err != nil {
		return Domain{}, err
	}
	if known != nil {
		return *known, fmt.Errorf("%w: the account has %s already (%s): `domain records %s` shows what to publish",
			account.ErrConflict, known.Name, known.State, known.Name)
	}
	d := p.domain
	d.Account = owner
	d.NextCheckAt = d.CreatedAt.Add(pendingFirst)
	if _, err := tx.Exec(sqlInsertDomain, d.ID, d.Account, string(d.Name), string(d.State), d.Token,
		db.Micros(d.CreatedAt), db.Micros(d.NextCheckAt)); err != nil {
		return Domain{}, fmt.Errorf("add domain %s: %w", d.Name, err)
	}
	if err := s.deps.Signer.Add(tx, owner, d.ID, p.keys); err != nil {
		return Domain{}, err
	}
	// Users may list the domain already, without its having been there.
	tx.OnCommit(s.snapshots.Clear)
	tx.OnCommit(s.wake)
	return d, nil
}

// Domains returns the domains of an account, by name.
func (s *Senders) Domains(tx *db.Tx, owner id.Account) ([]Domain, error) {
	return db.Collect(tx, scanDomain, sqlDomains, owner)
}

// DomainByName returns a domain of an account, or ErrNotFound.
func (s *Senders) DomainByName(tx *db.Tx, owner id.Account, name mail.Domain) (Domain, error) {
	d, err := s.find(tx, owner, name)
	if err != nil {
		return Domain{}, err
	}
	if d == nil {
		return Domain{}, fmt.Errorf("domain %s %w in this account: `domain add %s` adds it", name, account.ErrNotFound, name)
	}
	return *d, nil
}

// Override takes a domain for verified on an owner's word. It wants a reason of
// 1 to 500 characters (else ErrInvalid), and writes actor and reason to the audit
// log. The DNS is not looked at any more, unless VerifyDomain is called.
func (s *Senders) Override(tx *db.Tx, owner id.Account, name mail.Domain, actor, reason string) (Domain, error) {
	reason, err := checkReason("an override", reason)
	if err != nil {
		return Domain{}, err
	}
	d, err := s.DomainByName(tx, owner, name)
	if err != nil {
		return Domain{}, err
	}
	if d.State != StateVerified || d.Override {
		d.Override, d.Reason, d.Proof = true, reason, ProofOverride
		d.rest()
	}
	if d.State != StateVerified {
		d.VerifiedAt = db.Now()
	}
	d.State = d.State.next(overridden)
	if err := s.update(tx, d); err != nil {
		return Domain{}, err
	}
	err = event.Record(tx, event.Audit{
		Account: d.Account, Actor: actor, Action: "domain.override", Object: string(d.Name), Reason: reason,
	})
	return d, err
}

// RevokeDomain takes a domain's verification away, whatever it rested on. It
// wants a reason of 1 to 500 characters (else ErrInvalid), and writes actor and
// reason to the audit log. Nothing brings it back but VerifyDomain, Override or a
// letter, when somebody asks for them.
func (s *Senders) RevokeDomain(tx *db.Tx, owner id.Account, name mail.Domain, actor, reason string) (Domain, error) {
	reason, err := checkReason("a revocation", reason)
	if err != nil {
		return Domain{}, err
	}
	d, err := s.DomainByName(tx, owner, name)
	if err != nil {
		return Domain{}, err
	}
	return d, s.revokeDomain(tx, &d, actor, reason)
}

func (s *Senders) revokeDomain(tx *db.Tx, d *Domain, actor, reason string) error {
	d.State, d.Override, d.Proof, d.Reason = d.State.next(withdrawn), false, "", reason
	d.rest()
	if err := s.update(tx, *d); err != nil {
		return err
	}
	// An answer to what was asked before undoes no decision.
	if err := s.deps.Letters.WithdrawDomain(tx, d.Account, d.Name); err != nil {
		return err
	}
	return event.Record(tx, event.Audit{
		Account: d.Account, Actor: actor, Action: "domain.revoke", Object: string(d.Name), Reason: reason,
	})
}

// RemoveDomain takes a domain out of an account, and out of what its users may
// send from; addresses at it are judged by themselves from now on. Its keys sign
// what is queued. It is written to the audit log. ErrNotFound when the account
// has no such domain.
func (s *Senders) RemoveDomain(tx *db.Tx, owner id.Account, name mail.Domain, actor string) error {
	d, err := s.DomainByName(tx, owner, name)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(sqlDeleteDomain, d.ID); err != nil {
		return fmt.Errorf("remove domain %s: %w", name, err)
	}
	if _, err := tx.Exec(sqlDeleteDomainEntries, owner, string(name)); err != nil {
		return fmt.Errorf("remove domain %s from users: %w", name, err)
	}
	if err := s.deps.Letters.WithdrawDomain(tx, owner, name); err != nil {
		return err
	}
	if err := s.deps.Signer.Leave(tx, owner, name); err != nil {
		return err
	}
	tx.OnCommit(s.snapshots.Clear)
	return event.Record(tx, event.Audit{Account: owner, Actor: actor, Action: "domain.rm", Object: string(name)})
}

// The mailboxes of a domain that may speak for it (RFC 2142 §5, §7).
func speakers() []string { return []string{"postmaster", "hostmaster", "admin"} }

// AskByMail asks somebody at the domain, whose local-part is postmaster,
// hostmaster or admin (else ErrInvalid), whether the account may send from all
// of it. *letter.WaitError when no letter may be sent now, ErrConflict when the
// domain is verified, ErrNotFound when the account has it not.
func (s *Senders) AskByMail(tx *db.Tx, owner id.Account, domain mail.Domain, local string, by letter.Asking) error {
	if !slices.Contains(speakers(), local) {
		return fmt.Errorf("%w mailbox %q: postmaster, hostmaster and admin speak for a domain", account.ErrInvalid, local)
	}
	d, err := s.DomainByName(tx, owner, domain)
	if err != nil {
		return err
	}
	if d.State == StateVerified {
		return fmt.Errorf("%w: %s is verified already", account.ErrConflict, domain)
	}
	to, err := mail.ParseAddress(local + "@" + string(domain))
	if err != nil {
		return fmt.Errorf("%w: %w", account.ErrInvalid, err)
	}
	return s.deps.Letters.Ask(tx, owner, letter.Question{To: to, Domain: domain}, by)
}

// checkReason returns reason without spaces around it, or ErrInvalid.
func checkReason(of, reason string) (string, error) {
	reason = strings.TrimSpace(reason)
	if n := utf8.RuneCountInString(reason); n == 0 || n > maxReason || strings.ContainsFunc(reason, unicode.IsControl) {
		return "", fmt.Errorf("%w reason: %s wants one, of at most %d characters on one line", account.ErrInvalid, of, maxReason)
	}
	return reason, nil
}

// update writes what may change of a domain, and has it count. Any number of
// users may list it.
func (s *Senders) update(tx *db.Tx, d Domain) error {
	if err := write(tx, d); err != nil {
		return err
	}
	tx.OnCommit(s.snapshots.Clear)
	if d.State == StateVerified {
		return s.deps.Letters.WithdrawUnsent(tx, d.Account, d.Name) // it vouches for them now
	}
	return nil
}

func write(tx *db.Tx, d Domain) error {
	next := db.Micros(d.NextCheckAt)
	if d.NextCheckAt.IsZero() {
		next = never
	}
	if _, err := tx.Exec(sqlUpdateDomain, d.ID, string(d.State), d.Override, d.Reason, d.LastError,
		db.Micros(d.VerifiedAt), db.Micros(d.CheckedAt), string(d.Proof), next, d.misses,
		db.Micros(d.MissingAt), db.Micros(d.lastMissAt)); err != nil {
		return fmt.Errorf("update domain %s: %w", d.Name, err)
	}
	return nil
}

// find returns a domain of an account, nil when it has none of that name.
func (s *Senders) find(tx *db.Tx, owner id.Account, name mail.Domain) (*Domain, error) {
	d, err := scanDomain(tx.Row(sqlDomainByName, owner, string(name)))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for domain %s: %w", name, err)
	}
	return &d, nil
}

func scanDomain(row db.Scanner) (Domain, error) {
	var (
		d                                                      Domain
		created, verified, checked, next, missing, lastMissing int64
	)
	err := row.Scan(&d.ID, &d.Account, &d.Name, &d.State, &d.Token, &d.Override, &d.Reason, &d.LastError, &created, &verified, &checked,
		&d.Proof, &next, &d.misses, &missing, &lastMissing)
	d.CreatedAt, d.VerifiedAt, d.CheckedAt = db.Time(created), db.Time(verified), db.Time(checked)
	d.MissingAt, d.lastMissAt = db.Time(missing), db.Time(lastMissing)
	if next < never {
		d.NextCheckAt = time.UnixMicro(next).UTC()
	}
	return d, err
}
