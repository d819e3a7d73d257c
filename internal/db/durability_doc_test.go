package db_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/durability.md names exists in the folder it is said to be in.
func TestDurabilityNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/durability.md")
	if err != nil {
		t.Fatal(err)
	}
	names, folder, sources := 0, "", map[string]string{}
	for _, m := range regexp.MustCompile("`(internal/[a-z]+|test)`|`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(text), -1) {
		if m[1] != "" {
			folder = m[1]
			if sources[folder] == "" {
				sources[folder] = testSource(t, folder)
			}
			continue
		}
		names++
		if !strings.Contains(sources[folder], "\nfunc "+m[2]+"(") {
			t.Errorf("there is no %s in %s", m[2], folder)
		}
	}
	if names < 20 {
		t.Errorf("only %d tests are named", names)
	}
}

// testSource returns all test files of a folder.
func testSource(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(folder, err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
