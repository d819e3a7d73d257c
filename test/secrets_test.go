package test

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// disguises are the forms in which a password could stand somewhere: as it is, and
// as AUTH LOGIN and AUTH PLAIN carry it. Base64 depends on what stands before, so
// the inner part of all three alignments is looked for.
func disguises(u user) []string {
	forms := []string{u.Password, plain(u)}
	for shift := range 3 {
		padded := strings.Repeat("\x00", shift) + u.Password
		encoded := base64.RawStdEncoding.EncodeToString([]byte(padded))
		forms = append(forms, encoded[4:len(encoded)-4])
	}
	return forms
}

// After it was made, made anew and used, a password stands in no file of the data
// folder, in no log, in no reply and in no output but that of its birth; and a
// user's note reaches no recipient, no client and no log.
func TestS10_S15_SecretsStayUnread(t *testing.T) {
	t.Parallel()
	s, r := sinkRelay(t, sinkConfig{onRcpt: func(to string) string {
		if strings.HasPrefix(to, "nobody@") {
			return "550 5.1.1 No such mailbox"
		}
		return ""
	}})
	r.verified(fromDomain)
	const note = "noteMARKER0815"
	first := r.addUser("--domain", fromDomain, "--active", "--require-tls=false", "--note", note)
	var said bytes.Buffer
	use := func(u user) {
		t.Helper()
		c := dialAs(t, r.smtp, u)
		c.mail("250", fromAddr, "bob@"+rcptDomain, simple("bob@"+rcptDomain, "secret"))
		c.mail("250", fromAddr, "nobody@"+rcptDomain, simple("nobody@"+rcptDomain, "secret"))
		c.mail("550 5.7.1", "eve@elsewhere.test", "bob@"+rcptDomain, nil)
		login := dial(t, r.smtp)
		login.want("250", "EHLO client.test")
		login.want("334", "AUTH LOGIN")
		login.want("334", base64.StdEncoding.EncodeToString([]byte(u.Username)))
		login.want("235", base64.StdEncoding.EncodeToString([]byte(u.Password)))
		wrong := dial(t, r.smtp)
		wrong.want("250", "EHLO client.test")
		wrong.want("535", "AUTH PLAIN "+plain(user{u.Username, u.Password + "x"}))
		wrong.want("500", "PASS "+u.Password) // a client that is out of step
		for _, c := range []*client{c, login, wrong} {
			c.want("221", "QUIT")
			said.Write(c.said.Bytes())
		}
	}
	use(first)
	var second user
	r.query(&second, "user", "password", first.Username)
	if second.Password == "" || second.Password == first.Password {
		t.Fatalf("user password printed %+v; want a new password", second)
	}
	use(second)
	s.wait(t, 2)
	r.empty(10 * time.Second)

	places := map[string]string{"the log": r.logged(), "output": printed(r, first.Username), "replies": said.String()}
	r.stop()
	places["the log"] += r.logged()
	for _, m := range s.received() {
		places["what a recipient got"] += string(m.content)
	}
	for place, text := range places {
		if place != "output" && strings.Contains(text, note) {
			t.Errorf("the note stands in %s", place)
		}
	}
	files := dataFiles(t, r.data)
	if len(files["mittente.db"]) == 0 {
		t.Fatalf("no database in %s", r.data)
	}
	maps.Copy(places, files)
	forms := append(disguises(first), disguises(user{first.Username, second.Password})...)
	for place, text := range places {
		for _, form := range forms {
			if strings.Contains(text, form) {
				t.Errorf("a password stands in %s (as %q)", place, form)
			}
		}
	}
}

// printed returns all that the commands have to say afterwards.
func printed(r *relay, name string) string {
	r.t.Helper()
	var all strings.Builder
	for _, args := range [][]string{
		{"user", "ls"},
		{"user", "show", name},
		{"user", "edit", name, "--priority", "2"},
		{"message", "ls"},
		{"queue", "ls", "--state", "all"},
		{"domain", "ls"},
		{"account", "ls"},
		{"list", "ls"},
		{"ports"},
		{"config", "print"},
	} {
		for _, form := range []string{"table", "json"} {
			stdout, stderr, err := r.cli(append(args, "--output", form)...)
			if err != nil {
				r.t.Errorf("%v: %v %s", args, err, stderr)
			}
			all.WriteString(stdout + stderr)
		}
	}
	return all.String()
}

// dataFiles reads every file of a folder.
func dataFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
