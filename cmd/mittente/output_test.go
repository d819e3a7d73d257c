package main

import (
	"strings"
	"testing"
	"time"

	"mittente/internal/record"
	"mittente/internal/sender"
)

// TestOneLine keeps control characters off the operator's terminal.
func TestOneLine(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"plain", 10, "plain"},
		{"two\r\nlines\x1b[31m\x9b", 20, "two  lines [31m?"},
		{"Grüße aus Köln", 8, "Grüße a…"},
		{"bad \xff bytes", 20, "bad ? bytes"},
	} {
		if got := oneLine(c.in, c.n); got != c.want {
			t.Errorf("oneLine(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// TestTable prints the same items in every form.
func TestTable(t *testing.T) {
	type item struct {
		A string `json:"a"`
		B string `json:"b"`
	}
	columns := []column[item]{{"a", func(i item) string { return i.A }}, {"state", func(i item) string { return i.B }}}
	items := []item{{"ü", "delivered"}, {"long<er", ""}}
	for _, c := range []struct {
		output string
		color  bool
		want   string
	}{
		{"table", false, "A        STATE\nü        delivered\nlong<er\n"},
		{"table", true, "\x1b[1mA\x1b[0m        \x1b[1mSTATE\x1b[0m\nü        \x1b[32mdelivered\x1b[0m\nlong<er\n"},
		{"json", true, "[\n  {\n    \"a\": \"ü\",\n    \"b\": \"delivered\"\n  },\n  {\n    \"a\": \"long<er\",\n    \"b\": \"\"\n  }\n]\n"},
		{"jsonl", true, "{\"a\":\"ü\",\"b\":\"delivered\"}\n{\"a\":\"long<er\",\"b\":\"\"}\n"},
	} {
		var out strings.Builder
		a := &app{out: &out, output: c.output, color: c.color}
		if err := emit(a, items, columns...); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.output, got, c.want)
		}
	}
}

// TestPrintCheck never proposes a second SPF record.
func TestPrintCheck(t *testing.T) {
	spf := record.Record{Purpose: record.PurposeSPF, Type: "TXT", Name: "shop.example", Value: "v=spf1 a:mx.example ~all"}
	for _, c := range []struct {
		check record.Check
		want  string
	}{
		{
			record.Check{Record: spf, Problem: "there is none"},
			"proposed  spf  shop.example TXT\n  expected  v=spf1 a:mx.example ~all\n  found     nothing: there is none\n",
		},
		{
			record.Check{Record: spf, Found: []string{"v=spf1 mx -all"}, Advice: "add a:mx.example to the SPF record that is there"},
			"proposed  spf  shop.example TXT\n  to do     add a:mx.example to the SPF record that is there\n  found     v=spf1 mx -all\n",
		},
		{record.Check{Record: spf, OK: true}, "ok  spf  shop.example TXT\n"},
	} {
		var out strings.Builder
		printCheck(&out, &app{}, c.check)
		if out.String() != c.want {
			t.Errorf("got %q, want %q", out.String(), c.want)
		}
	}
}

// TestRemark joins what is worth knowing, and drops what no longer stands against a domain.
func TestRemark(t *testing.T) {
	for want, v := range map[string]domainView{
		"":              {State: sender.StateVerified, LastError: "no record"},
		"ours":          {State: sender.StateVerified, Reason: "ours", LastError: "no record"},
		"no record":     {State: sender.StatePending, LastError: "no record"},
		"ours; no more": {State: sender.StateRevoked, Reason: "ours", LastError: "no more"},
	} {
		if got := v.remark(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestHint writes commands as they have to be typed.
func TestHint(t *testing.T) {
	for _, c := range []struct{ config, text, want string }{
		{"", "try mittente user ls", "try mittente user ls"},
		{"-", "try mittente user ls", "try mittente user ls"},
		{"a.toml", "mittente domain add x, then `user ls`; another mittente runs", "mittente -c a.toml domain add x, then `mittente -c a.toml user ls`; another mittente runs"},
		{"it's $1.toml", "mittente serve", `mittente -c 'it'\''s $1.toml' serve`},
		{"a.toml", "mittente -c a.toml serve", "mittente -c a.toml serve"},
	} {
		if got := (&app{config: c.config}).hint(c.text); got != c.want {
			t.Errorf("with %q: %q, want %q", c.config, got, c.want)
		}
	}
}

// TestRemote shows a server that has no name once.
func TestRemote(t *testing.T) {
	for want, v := range map[string]eventView{
		"127.0.0.1":            {RemoteMTA: "127.0.0.1", RemoteAddr: "127.0.0.1"},
		"192.0.2.1":            {RemoteMTA: "[192.0.2.1]", RemoteAddr: "192.0.2.1"},
		"mx.example 192.0.2.1": {RemoteMTA: "mx.example", RemoteAddr: "192.0.2.1"},
		"":                     {},
		"192.0.2.7":            {RemoteAddr: "192.0.2.7"},
	} {
		if got := v.remote(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestStamp prints times for programs, in UTC.
func TestStamp(t *testing.T) {
	at := time.Date(2026, 11, 24, 13, 14, 15, 678900, time.FixedZone("", 3600))
	if got := stamp(at); got != "2026-11-24T12:14:15.000678Z" {
		t.Error(got)
	}
	if got := stamp(time.Time{}) + when(time.Time{}); got != "" {
		t.Error(got)
	}
}
