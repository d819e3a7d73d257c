package main

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsTakeTheOwnersIdentity: root's commands leave no file that the
// server, which runs as the folder's owner, could not write.
func TestCommandsTakeTheOwnersIdentity(t *testing.T) {
	uid := os.Geteuid()
	top, err := os.MkdirTemp("", "mittente-owner-") //nolint:usetesting // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(top)
	data := filepath.Join(top, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if uid == 0 {
		const nobody = 65534
		uid = nobody
		if err := os.Chmod(top, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(data, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("mittente", "user", "add")
	cmd.Env = append(os.Environ(), "MITTENTE_DATA_DIR="+data, "MITTENTE_HOSTNAME=mx.test.example")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	expectActors(t, data)
	names, err := filepath.Glob(filepath.Join(data, "*"))
	if err != nil || len(names) < 2 {
		t.Fatal("nothing was made", err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if !ownedBy(name, uid) || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, and not of user %d alone", name, info.Mode(), uid)
		}
	}
}

// expectActors: the audit log has the name of who typed it, not of the folder's owner.
func expectActors(t *testing.T, data string) {
	t.Helper()
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for sudoer, want := range map[string]string{"": who.Username, "alice": "alice"} {
		for _, args := range [][]string{{"add", sudoer + "x.example"}, {"verify", sudoer + "x.example", "--override", "--reason", "ours"}} {
			cmd := exec.Command("mittente", append([]string{"domain"}, args...)...)
			cmd.Env = append(os.Environ(), "MITTENTE_DATA_DIR="+data, "MITTENTE_HOSTNAME=mx.test.example", "SUDO_USER="+sudoer, "DOAS_USER=")
			out, err := cmd.CombinedOutput()
			if err != nil || args[0] == "verify" && !strings.Contains(string(out), "by your word, "+want+",") {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
}

// TestOneServerPerFolder takes and leaves the lock.
func TestOneServerPerFolder(t *testing.T) {
	dir := t.TempDir()
	if served(dir) {
		t.Error("served before anyone came")
	}
	release, err := takeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !served(dir) {
		t.Error("the lock is not seen")
	}
	if _, err := takeLock(dir); exitCode(err) != exitUnavailable {
		t.Errorf("a second server: %v", err)
	}
	release()
	if served(dir) {
		t.Error("the lock outlives its holder")
	}
	if release, err = takeLock(dir); err != nil {
		t.Fatal(err)
	}
	release()
}
