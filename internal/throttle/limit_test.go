package throttle

import (
	"strings"
	"testing"
	"time"
)

func table(t *testing.T, own ...Rule) *Table {
	t.Helper()
	table, err := NewTable(own, 20)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// Providers are found by the names of all MX hosts of a site.
func TestBuiltInTable(t *testing.T) {
	t.Parallel()
	for site, want := range map[string]Limit{
		"alt1.gmail-smtp-in.l.google.com,gmail-smtp-in.l.google.com:25": {Name: "Google", Connections: 20, PerConnection: 50},
		"shop-example.mail.protection.outlook.com:25":                   {Name: "Exchange Online", Connections: 5, PerConnection: 50},
		"outlook-com.olc.protection.outlook.com:25":                     {Name: "Outlook.com", Connections: 20, PerConnection: 50},
		"mta5.am0.yahoodns.net,mta6.am0.yahoodns.net:25":                {Name: "Yahoo", Connections: 10, PerConnection: 20},
		"mx.example.net:25":                    {Connections: 20},
		"aspmx.l.google.com,mx.example.net:25": {Connections: 20},
		"notgoogle.com:25":                     {Connections: 20},
		"via smtp.example.net:587":             {Connections: 20},
	} {
		if got := table(t).Site(site, epoch).Limit(); got != want {
			t.Errorf("%s: %+v, want %+v", site, got, want)
		}
	}
}

// A rule of one's own goes first; what it does not say the built-in one does.
func TestOwnRules(t *testing.T) {
	t.Parallel()
	own := table(t,
		Rule{Name: "slower", Match: []string{"gmail-smtp-in.l.google.com"}, Connections: 2},
		Rule{Name: "hop", Match: []string{"smtp.example.net:587"}, Rate: "100/h"},
	)
	for site, want := range map[string]Limit{
		"alt1.gmail-smtp-in.l.google.com,gmail-smtp-in.l.google.com:25": {Name: "slower", Connections: 2, PerConnection: 50},
		"aspmx.l.google.com:25":            {Name: "Google", Connections: 20, PerConnection: 50},
		"via smtp.example.net:587":         {Name: "hop", Connections: 20, Messages: 100, Per: time.Hour},
		"via smtp.example.net:587 (other)": {Name: "hop", Connections: 20, Messages: 100, Per: time.Hour},
		"via smtp.example.net:25":          {Connections: 20},
	} {
		if got := own.Site(site, epoch).Limit(); got != want {
			t.Errorf("%s: %+v, want %+v", site, got, want)
		}
	}
}

func TestRuleValidate(t *testing.T) {
	t.Parallel()
	good := Rule{Name: "x", Match: []string{"example.net"}}
	for _, rate := range []string{"", "100/s", "600/min", "5000/h", "1/d"} {
		r := good
		if r.Rate = rate; r.Validate() != nil {
			t.Errorf("rate %q: %v", rate, r.Validate())
		}
	}
	for want, change := range map[string]func(*Rule){
		"without a name":   func(r *Rule) { r.Name = "" },
		"nothing to match": func(r *Rule) { r.Match = nil },
		"match \".\"":      func(r *Rule) { r.Match = []string{"."} },
		"match \"a b\"":    func(r *Rule) { r.Match = []string{"a b"} },
		"connections":      func(r *Rule) { r.Connections = -1 },
		"together":         func(r *Rule) { r.Together = -1 },
		"per_connection":   func(r *Rule) { r.PerConnection = 10_001 },
		"rate \"5\"":       func(r *Rule) { r.Rate = "5" },
		"rate \"0/s\"":     func(r *Rule) { r.Rate = "0/s" },
		"rate \"5/w\"":     func(r *Rule) { r.Rate = "5/w" },
		"rate \"5x/s\"":    func(r *Rule) { r.Rate = "5x/s" },
	} {
		r := good
		change(&r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
		if _, err := NewTable([]Rule{r}, 20); err == nil {
			t.Errorf("%+v passes into a table", r)
		}
	}
}
