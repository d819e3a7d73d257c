package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// errand is one message that a client is to send through the relay.
type errand struct {
	relay string // host:port
	mode  string // "plain" or "starttls"
	user  user
	from  string
	to    []string // one, or three: To, Cc and Bcc
	file  string   // header section and body, CRLF line ends
}

// mailer is a mail client of another make.
type mailer struct {
	name     string
	tools    []string // what must be installed for it
	utf8     bool     // it knows SMTPUTF8
	rewrites bool     // it writes the header section anew; the body stays
	attaches bool     // with three recipients it composes a message, and attaches the file to it
	log      string   // where it says what became of a message it took, if it queues
	silent   bool     // its exit status says nothing, its output does
	shows    string   // what its output shows of a message that was taken
	command  func(t *testing.T, e errand) *exec.Cmd
}

// mailers lists the clients. Postfix as a client is here as well: what its sendmail
// command takes, the instance hands on.
func mailers(forwarder *postfix) []mailer {
	log := ""
	if forwarder != nil {
		log = filepath.Join(forwarder.dir, "mail.log")
	}
	return []mailer{
		{name: "swaks", tools: []string{"swaks", "Net::SSLeay"}, command: swaks},
		{name: "smtplib", tools: []string{"python3"}, utf8: true, command: script(python(), "testdata/send.py")},
		{name: "nodemailer", tools: []string{"node-nodemailer"}, utf8: true, attaches: true, command: script("node", "testdata/send.js")},
		{name: "phpmailer", tools: []string{"php-phpmailer"}, attaches: true, command: script("php", "testdata/send.php")},
		{name: "curl", tools: []string{"curl"}, utf8: true, command: curl},
		{name: "msmtp", tools: []string{"msmtp"}, command: msmtpBy("plain")},
		{name: "git", tools: []string{"git-send-email", "Mail::Address", "Authen::SASL", "IO::Socket::SSL"}, rewrites: true, command: gitSendEmail},
		{name: "exim", tools: []string{"exim4-daemon-light", "unshare"}, utf8: true, silent: true, shows: "BDAT", command: eximSends},
		{name: "postfix", tools: []string{"postfix"}, utf8: true, log: log, command: func(t *testing.T, e errand) *exec.Cmd {
			t.Helper()
			return forwarder.sendmail(e.from, read(t, e.file), e.to...)
		}},
	}
}

// script is a client for which the test has a program of a few lines.
func script(interpreter, program string) func(*testing.T, errand) *exec.Cmd {
	return func(t *testing.T, e errand) *exec.Cmd {
		t.Helper()
		host, port, _ := net.SplitHostPort(e.relay)
		cmd := exec.Command(interpreter, program, host, port, e.mode, e.user.Username, e.user.Password, e.from, strings.Join(e.to, ","), e.file)
		cmd.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs")
		return cmd
	}
}

func swaks(t *testing.T, e errand) *exec.Cmd {
	t.Helper()
	host, port, _ := net.SplitHostPort(e.relay)
	// swaks ends what it sends by a line end of its own.
	unended := scratch(t, bytes.TrimSuffix(read(t, e.file), []byte("\r\n")))
	args := []string{
		"--server", host, "--port", port, "--ehlo", "client.test", "--from", e.from, "--to", strings.Join(e.to, ","),
		"--auth", "LOGIN", "--auth-user", e.user.Username, "--auth-password", e.user.Password,
		"--data", "@" + unended, "--silent", "2", "--timeout", "60",
	}
	if e.mode == "starttls" {
		args = append(args, "--tls")
	}
	return exec.Command("swaks", args...)
}

func curl(t *testing.T, e errand) *exec.Cmd {
	t.Helper()
	args := []string{
		"--silent", "--show-error", "--verbose", "--max-time", "60", "--url", "smtp://" + e.relay + "/client.test",
		"--user", e.user.Username + ":" + e.user.Password, "--mail-from", e.from, "--upload-file", e.file,
	}
	for _, to := range e.to {
		args = append(args, "--mail-rcpt", to)
	}
	if e.mode == "starttls" {
		args = append(args, "--ssl-reqd", "--insecure")
	}
	cmd := exec.Command("curl", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	return cmd
}

// msmtpBy is msmtp with a mechanism.
func msmtpBy(mechanism string) func(*testing.T, errand) *exec.Cmd {
	return func(t *testing.T, e errand) *exec.Cmd {
		t.Helper()
		host, port, _ := net.SplitHostPort(e.relay)
		tls := map[string]string{"plain": "off", "starttls": "on"}[e.mode]
		conf := scratch(t, fmt.Appendf(nil, "account default\nhost %s\nport %s\ndomain client.test\nauth %s\nuser %s\npassword %s\ntls %s\ntls_starttls on\ntls_certcheck off\n",
			host, port, mechanism, e.user.Username, e.user.Password, tls))
		return fed(read(t, e.file), "msmtp", append([]string{"-C", conf, "-f", e.from, "--"}, e.to...)...)
	}
}

func gitSendEmail(t *testing.T, e errand) *exec.Cmd {
	t.Helper()
	host, port, _ := net.SplitHostPort(e.relay)
	args := []string{
		"-c", "sendemail.smtpsslcertpath=", "send-email", "--smtp-server", host, "--smtp-server-port", port, "--smtp-domain", "client.test",
		"--smtp-user", e.user.Username, "--smtp-pass", e.user.Password, "--smtp-auth", "PLAIN",
		"--from", `"Alice \"A\"" <` + e.from + `>`, "--envelope-sender", e.from, "--suppress-cc=all", "--confirm=never", "--no-validate",
		"--transfer-encoding=8bit", "--smtp-debug=1",
	}
	if e.mode == "starttls" {
		args = append(args, "--smtp-encryption=tls")
	}
	for i, to := range e.to {
		args = append(args, []string{"--to", "--cc", "--bcc"}[i], to)
	}
	cmd := exec.Command("git", append(args, scratch(t, lf(read(t, e.file))))...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "GIT_CONFIG_NOSYSTEM=1")
	return cmd
}

// fed is a command with an input.
func fed(input []byte, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(input)
	return cmd
}

// scratch writes a file that goes with the test.
func scratch(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// crlf gives text of a file the line ends of the wire.
func crlf(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }

// lf gives text the line ends of local programs.
func lf(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }

// send runs the client, which must succeed.
func (m mailer) send(t *testing.T, e errand) {
	t.Helper()
	out, err := m.command(t, e).CombinedOutput()
	if err != nil || !strings.Contains(string(out), m.shows) {
		t.Fatalf("%s: %v; its output shows %q?\n%.4000s", m.name, err, m.shows, out)
	}
}

// refused runs the client, which must fail and tell its user the relay's words.
func (m mailer) refused(t *testing.T, e errand, words string) {
	t.Helper()
	out, err := m.command(t, e).CombinedOutput()
	if m.log != "" && err == nil {
		waitFor(t, 20*time.Second, "the client's log says "+words, func() bool { return bytes.Contains(read(t, m.log), []byte(words)) })
		return
	}
	if err == nil && !m.silent || !strings.Contains(string(out), words) {
		t.Errorf("%s: %v; want it to fail with %q:\n%.4000s", m.name, err, words, out)
	}
}
