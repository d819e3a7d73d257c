package test

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// gsasl returns what GNU SASL's client and the relay said to one another.
func gsasl(r *relay, u user, mechanism string, options ...string) string {
	args := append([]string{
		"10", "gsasl", "--smtp", "--verbose", "--connect", r.smtp, "--mechanism", mechanism,
		"--authentication-id", u.Username, "--password", u.Password, "--x509-ca-file=",
	}, options...)
	out, _ := exec.Command("timeout", args...).CombinedOutput()
	return string(out)
}

// GNU SASL and msmtp authenticate by SCRAM-SHA-256, in clear and in TLS, and with the
// channel bound to it (tls-exporter, RFC 9266): the client proves that it knows the
// password, and the relay that it knows the verifier. A wrong password and an unknown
// user get the same exchange and the same end.
func TestM2_SCRAMByClientsOfOtherMakes(t *testing.T) {
	t.Parallel()
	need(t, "gsasl", "msmtp", "timeout")
	s, r := sinkRelay(t, sinkConfig{})
	u := r.setUp()
	for _, c := range []struct {
		mechanism string
		options   []string
	}{
		{"SCRAM-SHA-256", []string{"--no-starttls"}},
		{"SCRAM-SHA-256", []string{"--starttls", "--no-cb"}},
		{"SCRAM-SHA-256-PLUS", []string{"--starttls"}},
		{"PLAIN", []string{"--no-starttls"}},
		{"LOGIN", []string{"--starttls"}},
	} {
		name := c.mechanism + " " + strings.Join(c.options, " ")
		said := gsasl(r, u, c.mechanism, c.options...)
		if !strings.Contains(said, "\n235 2.7.0 ") || !strings.Contains(said, "server trusted") {
			t.Errorf("%s: want 235 and a trusted server:\n%s", name, said)
		}
		if strings.HasPrefix(c.mechanism, "SCRAM") && strings.Contains(said, u.Password) {
			t.Errorf("%s showed the password", name)
		}
	}
	for name, wrong := range map[string]user{"wrong password": {u.Username, "wrong"}, "unknown user": {"s1_999", u.Password}} {
		said := gsasl(r, wrong, "SCRAM-SHA-256", "--no-starttls")
		if strings.Count(said, "\n334 ") != 2 || !strings.Contains(said, "\n535 5.7.8 User name or password is wrong") {
			t.Errorf("%s: want two challenges, and 535:\n%s", name, said)
		}
	}
	if said := gsasl(r, u, "SCRAM-SHA-256-PLUS", "--no-starttls"); !strings.Contains(said, "\n504 5.5.4 ") {
		t.Errorf("PLUS in clear: want 504:\n%s", said)
	}
	for _, mode := range modes() {
		to := "bob@" + rcptDomain
		e := errand{relay: r.smtp, mode: mode, user: u, from: fromAddr, to: []string{to}, file: scratch(t, simple(to, "scram"))}
		cmd := msmtpBy("scram-sha-256")(t, e)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("msmtp, %s: %v\n%s", mode, err, out)
		}
	}
	waitFor(t, 20*time.Second, "both messages of msmtp have arrived", func() bool { return len(s.received()) == len(modes()) })
}
