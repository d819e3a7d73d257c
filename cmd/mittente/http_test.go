package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func openWeb(t *testing.T, c HTTPConfig, cert *certificate) *web {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "mittente_test", Help: "Nothing."}))
	w, err := newWeb(t.Context(), c, cert, reg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestMetricsAllow: only the address of the connection counts, no header.
func TestMetricsAllow(t *testing.T) {
	w := openWeb(t, HTTPConfig{Listen: "127.0.0.1:0", MetricsAllow: []string{"127.0.0.0/8", "::1", "192.0.2.7"}}, nil)
	defer w.listener.Close()
	for remote, want := range map[string]int{
		"127.0.0.1:999": 200, "127.8.9.1:1": 200, "[::1]:999": 200, "[::ffff:127.0.0.1]:5": 200, "192.0.2.7:4": 200,
		"192.0.2.8:4": 403, "[::2]:4": 403, "203.0.113.9:80": 403, "": 403, "@": 403,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = remote
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		rec := httptest.NewRecorder()
		w.routes().ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("from %q: %d, want %d", remote, rec.Code, want)
		}
		if shown := strings.Contains(rec.Body.String(), "mittente_test"); shown != (want == 200) {
			t.Errorf("from %q: metrics shown: %v", remote, shown)
		}
	}
}

// TestReadiness walks through what a load balancer sees in the life of a server.
func TestReadiness(t *testing.T) {
	w := openWeb(t, HTTPConfig{Listen: "127.0.0.1:0"}, nil)
	defer w.listener.Close()
	get := func(method, path string) (int, string) {
		rec := httptest.NewRecorder()
		w.routes().ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		return rec.Code, strings.TrimSpace(rec.Body.String())
	}
	want := func(method, path string, code int, text string) {
		t.Helper()
		if c, s := get(method, path); c != code || !strings.Contains(s, text) {
			t.Errorf("%s %s: %d %q, want %d %q", method, path, c, s, code, text)
		}
	}
	want("GET", "/readyz", 503, "starting")
	w.ready = func(context.Context) error { return nil }
	want("GET", "/readyz", 200, "ready")
	w.ready = func(context.Context) error { return errors.New("no space left\nfor it") }
	want("GET", "/readyz", 503, "no space left for it")
	want("GET", "/healthz", 200, "ok")
	w.leaving.Store(true)
	want("GET", "/readyz", 503, "shutting down")
	want("GET", "/healthz", 200, "ok")
	want("POST", "/healthz", 405, "")
	for _, path := range []string{"/index.html", "/authorise", "/authorise/", "/authorise/x", "/authorise/msg_06h0siad61omd1gkgcque6j1qg", "/authorise/evt_06h0siad61omd1gkgcque6j1qg/x", "/metrics/", "/healthz/x", "/debug/pprof/"} {
		want("GET", path, 404, "")
	}
}

// TestPages: what people see who follow the link of a refusal, or come by.
func TestPages(t *testing.T) {
	w := openWeb(t, HTTPConfig{Listen: "127.0.0.1:0"}, nil)
	defer w.listener.Close()
	const refusal = "evt_06h0siad61omd1gkgcque6j1qg"
	for path, wants := range map[string][]string{
		"/":                     {"SMTP relay", "/healthz", "/readyz", "not there yet"},
		"/authorise/" + refusal: {"Refusal " + refusal, "mittente user edit NAME --sender ADDRESS", "mittente message refused", "mittente alert ls"},
	} {
		rec := httptest.NewRecorder()
		w.routes().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if kind := rec.Header().Get("Content-Type"); rec.Code != 200 || kind != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d, %s", path, rec.Code, kind)
		}
		for _, want := range wants {
			if !strings.Contains(rec.Body.String(), want) {
				t.Errorf("%s: %q has no %q", path, rec.Body, want)
			}
		}
	}
}

// TestWebRuns serves over TLS and ends with its context.
func TestWebRuns(t *testing.T) {
	cert, err := openCertificate(KeyPairConfig{}, t.TempDir(), "localhost.example")
	if err != nil {
		t.Fatal(err)
	}
	w := openWeb(t, HTTPConfig{Listen: "127.0.0.1:0"}, cert)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Get("https://" + w.addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ok\n" {
		t.Errorf("got %q", body)
	}
	client.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := newWeb(t.Context(), HTTPConfig{Listen: ""}, nil, nil, nil); err != nil {
		t.Error(err)
	}
}
