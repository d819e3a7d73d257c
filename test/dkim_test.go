package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

// algorithms are the two signatures every message of a verified domain bears.
func algorithms() []string { return []string{"ed25519-sha256", "rsa-sha256"} }

// keys takes the DKIM records, name to value, from the output of `domain records`.
func keys(records []record) map[string]string {
	found := make(map[string]string)
	for _, r := range records {
		if strings.Contains(r.Name, "._domainkey.") {
			found[strings.TrimSuffix(r.Name, ".")] = r.Value
		}
	}
	return found
}

// verifyInGo holds both signatures against the published keys, by go-msgauth.
func verifyInGo(t *testing.T, message []byte, domain string, published map[string]string) {
	t.Helper()
	verified, err := dkim.VerifyWithOptions(bytes.NewReader(message), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return []string{published[strings.TrimSuffix(name, ".")]}, nil },
	})
	if err != nil {
		t.Fatalf("go-msgauth: %v", err)
	}
	if len(verified) != 2 {
		t.Fatalf("go-msgauth found %d signatures; want 2", len(verified))
	}
	for _, v := range verified {
		if v.Err != nil || v.Domain != domain {
			t.Fatalf("go-msgauth: signature of %s: %v; want one of %s that verifies", v.Domain, v.Err, domain)
		}
	}
}

// verifyInPython does the same by dkimpy.
func verifyInPython(t *testing.T, message []byte, domain string, published map[string]string) {
	t.Helper()
	need(t, "python3-dkim", "python3-nacl")
	dir := t.TempDir()
	encoded, err := json.Marshal(published)
	if err != nil {
		t.Fatal(err)
	}
	mail, names := filepath.Join(dir, "message"), filepath.Join(dir, "records")
	if err := errorsOf(os.WriteFile(mail, message, 0o644), os.WriteFile(names, encoded, 0o644)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python(), "testdata/verify_dkim.py", mail, names).CombinedOutput()
	if err != nil {
		t.Fatalf("dkimpy: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	if len(lines) != 2 {
		t.Fatalf("dkimpy found %d signatures; want 2:\n%s", len(lines), out)
	}
	for i, algorithm := range algorithms() {
		if !strings.HasPrefix(lines[i], algorithm+" pass "+domain+" ") {
			t.Fatalf("dkimpy: %q; want %s pass %s", lines[i], algorithm, domain)
		}
	}
}

// verifyInOpenDKIM does the same by OpenDKIM's filter in its test mode.
func verifyInOpenDKIM(t *testing.T, message []byte, domain string, published map[string]string) {
	t.Helper()
	need(t, "opendkim")
	dir := t.TempDir()
	var data strings.Builder
	for name, value := range published {
		fmt.Fprintf(&data, "%s %s\n", name, value)
	}
	mail, zone, conf := filepath.Join(dir, "message"), filepath.Join(dir, "records"), filepath.Join(dir, "opendkim.conf")
	err := errorsOf(
		os.WriteFile(mail, message, 0o644),
		os.WriteFile(zone, []byte(data.String()), 0o644),
		os.WriteFile(conf, []byte("Mode v\nTestDNSData file:"+zone+"\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("opendkim", "-x", conf, "-vv", "-t", mail).CombinedOutput()
	if err != nil {
		t.Fatalf("opendkim: %v\n%s", err, out)
	}
	for _, algorithm := range algorithms() {
		verdict := regexp.MustCompile(`dkim=pass [^;]*header\.d=` + regexp.QuoteMeta(domain) + ` [^;]*header\.a=` + algorithm + ` `)
		if !verdict.Match(out) {
			t.Fatalf("opendkim: no %s signature of %s passes:\n%s", algorithm, domain, out)
		}
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
