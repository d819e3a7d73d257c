package sender

import (
	"context"
	"fmt"
	"slices"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/record"
	"mittente/internal/signer"
)

// Records returns what to publish for a domain of an account; also for the
// domain of the hostname, whose keys sign for those who have none. ErrNotFound
// when the account has none of that name.
func (s *Senders) Records(tx *db.Tx, owner id.Account, name mail.Domain) ([]record.Record, error) {
	d, err := s.find(tx, owner, name)
	switch {
	case err != nil:
		return nil, err
	case d != nil:
		return s.records(tx, *d)
	case name == s.deps.Signer.Host() && name != "":
		return s.hostRecords(tx)
	}
	_, err = s.DomainByName(tx, owner, name)
	return nil, err
}

func (s *Senders) records(tx *db.Tx, d Domain) ([]record.Record, error) {
	keys, err := s.keyRecords(tx, d.Account, d.Name)
	own := []record.Record{record.Ownership(d.Name, d.Token)}
	return slices.Concat(own, keys, record.Proposed(d.Name, s.deps.Hostname)), err
}

// hostRecords are those of the hostname's domain, which needs no proof.
func (s *Senders) hostRecords(tx *db.Tx) ([]record.Record, error) {
	host := s.deps.Signer.Host()
	keys, err := s.keyRecords(tx, id.Account{}, host)
	return append(keys, record.Proposed(host, s.deps.Hostname)...), err
}

func (s *Senders) keyRecords(tx *db.Tx, owner id.Account, name mail.Domain) ([]record.Record, error) {
	keys, err := s.deps.Signer.Keys(tx, owner, name)
	records := make([]record.Record, 0, len(keys))
	for _, k := range keys {
		if k.State != signer.StateRevoked {
			records = append(records, record.Record{Purpose: record.PurposeDKIM, Type: "TXT", Name: k.RecordName, Value: k.RecordValue, KeyState: string(k.State)})
		}
	}
	return records, err
}

// VerifyDomain looks at the DNS and takes the domain for verified when its
// ownership record is there, or all its DKIM records are. It returns the domain
// as it is now, and each record held against what was found. A domain whose
// records are missing, or whose DNS does not answer, stays as it was: that is
// no error. ErrNotFound when the account has no such domain.
func (s *Senders) VerifyDomain(ctx context.Context, owner id.Account, name mail.Domain) (Domain, []record.Check, error) {
	var records []record.Record
	err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		records, err = s.Records(tx, owner, name)
		return err
	})
	if err != nil {
		return Domain{}, nil, err
	}
	checks := record.Look(ctx, s.deps.Resolver, records)
	if err := ctx.Err(); err != nil {
		return Domain{}, nil, fmt.Errorf("verify domain %s: %w", name, err)
	}
	proof, problem := record.Judge(checks)
	s.metrics.verifications.WithLabelValues(string(proof)).Inc()
	var d Domain
	err = s.deps.DB.Batch(ctx, func(tx *db.Tx) (err error) {
		d, err = s.settle(tx, owner, name, proof, problem)
		return err
	})
	return d, checks, err
}

// settle writes down what a look at the DNS came to. The domain is read again:
// it may have changed while the DNS was asked.
func (s *Senders) settle(tx *db.Tx, owner id.Account, name mail.Domain, proof record.Finding, problem string) (Domain, error) {
	d, err := s.DomainByName(tx, owner, name)
	if err != nil {
		return Domain{}, err
	}
	err = s.learnt(tx, &d, evidence(proof), problem)
	return d, err
}
