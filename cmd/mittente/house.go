package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/dispatch"
	"mittente/internal/dns"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/node"
	"mittente/internal/queue"
	"mittente/internal/reason"
	"mittente/internal/route"
	"mittente/internal/sender"
	"mittente/internal/signer"
	"mittente/internal/spool"
	"mittente/internal/submission"
)

// house is the rooms that keep tables: what serve and the commands work with.
type house struct {
	cfg      *loaded
	db       *db.DB
	resolver *dns.Resolver
	accounts *account.Accounts
	signer   *signer.Signer
	letters  *letter.Letters
	senders  *sender.Senders
	spool    *spool.Spool
	queue    *queue.Queue
	actor    string // who works with it, for the audit log
}

// use says what a command wants of the database.
type use int

const (
	reads  use = iota // it must be there
	writes            // it is made when missing
)

// open opens the configured database for a command, as the owner of its folder.
func (a *app) open(ctx context.Context, u use) (*house, error) {
	l, err := a.load()
	if err != nil {
		return nil, err
	}
	who := actor() // before the identity changes
	if err := becomeOwner(l.DataDir); err != nil {
		return nil, err
	}
	file := filepath.Join(l.DataDir, "mittente.db")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && u == reads {
		return nil, fmt.Errorf("%w: there is no database %s yet (mittente serve makes it; is this the right configuration?)", errNotFound, file)
	}
	h, err := openHouse(ctx, l, houseDeps{})
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w (run it as root, or as the owner of %s)", err, l.DataDir)
	}
	if err != nil {
		return nil, err
	}
	h.actor = who
	return h, nil
}

// with opens the house, lets do work in it, and closes it.
func (a *app) with(ctx context.Context, u use, do func(*house) error) error {
	h, err := a.open(ctx, u)
	if err != nil {
		return err
	}
	return errors.Join(do(h), h.close())
}

// houseDeps is what the rooms tell of themselves, and to whom; commands let them be silent.
type houseDeps struct {
	log *slog.Logger
	reg prometheus.Registerer
}

// openHouse opens and migrates the database and makes the rooms over it. Secret
// key and first account are made when the database is new.
func openHouse(ctx context.Context, l *loaded, deps houseDeps) (*house, error) {
	if err := makeDataDir(l.DataDir); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	d, err := db.Open(ctx, db.Config{URL: l.Database, DataDir: l.DataDir, ReserveBytes: max(1, l.Storage.ReserveBytes)}, deps.reg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	h := &house{cfg: l, db: d}
	if err := h.furnish(ctx, deps); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return h, nil
}

// furnish migrates and makes the rooms.
func (h *house) furnish(ctx context.Context, deps houseDeps) error {
	reg := deps.reg
	if err := h.db.Migrate(ctx, account.Schema(), event.Schema(), alert.Schema(), spool.Schema(), signer.Schema(), letter.Schema(), sender.Schema(), queue.Schema(), node.Schema(), reason.Schema(), submission.Schema()); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	secret, err := h.secret(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if h.resolver, err = newResolver(h.cfg.DNS, reg); err != nil {
		return err
	}
	event.Measure(reg, h.db)
	scramKey, err := secret.Derive("mittente SCRAM salt")
	if err != nil {
		return err
	}
	h.accounts = account.New(h.db, account.Deps{ScramKey: scramKey}, reg)
	h.spool = spool.New(h.db, spool.Config{ContentMax: h.cfg.contentMax()}, reg)
	h.queue = queue.New(queue.Deps{
		DB: h.db, Spool: h.spool, Retention: h.cfg.retention(), Schedule: h.schedule, Paused: h.paused, Log: deps.log,
	}, reg)
	if err := h.senderRooms(secret, reg); err != nil {
		return err
	}
	if err := h.db.Batch(ctx, func(tx *db.Tx) error {
		return errors.Join(h.signer.CheckSecret(tx), h.accounts.Bootstrap(tx))
	}); err != nil {
		return err
	}
	return h.signer.House(ctx)
}

// senderRooms makes the rooms that know whom mail may come from.
func (h *house) senderRooms(secret signer.Secret, reg prometheus.Registerer) error {
	key, err := secret.Derive(letter.LinkPurpose)
	if err != nil {
		return err
	}
	if h.letters, err = letter.New(h.db, key); err != nil {
		return err
	}
	h.signer, err = signer.New(signer.Deps{DB: h.db, Resolver: h.resolver, Secret: secret, Hostname: h.cfg.Hostname}, reg)
	if err != nil {
		return err
	}
	h.senders, err = sender.New(sender.Deps{
		DB: h.db, Resolver: h.resolver, Signer: h.signer, Letters: h.letters, Hostname: h.cfg.Hostname,
	}, reg)
	return err
}

// schedule is what a list says of retries. The house's serves for a list that
// can't be read: mail must not wait for its settings.
func (h *house) schedule(tx *db.Tx, l id.List) queue.Schedule {
	list, err := h.accounts.ListIn(tx, l)
	if err != nil {
		return queue.Schedule{}
	}
	return queue.Schedule{Steps: list.Retry, Lifetime: list.Lifetime, DelayAfter: list.DelayAfter}
}

// paused reports whether a list's mail is stopped.
func (h *house) paused(tx *db.Tx, l id.List) bool {
	list, err := h.accounts.ListIn(tx, l)
	return err == nil && list.Paused
}

// speed is the hourly speeds of an account and of one of its users. Who can't be
// read has none: mail must not wait for its settings.
func (h *house) speed(ctx context.Context, a id.Account, user string) (s dispatch.Speed) {
	if owner, err := h.accounts.AccountByID(ctx, a); err == nil {
		s.Account = owner.SpeedPerHour
	}
	if user == "" {
		return s
	}
	if u, err := h.accounts.UserByNameCached(ctx, user); err == nil {
		s.User = u.SpeedPerHour
	}
	return s
}

// minTLS is what a list demands of connections. A list that is not there any more
// demands nothing.
func (h *house) minTLS(ctx context.Context, l id.List) (route.TLSPolicy, error) {
	list, err := h.accounts.ListByID(ctx, l)
	if errors.Is(err, account.ErrNotFound) {
		return route.TLSMay, nil
	}
	if err != nil {
		return "", err
	}
	return route.ParseTLSPolicy(list.MinTLS)
}

func (h *house) close() error { return h.db.Close() }

// contentMax is how many bytes settled content may take: a tenth of the disk by default.
func (l *loaded) contentMax() int64 {
	if l.Storage.ContentMaxBytes > 0 {
		return l.Storage.ContentMaxBytes
	}
	var st unix.Statfs_t
	if err := unix.Statfs(l.DataDir, &st); err != nil {
		return 0
	}
	return int64(st.Blocks) * int64(st.Bsize) / 10 //nolint:gosec,unconvert // no disk has 2^63 bytes; other systems have other types
}

// secret returns the key that seals what is secret in the database. It is made
// only for a database that has none yet: a lost key is not to be replaced in silence.
func (h *house) secret(ctx context.Context) (signer.Secret, error) {
	if h.cfg.secret != "" {
		return signer.ParseSecret(h.cfg.secret)
	}
	var sealed bool
	err := h.db.View(ctx, func(tx *db.Tx) (err error) {
		sealed, err = signer.Sealed(tx)
		return err
	})
	if err != nil {
		return signer.Secret{}, err
	}
	if !sealed {
		return signer.MakeSecret(h.cfg.secretPath())
	}
	secret, err := signer.LoadSecret(h.cfg.secretPath())
	if errors.Is(err, fs.ErrNotExist) {
		return secret, fmt.Errorf("the secret key %s is missing, and the database was made with it: put it back", h.cfg.secretPath())
	}
	return secret, err
}

// newResolver falls back to a name server on this host where the system names
// none, as the C library does.
func newResolver(c DNSConfig, reg prometheus.Registerer) (*dns.Resolver, error) {
	r, err := dns.New(dns.Config{Servers: c.Servers}, reg)
	if err != nil && len(c.Servers) == 0 {
		return dns.New(dns.Config{Servers: []string{"127.0.0.1:53"}}, reg)
	}
	return r, err
}

// actor is who the audit log says did it: the name of the system's user.
func actor() string {
	for _, name := range []string{os.Getenv("SUDO_USER"), os.Getenv("DOAS_USER")} {
		if name != "" {
			return name
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// change runs a change and its entry in the audit log in one transaction.
func (h *house) change(ctx context.Context, entry event.Audit, do func(*db.Tx, *event.Audit) error) error {
	return h.db.Batch(ctx, func(tx *db.Tx) error {
		e := entry
		if err := do(tx, &e); err != nil {
			return err
		}
		e.Actor = h.actor
		return event.Record(tx, e)
	})
}

// accountID finds an account by its number.
func (h *house) accountID(tx *db.Tx, number int64) (id.Account, error) {
	acc, err := h.accounts.Account(tx, number)
	return acc.ID, err
}
