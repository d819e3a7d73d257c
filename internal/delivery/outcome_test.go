package delivery

import (
	"bufio"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"mittente/internal/mail"
	"mittente/internal/route"
	"mittente/internal/smtp"
	"mittente/internal/smtpclient"
)

type tlsState = tls.ConnectionState

func readReply(tb testing.TB, text string) (smtp.Reply, error) {
	tb.Helper()
	return smtp.ReadReply(bufio.NewReader(strings.NewReader(text)), smtp.MaxReply)
}

// TestJudge is the table of outcome.go.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stage  smtpclient.Stage
		reply  string
		routed bool
		want   string
	}{
		{smtpclient.AtGreeting, "450 x", false, "delayed site 450 4.0.0 x"},
		{smtpclient.AtGreeting, "554 5.7.1 x", false, "delayed site 554 5.7.1 x ours"},
		{smtpclient.AtHello, "550 x", false, "delayed site 550 5.0.0 x ours"},
		{smtpclient.AtTLS, "454 4.7.0 x", false, "delayed site 454 4.7.0 x"},
		{smtpclient.AtAuth, "535 5.7.8 x", true, "delayed site 535 5.7.8 x ours"},
		{smtpclient.AtReset, "503 x", false, "delayed site 503 5.0.0 x"},
		{smtpclient.AtMail, "450 x", false, "delayed message 450 4.0.0 x"},
		{smtpclient.AtMail, "452 4.3.1 x", false, "delayed site 452 4.3.1 x"},
		{smtpclient.AtMail, "450 4.7.1 x", false, "delayed message 450 4.7.1 x"},
		{smtpclient.AtMail, "421 4.7.1 x", false, "delayed site 421 4.7.1 x"},
		{smtpclient.AtMail, "550 5.7.1 x", false, "failed message 550 5.7.1 x"},
		{smtpclient.AtMail, "530 5.7.0 x", false, "failed message 530 5.7.0 x"},
		{smtpclient.AtMail, "530 5.7.0 x", true, "delayed site 530 5.7.0 x ours"},
		{smtpclient.AtMail, "250 2.0.0 x", false, "delayed site 250 4.5.0 unexpected reply to MAIL: x"},
		{smtpclient.AtRcpt, "450 4.7.1 x", false, "delayed recipient 450 4.7.1 x"},
		{smtpclient.AtRcpt, "452 4.3.1 x", false, "delayed recipient 452 4.3.1 x"},
		{smtpclient.AtRcpt, "550 5.1.1 x", false, "failed recipient 550 5.1.1 x"},
		{smtpclient.AtRcpt, "535 5.7.8 x", true, "failed recipient 535 5.7.8 x"},
		{smtpclient.AtRcpt, "421 x", false, "delayed site 421 4.0.0 x"},
		{smtpclient.AtData, "451 x", false, "delayed message 451 4.0.0 x"},
		{smtpclient.AtData, "451 4.3.0 x", false, "delayed site 451 4.3.0 x"},
		{smtpclient.AtData, "554 x", false, "failed message 554 5.0.0 x"},
		{smtpclient.AtEnd, "451 4.7.1 x", false, "delayed message 451 4.7.1 x"},
		{smtpclient.AtEnd, "552 5.3.4 x", false, "failed message 552 5.3.4 x"},
		{smtpclient.AtEnd, "421 4.3.2 x", false, "delayed site 421 4.3.2 x"},
		{smtpclient.AtEnd, "354 x", false, "delayed site 354 4.5.0 unexpected reply to end of data: x"},
	} {
		r, err := readReply(t, c.reply+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		var routes []route.Static
		if c.routed {
			routes = append(routes, route.Static{Domain: "*", NextHop: "h.example:25"})
		}
		if got := show(*judgeFor(t, routes, c.stage, r)); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.stage, c.reply, got, c.want)
		}
	}
}

// judgeFor judges a reply on the way of a static route or of MX records.
func judgeFor(t *testing.T, routes []route.Static, s smtpclient.Stage, r smtp.Reply) *mail.Outcome {
	t.Helper()
	plan, _ := courier(t, Config{}, routes...).Plan(t.Context(), "example.net")
	return (&transaction{attempt: &attempt{plan: plan}}).judge(s, r)
}

// TestTooMany is RFC 5321 §4.5.3.1.10.
func TestTooMany(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]bool{
		"452 x": true, "452 4.5.3 x": true, "452 4.3.1 x": true, "451 4.5.3 x": true, "552 x": true, "552 5.5.3 x": true,
		"552 5.2.2 x": false, "450 x": false, "550 5.1.1 x": false, "421 4.5.3 x": false, "250 2.5.3 x": false,
	} {
		r, err := readReply(t, reply+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		if tooMany(r) != want {
			t.Errorf("%s: want %v", reply, want)
		}
	}
}

// TestLost gives every error a status.
func TestLost(t *testing.T) {
	t.Parallel()
	if got := show(lost(smtpclient.AtRcpt, errors.New("reset"))); got != "delayed site 4.4.2 connection lost at RCPT: reset" {
		t.Error(got)
	}
}

// FuzzJudge: whatever a server says, there is an outcome, and it can be shown.
func FuzzJudge(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "550-5.1.1 no\r\n550 5.1.1 \x1b[2Jreally\r\n", "421 4.7.0\r\n", "452 4.5.3 \xff\xfe\r\n", "354\r\n", "599 5.999.999 \u2028\r\n", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := readReply(t, text)
		for _, s := range []smtpclient.Stage{smtpclient.AtGreeting, smtpclient.AtHello, smtpclient.AtTLS, smtpclient.AtAuth, smtpclient.AtReset, smtpclient.AtMail, smtpclient.AtRcpt, smtpclient.AtData, smtpclient.AtEnd} {
			o := lost(s, err1(err))
			if err == nil {
				o = judge(s, r)
				tooMany(r)
			}
			if o.Action != mail.Deferred && o.Action != mail.Failed || o.Scope == "" || o.Status.IsZero() {
				t.Errorf("%s %q: %+v", s, text, o)
			}
			if o.Action == mail.Failed && r.Class() != 5 {
				t.Errorf("%s %q fails a recipient", s, text)
			}
			if !utf8.ValidString(o.Diagnostic) || len(o.Diagnostic) > 1000 || strings.ContainsFunc(o.Diagnostic, unicode.IsControl) {
				t.Errorf("%s %q: diagnostic %q", s, text, o.Diagnostic)
			}
		}
	})
}

func err1(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
