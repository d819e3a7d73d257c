package dispatch

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/mail"
)

const (
	longDead    = time.Hour        // a site that is dead for so long is worth a word
	longNoDNS   = 10 * time.Minute // and so is a resolver
	alertsApart = 15 * time.Minute // of the same trouble
)

// troubled raises what an operator should know of a site's trouble: that it
// refuses us, or has been dead for long. The lock is held.
func (d *Dispatcher) troubled(s *site, o mail.Outcome, now time.Time) {
	facts := map[string]string{"site": s.name, "reply": o.Reply(), "remote": o.RemoteMTA, "remote_address": o.RemoteAddr}
	if o.Ours && apartFrom(s.refused, now) {
		s.refused = now
		d.raise(alert.Alert{Kind: alert.SendingProblem, Key: "refused by " + s.name, LastAt: now, Facts: facts})
	}
	since, until := s.Since(now)
	if !since.IsZero() && now.Sub(since) >= longDead && apartFrom(s.troubled, now) {
		s.troubled = now
		facts["since"], facts["next"] = since.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339)
		facts["waiting"] = strconv.Itoa(s.waiting)
		d.raise(alert.Alert{Kind: alert.Queue, Key: "dead site " + s.name, LastAt: now, Facts: facts})
	}
}

// apartFrom reports whether the last alert was raised long enough ago; one in the
// future was raised before the clock was put back.
func apartFrom(last, now time.Time) bool {
	since := now.Sub(last)
	return since >= alertsApart || since < 0
}

// answered notes what planning says of the DNS, and raises that it has not
// answered for long, whatever was asked. The lock is held.
func (d *Dispatcher) answered(domain mail.Domain, noWay *mail.Outcome, now time.Time) {
	if noWay == nil || noWay.Action != mail.Deferred {
		d.noDNS = time.Time{}
		return
	}
	if d.noDNS.IsZero() || now.Before(d.noDNS) {
		d.noDNS = now
	}
	if now.Sub(d.noDNS) < longNoDNS || !apartFrom(d.noDNSRaised, now) {
		return
	}
	d.noDNSRaised = now
	d.raise(alert.Alert{Kind: alert.CertificatesDNS, Key: "resolver", LastAt: now, Facts: map[string]string{
		"domain": string(domain), "reply": noWay.Reply(), "since": d.noDNS.UTC().Format(time.RFC3339),
	}})
}

// raise writes an alert down, without waiting. When that fails it is raised again
// at the next occasion. The lock is held.
func (d *Dispatcher) raise(a alert.Alert) {
	if d.draining {
		return
	}
	d.tasks.Go(func() {
		ctx := context.Background()
		err := d.deps.DB.Batch(ctx, func(tx *db.Tx) error { return alert.Raise(tx, a) })
		if err != nil {
			d.deps.Log.LogAttrs(ctx, slog.LevelWarn, "alert can't be raised", slog.String("kind", string(a.Kind)),
				slog.String("key", a.Key), slog.Any("error", err))
		}
	})
}
