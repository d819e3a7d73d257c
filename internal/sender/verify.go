package sender

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mittente/internal/db"
	"mittente/internal/dns"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/signer"
)

const (
	verifyTimeout = 20 * time.Second // for all records of a domain together
	maxFound      = 10               // records of one name that a Check shows
	maxShown      = 600              // octets of each; an RSA key of 2,048 bits takes 410
)

// Check is a record held against what the DNS has.
type Check struct {
	Record
	Required bool     `json:"required"` // false: a proposal only
	Found    []string `json:"found"`    // at most 10 records, 600 octets each
	OK       bool     `json:"ok"`
	Problem  string   `json:"problem,omitempty"` // what is wrong, on one line; empty when OK
	Advice   string   `json:"advice,omitempty"`  // what to do instead of publishing Value, when that would be wrong
	unknown  bool     // the DNS did not answer
}

// VerifyDomain looks at the DNS and takes the domain for verified when its
// ownership record is there, or all its DKIM records are. It returns the domain
// as it is now, and each record held against what was found. A domain whose
// records are missing, or whose DNS does not answer, stays as it was: that is
// no error. ErrNotFound when the account has no such domain.
func (s *Senders) VerifyDomain(ctx context.Context, owner id.Account, name mail.Domain) (Domain, []Check, error) {
	var records []Record
	err := s.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
		records, err = s.Records(tx, owner, name)
		return err
	})
	if err != nil {
		return Domain{}, nil, err
	}
	checks := s.look(ctx, records)
	if err := ctx.Err(); err != nil {
		return Domain{}, nil, fmt.Errorf("verify domain %s: %w", name, err)
	}
	proof, problem := judge(checks)
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
func (s *Senders) settle(tx *db.Tx, owner id.Account, name mail.Domain, proof evidence, problem string) (Domain, error) {
	d, err := s.DomainByName(tx, owner, name)
	if err != nil {
		return Domain{}, err
	}
	err = s.learnt(tx, &d, proof, problem)
	return d, err
}

// look asks the DNS for all records at once.
func (s *Senders) look(ctx context.Context, records []Record) []Check {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	checks := make([]Check, len(records))
	var all sync.WaitGroup
	for i, r := range records {
		all.Go(func() { checks[i] = s.check(ctx, r) })
	}
	all.Wait()
	return checks
}

func (s *Senders) check(ctx context.Context, r Record) Check {
	c := Check{Record: r, Required: r.required(), Found: []string{}}
	answer, err := s.deps.Resolver.TXT(ctx, r.Name)
	switch {
	case errors.Is(err, dns.ErrNotFound) || err == nil && len(answer.Records) == 0:
		c.Problem = "there is no TXT record at " + r.Name
		return c
	case err != nil:
		c.unknown, c.Problem = true, "the DNS does not answer for "+r.Name+": try again later"
		return c
	}
	c.OK = r.satisfied(answer.Records)
	for _, text := range answer.Records[:min(len(answer.Records), maxFound)] {
		c.Found = append(c.Found, strings.ToValidUTF8(text[:min(len(text), maxShown)], "\uFFFD"))
	}
	if !c.OK {
		c.Problem = "no TXT record at " + r.Name + " is as expected"
		c.Advice = r.advice(answer.Records)
	}
	return c
}

// judge says what the checks of a domain prove, and what stood against it.
func judge(checks []Check) (proof evidence, problem string) {
	signed, keys := true, 0
	proof = absent
	for _, c := range checks {
		switch c.Purpose {
		case PurposeOwnership:
			if c.OK {
				return found, ""
			}
			problem = c.Problem
			if c.unknown {
				proof = unknown
			}
		case PurposeDKIM:
			if c.KeyState != signer.StateActive {
				continue // of a rotation under way
			}
			keys++
			signed = signed && c.OK
		}
	}
	if signed && keys > 0 {
		return found, ""
	}
	return proof, problem
}
