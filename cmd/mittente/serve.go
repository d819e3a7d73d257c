package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/consent"
	"mittente/internal/db"
	"mittente/internal/delivery"
	"mittente/internal/dispatch"
	"mittente/internal/msa"
	"mittente/internal/notify"
	"mittente/internal/queue"
	"mittente/internal/route"
	"mittente/internal/smtpserver"
	"mittente/internal/submission"
)

// nodeName is the name of the one node that can work over a SQLite folder. It
// does not follow the hostname: a renamed server still owns its leases.
const nodeName = "local"

type serveCmd struct{}

// Run runs the relay until it is told to end.
func (serveCmd) Run(ctx context.Context, a *app) error {
	l, err := a.load()
	if err != nil {
		return err
	}
	log, level := newLog(a.err, l.Log)
	lost, err := becomeServer(l.DataDir)
	if err != nil {
		return err
	}
	raiseFileLimit(ctx, log)
	r, err := newRelay(ctx, l, log, lost)
	if err != nil {
		return err
	}
	r.level, r.load = level, func() (*loaded, error) { return load(a.config, a.in, a.environ) }
	if a.config == "-" {
		r.load = nil // standard input can't be read again
	}
	return errors.Join(r.run(ctx), r.close())
}

// relay is all rooms, wired; nothing of it runs yet.
type relay struct {
	cfg   *loaded
	log   *slog.Logger
	level *slog.LevelVar
	load  func() (*loaded, error) // reads the configuration again; nil: can't be

	house      *house
	gate       *submission.Gate
	courier    *delivery.Courier
	dispatcher *dispatch.Dispatcher
	notifier   *notify.Notifier
	consent    *consent.Consent
	door       *msa.Door
	web        *web
	smtpCert   *certificate
	httpCert   *certificate // nil: plain HTTP

	registry *prometheus.Registry
	report   nodeReport
	lowPorts string // why ports below 1024 can't be bound, where that is known
	doubt    *readiness
	release  func() // the lock on the data folder
}

// newRelay opens the database, makes every room, and binds the ports. lowPorts
// says why ports below 1024 can't be had, where that is known.
func newRelay(ctx context.Context, l *loaded, log *slog.Logger, lowPorts string) (*relay, error) {
	if err := makeDataDir(l.DataDir); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	release, err := takeLock(l.DataDir)
	if err != nil {
		return nil, err
	}
	r := &relay{cfg: l, log: log, lowPorts: lowPorts, release: release}
	if err := r.build(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// build makes the rooms from the bottom up.
func (r *relay) build(ctx context.Context) error {
	r.registry = prometheus.NewRegistry()
	reg := r.registry
	var err error
	if r.house, err = openHouse(ctx, r.cfg, houseDeps{log: r.log, reg: reg}); err != nil {
		return err
	}
	if err := r.certificates(reg); err != nil {
		return err
	}
	if err := r.house.queue.Start(ctx, nodeName); err != nil {
		return err
	}
	if err := r.outward(reg); err != nil {
		return err
	}
	if r.web, err = newWeb(ctx, r.cfg.HTTP, r.httpCert, reg, r.log); err != nil {
		return err
	}
	if err := r.inward(reg); err != nil {
		return err
	}
	return r.open(ctx)
}

func (r *relay) certificates(reg *prometheus.Registry) error {
	var err error
	if r.smtpCert, err = openCertificate(r.cfg.TLS, r.cfg.DataDir, r.cfg.Hostname); err != nil {
		return err
	}
	if r.cfg.HTTP.Cert != "" {
		if r.httpCert, err = openCertificate(KeyPairConfig{r.cfg.HTTP.Cert, r.cfg.HTTP.Key}, "", ""); err != nil {
			return err
		}
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mittente_build_info", Help: "1, with the version as label.",
		ConstLabels: prometheus.Labels{"version": buildVersion()},
	})
	info.Set(1)
	return errors.Join(reg.Register(r.smtpCert.expires), reg.Register(info),
		reg.Register(collectors.NewGoCollector()), reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// outward makes the rooms by which mail leaves.
func (r *relay) outward(reg prometheus.Registerer) error {
	h := r.house
	router, err := route.New(route.Config{Hostname: r.cfg.Hostname, Port: r.cfg.Delivery.Port, Static: r.cfg.routes()}, h.resolver)
	if err != nil {
		return err
	}
	if r.courier, err = delivery.New(delivery.Config{Hostname: r.cfg.Hostname}, router, r.log, reg); err != nil {
		return err
	}
	r.dispatcher, err = dispatch.New(dispatch.Deps{
		DB: h.db, Queue: h.queue, Spool: h.spool, Courier: r.courier, Senders: h.signer,
		Speed: h.speed, MinTLS: h.minTLS, Log: r.log, Reg: reg,
	}, dispatch.Config{Node: nodeName, Sites: r.cfg.sites()})
	if err != nil {
		return err
	}
	h.queue.OnDue(r.dispatcher.Wake)
	h.queue.OnWish(r.dispatcher.Obey)
	h.db.OnForeignChange(func() {
		h.accounts.Invalidate()
		h.signer.Invalidate()
		h.letters.Invalidate()
		h.senders.Invalidate()
		h.queue.ListsChanged()
		r.dispatcher.Changed()
		r.notifier.Wake()
		r.consent.Wake()
	})
	return r.letters(reg)
}

// inward makes the rooms by which mail comes in.
func (r *relay) inward(reg prometheus.Registerer) error {
	h := r.house
	r.gate = submission.New(submission.Config{Hostname: r.cfg.Hostname}, submission.Deps{
		DB: h.db, Accounts: h.accounts, Senders: h.senders, Spool: h.spool, Queue: h.queue, Ready: r.dispatcher.Fresh,
	}, reg)
	var own []netip.AddrPort
	if at := r.web.addr(); at.IsValid() {
		own = append(own, at)
	}
	var err error
	smtp := r.cfg.SMTP
	r.door, err = msa.New(msa.Config{
		PublicURL: r.cfg.HTTP.PublicURL, PlaintextAuth: smtp.PlaintextAuth,
		Wire: smtpserver.Config{
			Hostname: r.cfg.Hostname, Bind: smtp.Bind, Ports: smtp.Ports, Exclude: own,
			MaxMessageBytes: smtp.MaxMessageBytes, MaxRecipients: smtp.MaxRecipients, TLS: r.smtpCert.config(),
			BareNewlines: smtp.BareNewlines, LongLines: smtp.LongLines,
			MaxConnections: smtp.MaxConnections, MaxPerClient: smtp.MaxPerClient, MaxPerConnection: smtp.MaxPerConn,
		},
	}, msa.Deps{
		Gate: r.gate, Authenticator: h.accounts,
		Exchange: func(a account.ScramAttempt) msa.Exchange { return h.accounts.Exchange(a) },
		Log:      r.log, Registerer: reg,
	})
	return err
}

// open binds the SMTP ports and reports what was bound.
func (r *relay) open(ctx context.Context) error {
	bound, skipped, err := r.door.Listen(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	skipped = r.explain(skipped)
	r.report = nodeReport{
		Version: buildVersion(), PID: os.Getpid(), StartedAt: time.Now().UTC(), Hostname: r.cfg.Hostname, Ports: portReport(bound, skipped),
	}
	if at := r.web.addr(); at.IsValid() {
		r.report.HTTP = at.String()
	}
	for _, s := range skipped {
		r.log.LogAttrs(ctx, slog.LevelWarn, "ports skipped", slog.String("address", s.Addr.String()),
			slog.String("ports", s.Ports), slog.String("reason", s.Reason))
	}
	r.doubt = &readiness{room: r.house.db.Room, write: r.tell}
	return r.tell(ctx)
}

// tell writes what only this process knows where other processes read it.
func (r *relay) tell(ctx context.Context) error {
	doc, err := json.Marshal(r.report)
	if err != nil {
		return err
	}
	return r.house.queue.Report(ctx, nodeName, doc)
}

// explain says of ports that were not permitted why, where this process knows better.
func (r *relay) explain(skipped []smtpserver.Skipped) []smtpserver.Skipped {
	if r.lowPorts == "" {
		return skipped
	}
	return convert(skipped, func(s smtpserver.Skipped) smtpserver.Skipped {
		if strings.HasPrefix(s.Reason, "not permitted") {
			s.Reason = "not permitted: " + r.lowPorts
		}
		return s
	})
}

// run runs every room until ctx ends, then ends them in the order in which mail
// moves: no new mail, then none out, then the tables.
func (r *relay) run(ctx context.Context) error {
	h := r.house
	door := stage{r.door.Run}
	answers := stage{r.notifier.Run, r.ask}
	if r.web != nil {
		r.web.ready, r.web.links = r.ready, r.consent.Handler()
		answers = append(answers, r.web.run)
	}
	tables := stage{h.accounts.Run, h.signer.Run, h.letters.Run, h.senders.Run, h.spool.Run, h.queue.Run, r.keepAlerts, r.doubt.run, r.signals, watchdog(r.alive)}
	for _, c := range []*certificate{r.smtpCert, r.httpCert} {
		if c != nil {
			tables = append(tables, func(ctx context.Context) error { return c.run(ctx, r.log) })
		}
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "serving", slog.String("version", buildVersion()), slog.String("hostname", r.cfg.Hostname),
		slog.String("data_dir", r.cfg.DataDir), slog.Int("ports", r.report.bound()), slog.String("http", r.report.HTTP))
	tellSystemd(daemon.SdNotifyReady + "\nSTATUS=" + fmt.Sprintf("serving on %d ports", r.report.bound()))
	context.AfterFunc(ctx, r.leave)
	err := runStages(ctx, door, answers, stage{r.dispatcher.Run}, tables, stage{h.db.Run})
	r.log.LogAttrs(context.WithoutCancel(ctx), slog.LevelInfo, "ended")
	return err
}

// keepAlerts lets alerts go when the events they tell of go.
func (r *relay) keepAlerts(ctx context.Context) error {
	return alert.Keep(ctx, r.house.db, r.cfg.retention().Events, func(err error) {
		r.log.LogAttrs(ctx, slog.LevelWarn, "old alerts can't be removed", slog.String("error", err.Error()))
	})
}

// leave tells who asks that the end has begun.
func (r *relay) leave() {
	tellSystemd(daemon.SdNotifyStopping)
	if r.web != nil {
		r.web.leaving.Store(true)
	}
	r.log.LogAttrs(context.Background(), slog.LevelInfo, "ending: running transactions finish first; a second signal ends at once")
}

// ready reports why mail can't be taken in or sent on now, if it can't.
func (r *relay) ready(ctx context.Context) error {
	if err := r.doubt.check(); err != nil {
		return err
	}
	if err := r.dispatcher.Trouble(); err != nil {
		return err
	}
	return r.alive(ctx)
}

// alive reports whether the database answers.
func (r *relay) alive(ctx context.Context) error {
	return r.house.db.View(ctx, func(tx *db.Tx) error {
		_, err := r.house.queue.Reports(tx)
		return err
	})
}

// close undoes newRelay, whatever of it was done.
func (r *relay) close() error {
	var errs []error
	if r.courier != nil {
		r.courier.Close()
	}
	if r.house != nil {
		errs = append(errs, r.house.close())
	}
	r.release()
	return errors.Join(errs...)
}

// routes is [[route]] in the words of room route.
func (l *loaded) routes() []route.Static {
	return convert(l.Routes, func(c RouteConfig) route.Static {
		return route.Static{
			Domain: c.Domain, NextHop: c.NextHop, TLS: route.TLSPolicy(c.TLS), Username: c.Username, Password: c.Password,
		}
	})
}

// retention is [retention] in the words of room queue.
func (l *loaded) retention() queue.Retention {
	// A queue takes 0 for its default; to keep nothing is to keep it for a moment.
	keep := func(d Duration) time.Duration {
		n, _ := d.Parse() // validate has read it
		return max(n, time.Nanosecond)
	}
	return queue.Retention{
		Delivered: keep(l.Retention.Delivered), Failed: keep(l.Retention.Failed), Events: keep(l.Retention.Events),
	}
}
