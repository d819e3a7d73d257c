package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// signals reloads what can be reloaded at SIGHUP.
func (r *relay) signals(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			tellSystemd(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
			r.reload(ctx)
			tellSystemd(daemon.SdNotifyReady)
		}
	}
}

// reload reads certificates and configuration again, and says what holds now
// and what waits for a restart.
func (r *relay) reload(ctx context.Context) {
	for _, c := range []*certificate{r.smtpCert, r.httpCert} {
		if c == nil {
			continue
		}
		if err := c.reload(); err != nil {
			r.log.LogAttrs(ctx, slog.LevelError, "certificate kept as it was", slog.String("error", err.Error()))
			continue
		}
		r.log.LogAttrs(ctx, slog.LevelInfo, "certificate reloaded", slog.String("file", c.pair.Cert))
	}
	if r.load == nil {
		return
	}
	l, err := r.load()
	if err != nil {
		r.log.LogAttrs(ctx, slog.LevelError, "configuration kept as it was", slog.String("error", err.Error()))
		return
	}
	taken, waiting := r.differences(l)
	if r.level != nil {
		r.level.Set(logLevel(l.Log.Level))
		r.cfg.Log.Level = l.Log.Level
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "configuration reloaded",
		slog.String("in_effect", strings.Join(taken, " ")), slog.String("needs_restart", strings.Join(waiting, " ")))
}

// differences names the keys that have changed, those in effect at once apart.
func (r *relay) differences(l *loaded) (taken, waiting []string) {
	now := map[string]any{}
	for _, s := range settings(&r.cfg.Config) {
		now[s.key] = s.value.Interface()
	}
	for _, s := range settings(&l.Config) {
		before, known := now[s.key]
		delete(now, s.key)
		switch {
		case known && reflect.DeepEqual(before, s.value.Interface()):
		case s.key == "log.level":
			taken = append(taken, s.key)
		default:
			waiting = append(waiting, s.key)
		}
	}
	for key := range now { // routes that are gone
		waiting = append(waiting, key)
	}
	return taken, waiting
}

// raiseFileLimit asks for as many open files as 4,000 ports and their clients need.
func raiseFileLimit(ctx context.Context, log *slog.Logger) {
	const want, enough = 65_536, 12_000 // two addresses with 3,977 ports each, and 4,000 clients
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= want {
		return
	}
	raised := unix.Rlimit{Cur: want, Max: max(want, limit.Max)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
		return
	}
	raised = unix.Rlimit{Cur: limit.Max, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil || raised.Cur < enough {
		log.LogAttrs(ctx, slog.LevelWarn, "the limit of open files is low for many ports and clients",
			slog.Uint64("limit", limit.Max), slog.String("advice", fmt.Sprintf("ulimit -n %d, or LimitNOFILE=%d", want, want)))
	}
}
