package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// metricNames lists every metric that a running server can have, those without a
// series so far included.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	l, err := load("-", strings.NewReader(strings.Replace(serverConfig, `"data"`, `"`+filepath.Join(t.TempDir(), "data")+`"`, 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRelay(t.Context(), l, slog.New(slog.DiscardHandler), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.close() })
	descs := make(chan *prometheus.Desc, 10_000)
	r.registry.Describe(descs)
	close(descs)
	names := map[string]bool{"up": true}
	fq := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		names[fq.FindStringSubmatch(d.String())[1]] = true
	}
	return names
}

// A dashboard that asks for a metric which is gone shows an empty panel, and an
// alert on one never fires: both say nothing.
func TestDeployNamesMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := metricNames(t)
	word := regexp.MustCompile(`\b(?:mittente|process|go)_[a-z0-9_]+`)
	for _, file := range []string{"../../deploy/prometheus/alerts.yml", "../../deploy/grafana/mittente.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		named := word.FindAllString(string(text), -1)
		if len(named) < 10 {
			t.Errorf("%s names %d metrics: the test looks for them in a wrong way", file, len(named))
		}
		for _, name := range named {
			if !known[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s: there is no metric %s", filepath.Base(file), name)
			}
		}
	}
}

func TestDashboardIsWellFormed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/grafana/mittente.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range board.Panels {
		if p.Title == "" || len(p.Targets) == 0 || ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q: no title, no query, an id used twice, or too wide", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("%q lies over %q", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
	}
}
