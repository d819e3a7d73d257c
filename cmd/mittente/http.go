package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mittente/internal/id"
)

// web answers machines: health, readiness, metrics; and people who follow the
// link of a refusal or of a letter. Everything else is 404.
type web struct {
	listener net.Listener
	server   *http.Server
	allow    []netip.Prefix
	metrics  http.Handler
	ready    func(context.Context) error
	links    http.Handler // of letters to owners of addresses; set before run
	leaving  atomic.Bool  // the process is ending
}

// newWeb binds the address; nil when HTTP is off. ready says why mail can't be taken now.
func newWeb(ctx context.Context, c HTTPConfig, cert *certificate, reg *prometheus.Registry, log *slog.Logger) (*web, error) {
	if c.Listen == "" {
		return nil, nil //nolint:nilnil // off is no error
	}
	w := &web{ready: func(context.Context) error { return errors.New("starting") }, links: http.NotFoundHandler()}
	for _, text := range c.MetricsAllow {
		network, err := parseNetwork(text)
		if err != nil {
			return nil, err
		}
		w.allow = append(w.allow, network)
	}
	w.metrics = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("%w: http.listen: %w", errUnavailable, err)
	}
	w.listener = l
	if cert != nil {
		w.listener = tls.NewListener(l, cert.config())
	}
	w.server = &http.Server{
		Handler:           w.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return w, nil
}

// addr is where it listens.
func (w *web) addr() netip.AddrPort {
	if w == nil {
		return netip.AddrPort{}
	}
	at, err := netip.ParseAddrPort(w.listener.Addr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return at
}

func (w *web) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "ok\n") })
	mux.HandleFunc("GET /readyz", w.readyz)
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) { plain(rw, welcome) })
	mux.HandleFunc("GET /authorise/{id}", authorise)
	mux.HandleFunc("/v/", func(rw http.ResponseWriter, r *http.Request) { w.links.ServeHTTP(rw, r) })
	mux.HandleFunc("GET /metrics", func(rw http.ResponseWriter, r *http.Request) {
		if !w.allowed(r.RemoteAddr) {
			http.Error(rw, "metrics are not for this address: see [http] metrics_allow", http.StatusForbidden)
			return
		}
		w.metrics.ServeHTTP(rw, r)
	})
	return http.MaxBytesHandler(mux, 1<<10)
}

const welcome = `This is mittente, an SMTP relay. A web console is not there yet.

For machines: /healthz, /readyz, and /metrics from allowed networks.
`

// authorise answers the link of a refusal. Without a sign-in it says nothing of
// what is stored, not even whether there is such a refusal.
func authorise(rw http.ResponseWriter, r *http.Request) {
	event, err := id.Parse[id.Event](r.PathValue("id"))
	if err != nil {
		http.NotFound(rw, r)
		return
	}
	plain(rw, fmt.Sprintf(`Refusal %s

An address was refused as a sender. The operator of this server can allow it with

  mittente user edit NAME --sender ADDRESS     one address
  mittente user edit NAME --domain DOMAIN      every address of a domain

where NAME is the SMTP+ user that the refusal names. Before mail goes through, the
domain or the address has to be verified:

  mittente domain verify DOMAIN                by its DNS records
  mittente sender add ADDRESS                  its owner is asked by mail

This number leads the operator to the refusal and its session:

  mittente message refused
  mittente alert ls
`, event))
}

// plain writes text that no browser takes for anything else.
func plain(rw http.ResponseWriter, text string) {
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(rw, text) //nolint:gosec // plain text, and of the visitor's own only an id that was read and written anew
}

func (w *web) readyz(rw http.ResponseWriter, r *http.Request) {
	if w.leaving.Load() {
		http.Error(rw, "shutting down", http.StatusServiceUnavailable)
		return
	}
	if err := w.ready(r.Context()); err != nil {
		http.Error(rw, oneLine(err.Error(), 500), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(rw, "ready\n")
}

// allowed looks at the address of the connection alone: headers can be forged.
func (w *web) allowed(remote string) bool {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, network := range w.allow {
		if network.Contains(at.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// run serves until ctx ends, then lets running requests finish.
func (w *web) run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- w.server.Serve(w.listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("http: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := w.server.Shutdown(last); err != nil {
		_ = w.server.Close()
	}
	<-ended
	return nil
}
