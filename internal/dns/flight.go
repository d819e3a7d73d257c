package dns

import (
	"context"
	"errors"
	"fmt"
	"time"

	mdns "github.com/miekg/dns"
)

// maxChain bounds the CNAME records followed for one question.
const maxChain = 8

// maxResolve bounds the answer to one question, whatever servers and chains do.
const maxResolve = 30 * time.Second

// failureTTL is how long a failure is remembered, so that a broken domain
// costs its time-outs once and not per message (RFC 9520 §3.2: 1 s to 5 min).
const failureTTL = 5 * time.Second

// question is what is asked; name is in lower case with its final dot.
type question struct {
	name  string
	qtype uint16
}

// result is an answer as it is kept: records, or the error in their place. It
// is never changed once made.
type result struct {
	rrs           []mdns.RR
	authenticated bool
	canonical     string
	expires       time.Time
	err           error
}

// flight is one question under way and who waits for it (guarded by Resolver.mu).
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int
	result  *result // set before done is closed
}

// look answers from the cache, or joins or starts the flight for the question.
// A caller whose context ends leaves the flight to the others.
func (r *Resolver) look(ctx context.Context, name string, qtype uint16) (*result, error) {
	q := question{name: mdns.CanonicalName(name), qtype: qtype}
	if _, ok := mdns.IsDomainName(q.name); !ok || name == "" {
		return nil, fmt.Errorf("%q: %w: not a domain name", name, ErrNotFound)
	}
	r.mu.Lock()
	if res := r.cache.get(q, time.Now()); res != nil {
		r.mu.Unlock()
		r.metrics.lookups.WithLabelValues("cached").Inc()
		return res, res.err
	}
	f := r.flights[q]
	if f == nil {
		f = r.start(ctx, q)
		r.metrics.lookups.WithLabelValues("asked").Inc()
	} else {
		r.metrics.lookups.WithLabelValues("shared").Inc()
	}
	f.waiting++
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.result, f.result.err
	case <-ctx.Done():
		r.leave(q, f)
		return nil, temporary(q, context.Cause(ctx))
	}
}

// start begins a flight that outlives the caller who began it. r.mu is held.
func (r *Resolver) start(ctx context.Context, q question) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	r.flights[q] = f
	go func() {
		defer cancel()
		began := time.Now()
		bounded, stop := context.WithTimeout(ctx, maxResolve)
		defer stop()
		res := r.resolve(bounded, q)
		r.metrics.duration.Observe(time.Since(began).Seconds())
		r.land(ctx, q, f, res)
	}()
	return f
}

func (r *Resolver) land(ctx context.Context, q question, f *flight, res *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil {
		r.cache.put(q, res)
		r.metrics.entries.Set(float64(r.cache.len()))
	}
	if r.flights[q] == f {
		delete(r.flights, q)
	}
	f.result = res
	close(f.done)
}

// leave ends the flight when nobody waits for it any more.
func (r *Resolver) leave(q question, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	f.cancel()
	if r.flights[q] == f {
		delete(r.flights, q)
	}
}

// resolve asks, and asks on for the end of a CNAME chain that the server did not follow.
func (r *Resolver) resolve(ctx context.Context, q question) *result {
	chain := chain{name: q.name, authenticated: true, ttl: r.cfg.MaxTTL}
	for range maxChain {
		reply, trusted, err := r.ask(ctx, question{name: chain.name, qtype: q.qtype})
		if err != nil {
			return failure(q, err)
		}
		chain.authenticated = chain.authenticated && trusted && reply.AuthenticatedData
		end, err := chain.follow(reply, q.qtype)
		if err != nil {
			return failure(q, err)
		}
		if end {
			return chain.result(q, r.cfg)
		}
	}
	return failure(q, errChain)
}

var errChain = errors.New("CNAME chain too long")

func failure(q question, cause error) *result {
	return &result{err: temporary(q, cause), expires: time.Now().Add(failureTTL)}
}
