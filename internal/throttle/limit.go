package throttle

import (
	"bytes"
	_ "embed" // the table of providers
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Limit is how much one site may get.
type Limit struct {
	Name          string        // of the provider, or of the rule; empty: the default
	Connections   int           // at once, at least 1
	PerConnection int           // messages on one connection; 0: what delivery does by itself
	Messages      int64         // in the time Per; 0: no bound
	Per           time.Duration //
}

// Rule gives sites a limit. A zero field leaves it to the rules that follow and
// to the default.
type Rule struct {
	Name          string   `toml:"name"`
	Match         []string `toml:"match"`          // MX host names, each with the names below it; a route's next hop as "host:port"
	Connections   int      `toml:"connections"`    // at once to one site, up to 1,000
	Together      int      `toml:"together"`       // at once to all sites of the rule
	PerConnection int      `toml:"per_connection"` // messages on one connection, up to 10,000
	Rate          string   `toml:"rate"`           // messages, "100/s", "600/min", "5000/h"
}

// Validate returns an error that names the field at fault.
func (r Rule) Validate() error {
	fail := func(text string) error { return fmt.Errorf("site %q: %s", r.Name, text) }
	for _, m := range r.Match {
		if strings.Trim(m, ". ") == "" || strings.ContainsAny(m, " \t,") {
			return fail(fmt.Sprintf("match %q: want the name of a host or a domain", m))
		}
	}
	if _, _, err := parseRate(r.Rate); err != nil {
		return fail(err.Error())
	}
	switch {
	case r.Name == "":
		return errors.New("site without a name")
	case len(r.Match) == 0:
		return fail("nothing to match")
	case r.Connections < 0 || r.Connections > 1000:
		return fail("connections: want 1 to 1000")
	case r.Together < 0 || r.Together > 10_000:
		return fail("together: want 1 to 10000")
	case r.PerConnection < 0 || r.PerConnection > 10_000:
		return fail("per_connection: want 1 to 10000")
	}
	return nil
}

// parseRate reads "100/s", "600/min", "5000/h" or "20000/d"; empty is none.
func parseRate(s string) (n int64, per time.Duration, err error) {
	if s == "" {
		return 0, 0, nil
	}
	number, unit, ok := strings.Cut(s, "/")
	n, err = strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || !ok || n < 1 || n > 1_000_000_000 {
		return 0, 0, fmt.Errorf("rate %q: want a number and its time, such as 100/s, 600/min, 5000/h", s)
	}
	switch strings.TrimSpace(unit) {
	case "s", "sec", "second":
		return n, time.Second, nil
	case "m", "min", "minute":
		return n, time.Minute, nil
	case "h", "hour":
		return n, time.Hour, nil
	case "d", "day":
		return n, 24 * time.Hour, nil
	}
	return 0, 0, fmt.Errorf("rate %q: want s, min, h or d after the stroke", s)
}

//go:embed providers.toml
var providers []byte

// Table finds the limit of a site.
type Table struct {
	rules    []Rule
	groups   map[string]*Group // by the name of the rule
	fallback int               // connections
}

// NewTable returns a table of rules of one's own, which go first, and of the
// built-in ones. connections is the limit of sites that no rule gives one.
func NewTable(own []Rule, connections int) (*Table, error) {
	var builtin struct {
		Site []Rule `toml:"site"`
	}
	d := toml.NewDecoder(bytes.NewReader(providers))
	d.DisallowUnknownFields()
	if err := d.Decode(&builtin); err != nil {
		return nil, fmt.Errorf("throttle: the built-in table: %w", err)
	}
	t := &Table{groups: make(map[string]*Group), fallback: max(1, connections)}
	for _, r := range append(slices.Clip(own), builtin.Site...) {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("throttle: %w", err)
		}
		t.rules = append(t.rules, r)
		if r.Together > 0 && t.groups[r.Name] == nil {
			t.groups[r.Name] = &Group{limit: r.Together}
		}
	}
	return t, nil
}

// Site returns a new site for a name as delivery makes it: "mx1.example.net,mx2.example.net:25"
// or "via smtp.example.net:587". A rule holds when it matches all of its hosts.
func (t *Table) Site(name string, now time.Time) *Site {
	l := Limit{}
	var group *Group
	hosts := hostsOf(name)
	for _, r := range t.rules {
		if !r.matches(hosts) {
			continue
		}
		if l.Name == "" {
			l.Name = r.Name
		}
		if l.Connections == 0 {
			l.Connections = r.Connections
		}
		if l.PerConnection == 0 {
			l.PerConnection = r.PerConnection
		}
		if l.Messages == 0 {
			l.Messages, l.Per, _ = parseRate(r.Rate) // validated by NewTable
		}
		if group == nil {
			group = t.groups[r.Name]
		}
	}
	if l.Connections == 0 {
		l.Connections = t.fallback
	}
	return NewSite(l, group, now)
}

// hostsOf returns the hosts of a site's name: of an MX site without their port,
// of a route with it.
func hostsOf(site string) []string {
	if hop, ok := strings.CutPrefix(site, "via "); ok {
		hop, _, _ = strings.Cut(hop, " ")
		return []string{hop}
	}
	if i := strings.LastIndexByte(site, ':'); i >= 0 {
		site = site[:i]
	}
	return strings.Split(site, ",")
}

func (r Rule) matches(hosts []string) bool {
	for _, h := range hosts {
		h = strings.ToLower(h)
		found := false
		for _, m := range r.Match {
			m = strings.ToLower(strings.Trim(m, "."))
			found = found || h == m || strings.HasSuffix(h, "."+m)
		}
		if !found {
			return false
		}
	}
	return len(hosts) > 0
}
