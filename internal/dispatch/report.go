package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"mittente/internal/db"
	"mittente/internal/reason"
	"mittente/internal/throttle"
)

const (
	tellEvery = 2 * time.Second
	tellSlice = 100   // rows per transaction
	maxTold   = 2_000 // sites and domains that are told of at once
)

// tell writes every few seconds what holds mail up here, for other processes to
// read (room reason): only of what had mail here for so long, only what changed.
func (d *Dispatcher) tell(ctx context.Context) {
	if d.cfg.Node == "" {
		return
	}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	var written map[standing]string // nil: nobody knows what an earlier start has left
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var err error
		if written == nil {
			if err = d.clear(ctx); err == nil {
				written = make(map[standing]string)
			}
		}
		if err == nil {
			err = d.tellOnce(ctx, written)
		}
		if err != nil && ctx.Err() == nil {
			d.deps.Log.LogAttrs(ctx, slog.LevelWarn, "what holds mail up can't be written down", slog.Any("error", err))
		}
	}
}

// clear takes back what an earlier start of this node has told.
func (d *Dispatcher) clear(ctx context.Context) error {
	err := d.deps.DB.Batch(ctx, func(tx *db.Tx) error { return reason.Clear(tx, d.cfg.Node) })
	if err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	return nil
}

// standing names what a row tells of.
type standing struct {
	kind reason.Kind
	name string
}

// tellOnce brings what is written to what stands now.
func (d *Dispatcher) tellOnce(ctx context.Context, written map[standing]string) error {
	now := d.standing(time.Now())
	var changed []reason.Row
	for s, doc := range now {
		if written[s] != doc {
			changed = append(changed, reason.Row{Kind: s.kind, Name: s.name, Report: []byte(doc)})
		}
	}
	for s := range written {
		if _, still := now[s]; !still {
			changed = append(changed, reason.Row{Kind: s.kind, Name: s.name})
		}
	}
	for slice := range slices.Chunk(changed, tellSlice) {
		err := d.deps.DB.Batch(ctx, func(tx *db.Tx) error { return reason.Write(tx, d.cfg.Node, slice) })
		if err != nil {
			return fmt.Errorf("dispatch: %w", err)
		}
		for _, r := range slice {
			if s := (standing{r.Kind, r.Name}); r.Report == nil {
				delete(written, s)
			} else {
				written[s] = string(r.Report)
			}
		}
	}
	return nil
}

// rows is what is told, in the making.
type rows map[standing]string

func (r rows) put(kind reason.Kind, name string, v any) {
	if doc, err := json.Marshal(v); err == nil {
		r[standing{kind, name}] = string(doc)
	}
}

// standing is what holds mail up now.
func (d *Dispatcher) standing(now time.Time) map[standing]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(rows)
	if h := d.house(); h != (reason.House{}) {
		all.put(reason.OfHouse, "", h)
	}
	d.putSites(all, now)
	for a, p := range d.paces.account {
		if p.Free(now) < 1 && len(all) < 2*maxTold {
			all.put(reason.OfAccount, a.String(), p.report(now))
		}
	}
	for u, p := range d.paces.user {
		if p.Free(now) < 1 && len(all) < 2*maxTold {
			all.put(reason.OfUser, u, p.report(now))
		}
	}
	return all
}

// putSites tells of sites, and which domains' mail goes there. The lock is held.
func (d *Dispatcher) putSites(all rows, now time.Time) {
	for name, s := range d.sites {
		if lasts := s.lasts(now); lasts && len(all) < maxTold {
			all.put(reason.OfSite, name, d.siteReport(s, now))
		}
	}
	for name, dom := range d.domains {
		if dom.plan == nil || len(all) >= maxTold {
			continue
		}
		if _, ok := all[standing{reason.OfSite, dom.plan.Site}]; ok {
			all.put(reason.OfDomain, string(name), reason.Domain{Site: dom.plan.Site})
		}
	}
}

// lasts reports whether there is something to tell of a site: it is dead, or has
// had mail here since the last look.
func (s *site) lasts(now time.Time) bool {
	had := s.seen
	s.seen = s.Active() > 0 || s.Len() > 0
	return s.Dead(now) || had && s.seen
}

// house is what holds up all mail; numbers are rounded, so that a row is not
// written for every message. The lock is held.
func (d *Dispatcher) house() reason.House {
	var h reason.House
	switch {
	case d.claimErr != nil:
		h.Trouble, h.Since = d.claimErr.Error(), d.claimFailing
	case len(d.unsettled) > 0:
		h.Trouble, h.Since = "outcomes can't be written down", d.unsettledSince
	}
	if d.count > d.cfg.MaxRecipients/4 {
		part := max(1, d.cfg.MaxRecipients/20)
		h.Memory, h.Most = d.count/part*part, d.cfg.MaxRecipients
	}
	return h
}

// siteReport is what there is to tell of a site. The lock is held.
func (d *Dispatcher) siteReport(s *site, now time.Time) reason.Site {
	limit := s.Limit()
	r := reason.Site{
		Limit: limit.Name, Connections: limit.Connections, Together: s.Together(),
		Window: s.Window(), Active: s.Active(), Waiting: s.Len(),
		PerSecond: float64(int(s.PerSecond(now)*10)) / 10,
	}
	if limit.Messages > 0 {
		r.Rate = fmt.Sprintf("%d messages in %v", limit.Messages, limit.Per)
	}
	binding, until := s.Check(now)
	if r.Binding = string(binding); binding == throttle.Dead || binding == throttle.Rate {
		r.Until = until.UTC()
	}
	if since, _ := s.Since(now); !since.IsZero() {
		r.DeadSince, r.Asked, r.Trouble = since.UTC(), s.Asked(), s.trouble.Reply()
	}
	active, _ := d.ready.Active()
	r.ServersBusy = active >= d.cfg.Deliveries
	for b := range s.running {
		r.Running = append(r.Running, reason.Running{Message: b.Entries[0].letter.message.ID, Since: b.Began.UTC()})
	}
	slices.SortFunc(r.Running, func(a, b reason.Running) int { return a.Since.Compare(b.Since) })
	return r
}

func (p *pace) report(now time.Time) reason.Pace {
	return reason.Pace{PerHour: p.speed, Next: p.Next(0, now).UTC().Truncate(time.Second)}
}
