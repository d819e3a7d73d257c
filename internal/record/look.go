package record

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"mittente/internal/dns"
)

const (
	lookTimeout = 20 * time.Second // for all records of a domain together
	maxFound    = 10               // records of one name that a Check shows
	maxShown    = 600              // octets of each; an RSA key of 2,048 bits takes 410
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

// Look asks the DNS for all records at once.
func Look(ctx context.Context, resolver *dns.Resolver, records []Record) []Check {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	checks := make([]Check, len(records))
	var all sync.WaitGroup
	for i, r := range records {
		all.Go(func() { checks[i] = look(ctx, resolver, r) })
	}
	all.Wait()
	return checks
}

func look(ctx context.Context, resolver *dns.Resolver, r Record) Check {
	c := Check{Record: r, Required: r.required(), Found: []string{}}
	answer, err := resolver.TXT(ctx, r.Name)
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

// Finding is what the checks of a domain come to.
type Finding string

// The findings.
const (
	Found   Finding = "found"   // the DNS has what only the domain's owner can have put there
	Absent  Finding = "absent"  // the DNS answered, and has it not
	Unknown Finding = "unknown" // the DNS did not answer
)

// Judge says what the checks of a domain prove, and what stood against it. The
// ownership record proves it, or all records of the keys that sign.
//
// While the DNS does not answer for a key, nothing is proven to be missing (S22:
// temporary errors never count).
func Judge(checks []Check) (f Finding, problem string) {
	signed, keys, silent := true, 0, Check{} // silent: of a key that the DNS does not answer for
	f = Absent
	for _, c := range checks {
		switch c.Purpose {
		case PurposeOwnership:
			if c.OK {
				return Found, ""
			}
			problem = c.Problem
			if c.unknown {
				f = Unknown
			}
		case PurposeDKIM:
			if c.KeyState != KeySigns {
				continue // of a rotation under way
			}
			keys++
			signed = signed && (c.OK || c.unknown)
			if c.unknown {
				silent = c
			}
		}
	}
	switch {
	case !signed || keys == 0:
		return f, problem
	case silent.unknown:
		return Unknown, silent.Problem
	}
	return Found, ""
}
