package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"mittente/internal/delivery"
	"mittente/internal/dkim"
	"mittente/internal/mail"
	"mittente/internal/ready"
	"mittente/internal/route"
)

// startWorkers starts workers while deliveries may begin. The lock is held.
func (d *Dispatcher) startWorkers(ctx context.Context) {
	for {
		b := d.next()
		if b == nil {
			return
		}
		d.workers++
		d.tasks.Go(func() { d.work(ctx, b) })
	}
}

// work delivers one bundle after the other until none may begin.
func (d *Dispatcher) work(ctx context.Context, b *ready.Delivery[*entry]) {
	for b != nil {
		d.settle(ctx, d.deliver(ctx, b))
		d.mu.Lock()
		if b = d.next(); b == nil {
			d.workers--
		}
		d.mu.Unlock()
	}
}

// deliver makes one attempt for a bundle. It gives its place at the site away
// before the outcomes are settled, so that no connection waits for a commit.
func (d *Dispatcher) deliver(ctx context.Context, b *ready.Delivery[*entry]) []report {
	s := b.Entries[0].site
	d.mu.Lock()
	plan := s.plan
	d.mu.Unlock()
	entries := d.held(ctx, b.Entries)
	var outcomes []mail.Outcome
	own := true // the trouble, if any, is ours
	if len(entries) > 0 {
		outcomes, own = d.attempt(ctx, plan, entries)
	}
	ended := time.Now()
	about := outcomes
	if own {
		about = nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	waiting := d.end(b, s, about, ended)
	d.startWorkers(ctx)
	reports := make([]report, 0, len(entries)+len(waiting))
	for i, e := range entries {
		e.paced = false // its place is used
		reports = append(reports, report{entry: e, outcome: outcomes[i], at: ended, took: ended.Sub(b.Began)})
	}
	return append(reports, s.postpone(waiting, ended)...)
}

// held drops the entries whose lease this node has lost: another has them.
func (d *Dispatcher) held(ctx context.Context, entries []*entry) []*entry {
	held := entries[:0:0]
	var lost []*entry
	for _, e := range entries {
		if d.deps.Queue.Holds(e.recipient.Lease) {
			held = append(held, e)
		} else {
			lost = append(lost, e)
		}
	}
	if len(lost) > 0 {
		d.deps.Log.LogAttrs(ctx, slog.LevelWarn, "leases lost before the attempt", slog.Int("recipients", len(lost)))
		d.mu.Lock()
		d.forget(lost...)
		d.mu.Unlock()
	}
	return held
}

// attempt signs and delivers; it returns one outcome per entry. own says that
// what went wrong, if anything, says nothing about the site.
func (d *Dispatcher) attempt(ctx context.Context, plan delivery.Plan, entries []*entry) (outcomes []mail.Outcome, own bool) {
	l := entries[0].letter
	for _, e := range entries {
		if e.recipient.Attempts == 0 {
			d.metrics.firstAttempt.Observe(time.Since(l.message.AcceptedAt).Seconds())
		}
	}
	seal, err := d.seal(ctx, l)
	if err != nil {
		return d.fault(ctx, entries, "signature", err), true
	}
	demand, err := d.minTLS(ctx, l)
	if err != nil {
		return d.fault(ctx, entries, "settings of the list", err), true
	}
	var unreadable atomic.Pointer[error]
	job := delivery.Job{
		TLS: demand, PerConnection: entries[0].site.Limit().PerConnection,
		From: l.message.From, SMTPUTF8: l.message.SMTPUTF8, EightBit: l.message.EightBit,
		Return: l.message.Return, EnvelopeID: l.message.EnvelopeID,
		Size: int64(len(seal)) + l.message.Size,
		Content: func() (io.ReadCloser, error) {
			content, err := d.open(ctx, l)
			if err != nil {
				unreadable.Store(&err)
				return nil, err
			}
			return sealed{io.MultiReader(bytes.NewReader(seal), content), content, &unreadable}, nil
		},
	}
	for _, e := range entries {
		job.To = append(job.To, mail.Rcpt{To: e.recipient.To, Notify: e.recipient.Notify, Original: e.recipient.Original})
	}
	d.metrics.inFlight.Inc()
	outcomes = d.deps.Courier.Deliver(ctx, plan, job)
	d.metrics.inFlight.Dec()
	if len(outcomes) != len(entries) {
		err := fmt.Errorf("%d outcomes for %d recipients", len(outcomes), len(entries))
		return d.fault(ctx, entries, "delivery", err), true
	}
	if err := unreadable.Load(); err != nil {
		// The courier has deferred those who wanted for it. Others may have the
		// message, from an earlier transaction of the same attempt.
		d.logFault(ctx, l, "content", *err)
		return outcomes, true
	}
	return outcomes, ctx.Err() != nil
}

// minTLS is what the list of a letter demands of connections.
func (d *Dispatcher) minTLS(ctx context.Context, l *letter) (route.TLSPolicy, error) {
	if d.deps.MinTLS == nil || l.message.List.IsZero() {
		return "", nil
	}
	return d.deps.MinTLS(ctx, l.message.List)
}

// fault is the outcome of what went wrong in this house: it is deferred,
// whatever it was, and logged (RFC 3463 §3.4: X.3.0, other mail system status).
func (d *Dispatcher) fault(ctx context.Context, entries []*entry, what string, err error) []mail.Outcome {
	d.logFault(ctx, entries[0].letter, what, err)
	o := mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 3},
		Diagnostic: mail.Diagnostic(what + ": " + err.Error()),
	}
	outcomes := make([]mail.Outcome, len(entries))
	for i := range outcomes {
		outcomes[i] = o
	}
	return outcomes
}

func (d *Dispatcher) logFault(ctx context.Context, l *letter, what string, err error) {
	d.deps.Log.LogAttrs(ctx, slog.LevelError, "delivery held up by our own fault", slog.String("what", what),
		slog.String("message", l.message.ID.String()), slog.Any("error", err))
}

// seal returns the DKIM-Signature fields of a letter, made once while it is in
// memory. Mail that has no signing domain goes unsigned; mail that has one never does.
func (d *Dispatcher) seal(ctx context.Context, l *letter) ([]byte, error) {
	m := l.message
	if m.SigningDomain == "" {
		return nil, nil
	}
	l.sealing.Lock()
	defer l.sealing.Unlock()
	if l.sealed {
		return l.seal, nil
	}
	keys, err := d.deps.Senders.Signers(ctx, m.Account, m.SigningDomain)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key", m.SigningDomain)
	}
	header, err := d.header(ctx, l)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if l.seal, err = dkim.Sign(header, m.BodyHash, keys, start); err != nil {
		return nil, err
	}
	d.metrics.sign.Observe(time.Since(start).Seconds())
	l.sealed = true
	return l.seal, nil
}

// header returns the header section of a letter, without the empty line.
func (d *Dispatcher) header(ctx context.Context, l *letter) ([]byte, error) {
	size := l.message.HeaderSize
	if size <= len(l.content) {
		return l.content[:size], nil
	}
	content, err := d.open(ctx, l)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	header := make([]byte, size)
	if _, err := io.ReadFull(content, header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return header, nil
}

// open returns the content of a letter, from memory or from the spool.
func (d *Dispatcher) open(ctx context.Context, l *letter) (io.ReadCloser, error) {
	if l.content != nil {
		return io.NopCloser(bytes.NewReader(l.content)), nil
	}
	content, err := d.deps.Spool.Open(ctx, l.message.Content)
	if err != nil {
		return nil, err // not the nil *spool.Reader
	}
	return content, nil
}

// sealed is a content with its signature before it; it notes why it can't be read.
type sealed struct {
	io.Reader
	io.Closer
	unreadable *atomic.Pointer[error]
}

// Read implements io.Reader.
func (s sealed) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.unreadable.Store(&err)
	}
	return n, err //nolint:wrapcheck // a reader passes it on as it is
}
