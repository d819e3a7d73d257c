// Package submission is the one gate: what passes it is authorised, complete and on disk.
package submission

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/message"
	"mittente/internal/queue"
	"mittente/internal/sender"
	"mittente/internal/spool"
)

// Config is what an operator can set.
type Config struct {
	Hostname       string        // names this server in trace fields and in the Message-IDs it makes
	MaxHeaderBytes int           // of the header section, in octets; 0 means message.MaxHeader
	MaxTransfers   int           // messages taken in at once, which bounds the memory they need; 0 means 500
	Patience       time.Duration // a message waits so long for its turn; 0 means 30 s
}

// Deps are the rooms the gate asks and writes to.
type Deps struct {
	DB       *db.DB
	Accounts *account.Accounts
	Senders  *sender.Senders
	Spool    *spool.Spool
	Queue    *queue.Queue
	// Ready is given what was accepted, once it is on disk: leased to this node
	// and ready for its first attempt. It must not block.
	Ready func([]queue.Item)
}

// Gate decides what is accepted. It is safe for concurrent use.
type Gate struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	buffers sync.Pool // *[]byte of copyBuffer octets
	places  *places
	quotas  *quotas
	told    *told
}

const (
	defaultTransfers = 500
	defaultPatience  = 30 * time.Second
	copyBuffer       = 32 << 10
)

// New returns a gate; reg may be nil.
func New(cfg Config, deps Deps, reg prometheus.Registerer) *Gate {
	cfg.MaxTransfers = cmp.Or(cfg.MaxTransfers, defaultTransfers)
	cfg.Patience = cmp.Or(cfg.Patience, defaultPatience)
	return &Gate{
		cfg:     cfg,
		deps:    deps,
		metrics: newMetrics(reg),
		buffers: sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }},
		places:  newPlaces(cfg.MaxTransfers),
		quotas:  newQuotas(deps.DB),
		told:    newTold(),
	}
}

// Mail judges a reverse-path, before any content is sent: are the session's
// credentials still good, is there room, may this user send from there? The
// principal it returns is the fresh one, to be kept for the transaction. Errors
// are *account.AuthError and *Rejection.
func (g *Gate) Mail(ctx context.Context, s Session, from mail.ReversePath) (account.Principal, error) {
	p, err := g.mail(ctx, s, from)
	g.metrics.count("mail", err)
	return p, err
}

func (g *Gate) mail(ctx context.Context, s Session, from mail.ReversePath) (account.Principal, error) {
	p, err := g.deps.Accounts.Current(ctx, s.Principal, s.Client.Addr())
	if ended, ok := errors.AsType[*account.AuthError](err); ok {
		g.recordAuth(ctx, ended, s)
		return p, err
	}
	if err != nil {
		return p, storageRejection(s.Principal.User.Name, err)
	}
	s.Principal = p
	if err := storageRejection(p.User.Name, g.deps.DB.Room()); err != nil {
		return p, err
	}
	if from.IsNull() { // nobody to judge yet: the header's From decides (S20)
		return p, nil
	}
	_, err = g.judge(ctx, visit{s, mail.Envelope{From: from}}, claim{address: from.Address, place: PlaceReversePath})
	return p, err
}

// Rcpt judges one more recipient of a message that Mail let pass; env has those
// that came before. Is the user's quota used up? Errors are *Rejection.
func (g *Gate) Rcpt(ctx context.Context, s Session, env *mail.Envelope, _ mail.Rcpt) error {
	err := g.rcpt(ctx, s, env)
	g.metrics.count("rcpt", err)
	return err
}

func (g *Gate) rcpt(ctx context.Context, s Session, env *mail.Envelope) error {
	p := s.Principal
	if p.User.QuotaPerHour == 0 || p.OneTime {
		return nil
	}
	u, err := g.quotas.hold(ctx, p.User.ID)
	if err != nil {
		return storageRejection(p.User.Name, err)
	}
	over := u.room(p.User, int64(len(env.To))+1)
	g.quotas.drop(u)
	if over == nil {
		return nil
	}
	return g.refuse(ctx, visit{s, *env}, *over)
}

// Submit takes one message in. When it returns without error the message is on
// disk and this server is responsible for it (RFC 5321 §6.1); otherwise nothing
// was kept. Errors are *Rejection and those of reading content, which come as
// they are.
func (g *Gate) Submit(ctx context.Context, s Session, env mail.Envelope, content io.Reader) (id.Message, error) {
	start := time.Now()
	env.To = distinct(env.To)
	m, err := g.submit(ctx, s, env, content)
	g.metrics.count("submit", err)
	if err != nil {
		return id.Message{}, err
	}
	g.metrics.accepted(len(env.To), m.Size, time.Since(start))
	return m.ID, nil
}

func (g *Gate) submit(ctx context.Context, s Session, env mail.Envelope, content io.Reader) (*queue.Message, error) {
	if err := g.turn(ctx, s); err != nil {
		return nil, err
	}
	defer g.places.give(s.Principal.User.Account)
	v := visit{s, env}
	header, body, err := message.ReadHeader(content, g.cfg.MaxHeaderBytes)
	if err != nil {
		return nil, g.unreadable(ctx, v, err)
	}
	by, err := g.authorise(ctx, v, header)
	if err != nil {
		return nil, err
	}
	share, err := g.share(ctx, v)
	if err != nil {
		return nil, err
	}
	defer share.release()
	m := g.draft(s, env, header, by)
	w := g.deps.Spool.Create(m.Account)
	defer w.Discard(context.WithoutCancel(ctx)) // what was written ahead for nothing goes, though the client has gone
	if err := g.write(w, g.complete(m, s, header), body, m); err != nil {
		return nil, storageRejection(m.UserName, err)
	}
	if err := g.commit(ctx, v, w, m, share); err != nil {
		return nil, storageRejection(m.UserName, err)
	}
	share.settle()
	g.deps.Accounts.Used(s.Principal, m.AcceptedAt)
	return m, nil
}

// share reserves what the message takes of its user's quota. RCPT has looked at
// it, but other sessions of the user may have been quicker.
func (g *Gate) share(ctx context.Context, v visit) (*reservation, error) {
	r, err := g.quotas.reserve(ctx, v.Principal, int64(len(v.env.To)))
	if over, ok := errors.AsType[*Rejection](err); ok {
		return nil, g.refuse(ctx, v, *over)
	}
	return r, storageRejection(v.Principal.User.Name, err)
}

// turn waits for one of the places. While it waits the client's
// content stays in the client's hands.
func (g *Gate) turn(ctx context.Context, s Session) error {
	wait, cancel := context.WithTimeout(ctx, g.cfg.Patience)
	defer cancel()
	if err := g.places.take(wait, s.Principal.User.Account); err != nil {
		return &Rejection{Reason: Busy, User: s.Principal.User.Name, Cause: err}
	}
	return nil
}

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic("submission: " + err.Error()) // the folder is compiled in
	}
	return db.Schema{Room: "submission", FS: sub}
}
