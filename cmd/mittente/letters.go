package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/consent"
	"mittente/internal/mail"
	"mittente/internal/notify"
	"mittente/internal/report"
)

// letters makes the rooms that write the mail of the house itself.
func (r *relay) letters(reg prometheus.Registerer) error {
	h := r.house
	from, err := mail.ParseAddress(r.cfg.Notify.From)
	if err != nil {
		return err // validate has read it
	}
	zone := localZone(os.Getenv("TZ"), "/etc/localtime")
	r.notifier = notify.New(notify.Config{
		Hostname: r.cfg.Hostname, From: from, SigningDomain: h.signer.Host(), Zone: zone,
	}, notify.Deps{
		DB: h.db, Spool: h.spool, Queue: h.queue, Ready: r.dispatcher.Fresh, List: h.accounts.ListByID, Log: r.log,
	}, reg)
	h.queue.OnNotice(r.notifier.Wake)
	r.consent, err = consent.New(consent.Config{Hostname: r.cfg.Hostname, PublicURL: r.cfg.HTTP.PublicURL, Zone: zone}, consent.Deps{
		DB: h.db, Letters: h.letters, Senders: h.senders, Accounts: h.accounts, Notifier: r.notifier, Log: r.log,
	}, reg)
	return err
}

// ask sends letters to owners of addresses, where there is a page to answer them.
func (r *relay) ask(ctx context.Context) error {
	if r.web != nil {
		return r.consent.Run(ctx)
	}
	r.log.LogAttrs(ctx, slog.LevelWarn, "letters to owners of addresses wait: they have a link, and http.listen is empty")
	<-ctx.Done()
	return nil
}

// localZone is the zone of this host, with its name where that can be found: TZ,
// or else what the link shows to.
func localZone(tz, link string) report.Zone {
	name := strings.TrimPrefix(tz, ":")
	if target, err := os.Readlink(link); err == nil && name == "" {
		_, name, _ = strings.Cut(target, "zoneinfo/")
	}
	if name != "" {
		if place, err := time.LoadLocation(name); err == nil {
			return report.Zone{Location: place}
		}
	}
	return report.Zone{Location: time.Local}
}
