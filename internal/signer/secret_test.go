package signer

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The secret is made once, readable by its owner alone, and read ever after.
func TestMakeSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	if _, err := LoadSecret(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing file: %v", err)
	}
	made, err := MakeSecret(path)
	if err != nil || made.IsZero() {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != hex.EncodeToString(made[:])+"\n" {
		t.Errorf("%d octets, %v", len(text), err)
	}
	for _, read := range []func(string) (Secret, error){LoadSecret, MakeSecret} {
		if again, err := read(path); err != nil || again != made {
			t.Errorf("read again: same %t, %v", again == made, err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("in the folder: %v, %v", left, err)
	}
	if other, err := MakeSecret(filepath.Join(t.TempDir(), "secret.key")); err != nil || other == made {
		t.Errorf("another secret: same %t, %v", other == made, err)
	}
}

// Server and command line may start at the same time.
func TestSecretIsMadeOnceByMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	secrets := make([]Secret, 16)
	var all sync.WaitGroup
	for i := range secrets {
		all.Go(func() {
			var err error
			if secrets[i], err = MakeSecret(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, s := range secrets {
		if s != secrets[0] {
			t.Error("not all got the same secret")
		}
	}
}

// The folder is not the secret's to make.
func TestMakeSecretWantsItsFolder(t *testing.T) {
	if _, err := MakeSecret(filepath.Join(t.TempDir(), "missing", "secret.key")); err == nil {
		t.Error("no error")
	}
}

// A file that others can read, or that holds something else, is refused and left alone.
func TestLoadSecretRefuses(t *testing.T) {
	good := strings.Repeat("0a", 32)
	cases := []struct {
		name, text string
		mode       fs.FileMode
		ok         bool
	}{
		{"good", good + "\n", 0o600, true},
		{"read only", good, 0o400, true},
		{"for a group to read", good, 0o640, true},
		{"for all to read", good, 0o644, false},
		{"for a group to write", good, 0o660, false},
		{"empty", "", 0o600, false},
		{"too short", good[:62], 0o600, false},
		{"too long", good + "00", 0o600, false},
		{"no hexadecimal digits", strings.Repeat("xy", 32), 0o600, false},
		{"all zero", strings.Repeat("00", 32), 0o600, false},
		{"raw", strings.Repeat("\x07", 32), 0o600, false},
		{"huge", strings.Repeat("0a", 1<<16), 0o600, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret.key")
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			s, err := LoadSecret(path)
			if (err == nil) != c.ok || s.IsZero() == c.ok {
				t.Errorf("got %v", err)
			}
			if err != nil && len(c.text) > 8 && strings.Contains(err.Error(), c.text[:8]) {
				t.Errorf("the error shows the text: %v", err)
			}
			if _, err := MakeSecret(path); (err == nil) != c.ok {
				t.Errorf("MakeSecret: %v", err)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != c.text {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}

// The text form is 64 hexadecimal digits.
func TestParseSecret(t *testing.T) {
	want := Secret{0xab, 0xcd}
	text := "ABcd" + strings.Repeat("00", 30)
	for _, s := range []string{text, " " + text + "\r\n"} {
		if got, err := ParseSecret(s); err != nil || got != want {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", text[1:], text + " " + text, "0x" + text[2:] + "z"} {
		if _, err := ParseSecret(s); !errors.Is(err, ErrSecretText) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// No verb, no logger and no encoder shows the secret.
func TestSecretIsNotShown(t *testing.T) {
	var s Secret
	for i := range s {
		s[i] = byte(100 + i)
	}
	var shown bytes.Buffer
	for _, v := range []any{s, &s, Deps{Secret: s}, []Secret{s}, map[string]Secret{"x": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%o", "%b"} {
			_, _ = fmt.Fprintf(&shown, verb, v)
		}
		if err := json.NewEncoder(&shown).Encode(v); err != nil {
			shown.WriteString(err.Error())
		}
		slog.New(slog.NewTextHandler(&shown, nil)).InfoContext(t.Context(), "shown", slog.Any("value", v))
		slog.New(slog.NewJSONHandler(&shown, nil)).InfoContext(t.Context(), "shown", slog.Any("value", v))
	}
	for _, form := range []string{hex.EncodeToString(s[:4]), strings.ToUpper(hex.EncodeToString(s[:4])), string(s[:4]), "100 101", "100,101", "0x64, 0x65", "144 145", "ZGVm"} {
		if strings.Contains(shown.String(), form) {
			t.Errorf("the secret is shown as %q", form)
		}
	}
	if s.String() != "[secret]" {
		t.Error(s.String())
	}
}
