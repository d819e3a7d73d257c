// Package consent asks the owner of an address by mail whether an account may send from it, and takes the answer.
package consent

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/notify"
	"mittente/internal/report"
	"mittente/internal/sender"
)

// Config says how the house shows itself.
type Config struct {
	Hostname  string      // of this relay: it stands in letters and on the page
	PublicURL string      // where the page is served from, without a path, such as "https://mx.example.org"
	Zone      report.Zone // of the times that people read
}

// Deps is what the room works with.
type Deps struct {
	DB       *db.DB
	Letters  *letter.Letters
	Senders  *sender.Senders
	Accounts *account.Accounts
	Notifier *notify.Notifier
	Log      *slog.Logger // of what Run can only note; nil: nowhere
}

// Consent is safe for concurrent use.
type Consent struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	letter  *template.Template
	page    *template.Template
	guests  *guests
	wake    chan struct{} // holds one signal
}

//go:embed letter.html page
var files embed.FS

// New returns the room; it starts nothing. reg may be nil. Letters go out while
// Run runs, and lead to where Handler is served.
func New(cfg Config, deps Deps, reg prometheus.Registerer) (*Consent, error) {
	if cfg.Hostname == "" || cfg.PublicURL == "" {
		return nil, errors.New("consent: host name or public address is missing")
	}
	cfg.PublicURL = strings.TrimSuffix(cfg.PublicURL, "/")
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	letter, err := template.New("letter.html").Funcs(template.FuncMap{"pieces": pieces}).ParseFS(files, "letter.html")
	if err != nil {
		return nil, err
	}
	page, err := template.New("page.html").Funcs(template.FuncMap{"pieces": pieces}).ParseFS(files, "page/page.html")
	if err != nil {
		return nil, err
	}
	c := &Consent{
		cfg: cfg, deps: deps, metrics: newMetrics(reg), letter: letter, page: page, guests: newGuests(), wake: make(chan struct{}, 1),
	}
	deps.Letters.OnDue(c.Wake)
	return c, nil
}

const (
	lettersAtOnce = 20
	lookEvery     = time.Minute
	firstPause    = 5 * time.Second
)

// Wake has Run look for letters. It does not block.
func (c *Consent) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run sends the letters that are due (letter.Letters.Due) until ctx ends. What
// fails is tried again.
func (c *Consent) Run(ctx context.Context) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	pause := firstPause
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-wait.C:
		}
		if err := c.send(ctx); err != nil && ctx.Err() == nil {
			c.metrics.failures.Inc()
			c.deps.Log.LogAttrs(ctx, slog.LevelError, "letters to owners of addresses are late", slog.Any("error", err))
			wait.Reset(pause)
			pause = min(2*pause, lookEvery)
			continue
		}
		pause = firstPause
		wait.Reset(lookEvery)
	}
}

// send enqueues all letters that are due. One that can't be sent keeps none of
// those after it up: it returns the first error after all have been tried.
func (c *Consent) send(ctx context.Context) error {
	var first error
	var last letter.Letter
	for ctx.Err() == nil {
		var due []letter.Letter
		err := c.deps.DB.View(ctx, func(tx *db.Tx) (err error) {
			due, err = c.deps.Letters.Due(tx, last, lettersAtOnce)
			return err
		})
		if err != nil {
			return cmp.Or(first, err)
		}
		for _, l := range due {
			last = l
			if err := c.sendOne(ctx, l); err != nil && !errors.Is(err, account.ErrConflict) { // another node was quicker, or nobody asks any more
				if errors.Is(err, db.ErrFull) {
					return err
				}
				first = cmp.Or(first, err)
			}
		}
		if len(due) < lettersAtOnce {
			return first
		}
	}
	return first
}

func (c *Consent) sendOne(ctx context.Context, l letter.Letter) error {
	composed, err := c.compose(ctx, l)
	if err != nil {
		return err
	}
	return c.deps.DB.Batch(ctx, func(tx *db.Tx) error {
		if err := c.deps.Letters.Sent(tx, l); err != nil {
			return err
		}
		tx.OnCommit(c.metrics.letters.WithLabelValues(string(l.Kind)).Inc)
		return c.deps.Notifier.Enqueue(tx, composed)
	})
}

// who is how an account is named to people who know nothing of it.
func (c *Consent) who(ctx context.Context, a id.Account) (account.Account, string) {
	acc, err := c.deps.Accounts.AccountByID(ctx, a)
	if err != nil || acc.Name == "" || acc.Name == "default" { // nobody has given it a name
		return acc, c.cfg.Hostname
	}
	return acc, short(acc.Name, maxName)
}

// lang is the language of a letter to which nobody gave one: that of the
// account's first list.
func (c *Consent) lang(ctx context.Context, l letter.Letter, acc account.Account) string {
	lang := l.Lang
	if lang == "" {
		_ = c.deps.DB.View(ctx, func(tx *db.Tx) error { // else in English
			lists, err := c.deps.Accounts.Lists(tx, acc.Number)
			if err == nil && len(lists) > 0 {
				lang = lists[0].Lang
			}
			return err
		})
	}
	if lang != italian {
		lang = english
	}
	return lang
}
