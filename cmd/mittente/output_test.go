package main

import (
	"strings"
	"testing"
	"time"
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
