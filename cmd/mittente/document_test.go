package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write the generated part of docs/cli.md")

const (
	cliDocument  = "../../docs/cli.md"
	beginsMarker = "<!-- generated from the command line: go test ./cmd/mittente -run TestDocument -update -->\n"
	endsMarker   = "<!-- end of the generated part -->\n"
)

// TestDocumentCommandLine holds docs/cli.md against the command line.
func TestDocumentCommandLine(t *testing.T) {
	text, err := os.ReadFile(cliDocument)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), beginsMarker)
	_, tail, ok2 := strings.Cut(rest, endsMarker)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its markers", cliDocument)
	}
	want := head + beginsMarker + "\n" + document(t) + "\n" + endsMarker + tail
	if string(text) == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the command line says; go test ./cmd/mittente -run TestDocument -update writes it", cliDocument)
	}
	if err := os.WriteFile(cliDocument, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// document writes commands, flags and exit codes as Markdown.
func document(t *testing.T) string {
	t.Helper()
	var c cli
	parser, err := kong.New(&c, (&app{}).options()...)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("### Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, m := range exitMeanings() {
		fmt.Fprintf(&b, "| %d | %s |\n", m.Code, m.Text)
	}
	b.WriteString("\n### Flags of every command\n\n")
	writeFlags(&b, parser.Model.Flags)
	b.WriteString("\n### Commands\n")
	for _, leaf := range parser.Model.Leaves(true) {
		fmt.Fprintf(&b, "\n#### mittente %s\n\n%s\n", leaf.Path(), leaf.Help)
		if len(leaf.Positional)+len(leaf.Flags) > 0 {
			b.WriteString("\n")
		}
		for _, p := range leaf.Positional {
			fmt.Fprintf(&b, "* `%s` %s\n", p.Summary(), p.Help)
		}
		writeFlags(&b, leaf.Flags)
	}
	return b.String()
}

func writeFlags(b *strings.Builder, flags []*kong.Flag) {
	for _, f := range flags {
		if !f.Hidden {
			fmt.Fprintf(b, "* `%s` %s\n", f, strings.ReplaceAll(f.Help, "\n", " "))
		}
	}
}

// TestDocumentExitCodes: every error that commands can meet has its code.
func TestDocumentExitCodes(t *testing.T) {
	seen := map[int]bool{}
	for _, m := range exitMeanings() {
		if seen[m.Code] || m.Text == "" {
			t.Errorf("exit code %d twice, or without a meaning", m.Code)
		}
		seen[m.Code] = true
	}
	for _, err := range []error{nil, errUsage, errNotFound, errConflict, errUnavailable, errSaid, configError{}, os.ErrInvalid} {
		if code := exitCode(err); !seen[code] {
			t.Errorf("exit code %d of %v is not documented", code, err)
		}
	}
}
