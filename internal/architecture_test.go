package internal_test

import (
	"bufio"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	prefix   = "mittente/internal/"
	document = "../ARCHITECTURE.md"
)

// TestMap holds the import graph against the map in ARCHITECTURE.md: an arrow
// that is in only one of them fails the build.
func TestMap(t *testing.T) {
	want := drawn(t, "imports")
	got := built(t)
	for pkg, imports := range got {
		if !slices.Equal(imports, want[pkg]) {
			t.Errorf("%s imports %v; the map says %v", pkg, imports, want[pkg])
		}
	}
	for pkg := range want {
		if _, ok := got[pkg]; !ok {
			t.Errorf("the map draws %s, which is not there", pkg)
		}
	}
}

// TestFloors wants every room on a floor, and every arrow to point down.
func TestFloors(t *testing.T) {
	floor := map[string]int{}
	for number, rooms := range drawn(t, "floors") {
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("floor %q has no number", number)
		}
		for _, room := range rooms {
			floor[room] = n
		}
	}
	for room, imports := range built(t) {
		if floor[room] == 0 {
			t.Errorf("%s is on no floor", room)
		}
		for _, below := range imports {
			if floor[below] >= floor[room] {
				t.Errorf("%s (floor %d) imports %s (floor %d): an arrow must point down", room, floor[room], below, floor[below])
			}
		}
	}
}

// TestNames refuses names that say nothing of a duty.
func TestNames(t *testing.T) {
	forbidden := []string{"util", "utils", "common", "helpers", "types", "models", "base", "core", "manager", "config", "log", "store"}
	for room := range built(t) {
		if slices.Contains(forbidden, room) || strings.Contains(room, "/") && !strings.HasSuffix(room, "test") {
			t.Errorf("internal/%s: rooms are flat and named with a noun of the field", room)
		}
	}
}

// TestDependencies wants a line of reason in CONTRIBUTING.md for each direct dependency.
func TestDependencies(t *testing.T) {
	reasons, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	direct, err := exec.Command("go", "list", "-m", "-f", "{{if not (or .Indirect .Main)}}{{.Path}}{{end}}", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	for module := range strings.FieldsSeq(string(direct)) {
		if !strings.Contains(string(reasons), "`"+module+"`") {
			t.Errorf("CONTRIBUTING.md gives no reason for %s", module)
		}
	}
}

// TestLinks follows every relative link of the documents.
func TestLinks(t *testing.T) {
	documents, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"../docs/*.md", "../docs/adr/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, more...)
	}
	for _, name := range documents {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "](")[1:] {
			link, _, _ := strings.Cut(part, ")")
			link, _, _ = strings.Cut(link, "#")
			if link == "" || strings.Contains(link, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), link)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, link)
			}
		}
	}
}

// TestNamedTests looks for every test and story that a document names.
func TestNamedTests(t *testing.T) {
	tests, stories := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return fs.SkipDir
		case strings.HasSuffix(path, ".txtar"):
			stories[d.Name()] = true
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
				tests[string(found[1])] = true
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../docs/requirements.md", "../docs/durability.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile("`(Test\\w+|\\w+\\.txtar)`").FindAllSubmatch(text, -1) {
			if named := string(found[1]); !tests[named] && !stories[named] {
				t.Errorf("%s names %s, which is not there", name, named)
			}
		}
	}
}

// drawn reads a block of the document: the fence names it, each line is "key: words".
func drawn(t *testing.T, block string) map[string][]string {
	t.Helper()
	f, err := os.Open(document)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, in := map[string][]string{}, false
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		line := sc.Text()
		switch key, words, ok := strings.Cut(line, ":"); {
		case strings.HasPrefix(line, "```"):
			in = line == "```"+block
		case in && ok:
			m[key] = strings.Fields(words)
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	if len(m) == 0 {
		t.Fatalf("%s has no block %q", document, block)
	}
	return m
}

// built asks the go command what each room imports, tests left out.
func built(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{len .GoFiles}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg, ok := strings.CutPrefix(f[0], prefix)
		if !ok || f[1] == "0" { // a folder of tests only
			continue
		}
		m[pkg] = nil
		for _, imp := range f[2:] {
			if dep, ok := strings.CutPrefix(imp, prefix); ok {
				m[pkg] = append(m[pkg], dep)
			}
		}
	}
	return m
}
