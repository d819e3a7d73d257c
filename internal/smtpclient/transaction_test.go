package smtpclient

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// dsn asks for all that RFC 3461 has.
func dsn(tb testing.TB) Envelope {
	tb.Helper()
	e := envelope(tb, "a@example.net", "b@example.net", "c@example.net")
	e.Return, e.EnvelopeID = mail.ReturnHeader, "QQ=31 4+"
	e.To[0].Notify, e.To[0].Original = mail.NotifySuccess|mail.NotifyDelay, "rfc822;A+x@example.net"
	e.To[1].Notify = mail.NotifyNever
	e.To[2].Original = "utf-8;jürgen@example.net"
	return e
}

// TestParameters: what the client said goes on to a server that understands it,
// and to no other (RFC 3461 §5.2.1, RFC 6533 §3).
func TestParameters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ offers, says string }{
		"nothing offered": {"S: 250 mx", `
			C: MAIL FROM:<sender@example.org>
			C: RCPT TO:<a@example.net>
			C: RCPT TO:<b@example.net>
			C: RCPT TO:<c@example.net>`},
		"DSN and SIZE": {`S: 250-mx\n250-SIZE 100\n250 DSN`, `
			C: MAIL FROM:<sender@example.org> SIZE=22 RET=HDRS ENVID=QQ+3D31+204+2B
			C: RCPT TO:<a@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;A+2Bx@example.net
			C: RCPT TO:<b@example.net> NOTIFY=NEVER
			C: RCPT TO:<c@example.net> ORCPT=utf-8;j\x{FC}rgen@example.net`},
		"international": {`S: 250-mx\n250-SMTPUTF8\n250-8BITMIME\n250 DSN`, `
			C: MAIL FROM:<sender@example.org> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+3D31+204+2B
			C: RCPT TO:<a@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;A+2Bx@example.net
			C: RCPT TO:<b@example.net> NOTIFY=NEVER
			C: RCPT TO:<c@example.net> ORCPT=utf-8;jürgen@example.net`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			says := strings.ReplaceAll(strings.TrimSpace(c.says), "\n", "\nS: 250 ok\n") + "\nS: 250 ok"
			conn := connect(t, Config{}, hello+c.offers+"\n"+says)
			e := dsn(t)
			e.UTF8 = name == "international"
			e.EightBit = e.UTF8
			tx, err := conn.Begin(bufio.NewWriter(nil), e, Grouped)
			if err != nil || tx.Pipelined() || tx.Unfinished() {
				t.Fatal(tx, err)
			}
			if r, err := tx.Mail(); err != nil || r.Code != 250 {
				t.Error(r, err)
			}
			for n := range e.To {
				if r, err := tx.Rcpt(n); err != nil || r.Code != 250 {
					t.Error(r, err)
				}
			}
		})
	}
}

const pipelining = hello + `S: 250-mx\n250 PIPELINING` + "\n"

// TestGrouped: all in one write, and a connection with replies under way is
// of no more use.
func TestGrouped(t *testing.T) {
	t.Parallel()
	conn := connect(t, Config{}, pipelining+`
		C: MAIL FROM:<sender@example.org>
		C: RCPT TO:<a@example.net>
		C: DATA
		S: 250 ok
		S: 550 no
		S: 354 go
		C: .
		S: 554 no recipients
		C: MAIL FROM:<sender@example.org>
		C: RCPT TO:<a@example.net>
		C: DATA
		S: 250 ok
		S: 421 bye`)
	w := bufio.NewWriter(nil)
	tx, err := conn.Begin(w, envelope(t, "a@example.net"), Grouped)
	if err != nil || !tx.Pipelined() || !conn.Broken() {
		t.Fatal(err, conn.Broken())
	}
	for _, ask := range []func() (smtp.Reply, error){tx.Mail, func() (smtp.Reply, error) { return tx.Rcpt(0) }, tx.Data} {
		if _, err := ask(); err != nil {
			t.Error(err)
		}
	}
	tx.Void()
	if conn.Broken() || !tx.Answered() || tx.Unfinished() {
		t.Error("broken by a refusal")
	}
	if tx, err = conn.Begin(w, envelope(t, "a@example.net"), Grouped); err != nil {
		t.Fatal(err)
	}
	_, _ = tx.Mail()
	if r, err := tx.Rcpt(0); err != nil || r.Code != CodeClosing || !conn.Broken() {
		t.Error(r, err, conn.Broken())
	}
}

// TestSingly: to a server that is known not to bear groups.
func TestSingly(t *testing.T) {
	t.Parallel()
	conn := connect(t, Config{}, pipelining+`
		C: MAIL FROM:<sender@example.org>
		S: 250 ok
		C: RSET
		S: 250 ok
		C: MAIL FROM:<sender@example.org>
		S: 250 ok`)
	for range 2 {
		tx, err := conn.Begin(bufio.NewWriter(nil), envelope(t, "a@example.net"), Singly)
		if err != nil || tx.Pipelined() {
			t.Fatal(err)
		}
		if tx.Unfinished() {
			if r, err := tx.Reset(); err != nil || r.Code != 250 {
				t.Error(r, err)
			}
		}
		if r, err := tx.Mail(); err != nil || r.Code != 250 || !tx.Unfinished() {
			t.Error(r, err)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

// TestSend: whatever happens, it is known whether the server may have the message.
func TestSend(t *testing.T) {
	t.Parallel()
	const granted = pipelining + `
		C: MAIL FROM:<sender@example.org>
		C: RCPT TO:<a@example.net>
		C: DATA
		`
	for name, c := range map[string]struct {
		script  string
		content io.Reader
		reply   int
		unsent  string
		last    int
	}{
		"taken":             {`S: 250 ok\n250 ok\n354 go` + "\nC: Hi\nC: ..\nC: .\nS: 250 ok", strings.NewReader("Hi\r\n.\r\n"), 250, "", 0},
		"refused":           {`S: 250 ok\n250 ok\n354 go` + "\nC: Hi\nC: .\nS: 554 no", strings.NewReader("Hi\r\n"), 554, "", 0},
		"nothing to read":   {`S: 250 ok\n250 ok\n354 go` + "\nSILENCE", io.MultiReader(strings.NewReader("half"), broken{}), 0, "disk on fire", 0},
		"not fit to send":   {`S: 250 ok\n250 ok\n354 go` + "\nSILENCE", strings.NewReader("a\rb"), 0, smtp.ErrLoneCR.Error(), 0},
		"too early a yes":   {`S: 250 ok\n250 ok\n354 go\n250 taken` + "\nSILENCE", strings.NewReader("Hi\r\n"), 0, ErrOutOfStep.Error(), 250},
		"no before the end": {`S: 250 ok\n250 ok\n354 go\n552 too big` + "\nSILENCE", strings.NewReader("Hi\r\n"), 0, ErrOutOfStep.Error(), 552},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, Config{}, granted+c.script)
			tx, err := conn.Begin(bufio.NewWriter(nil), envelope(t, "a@example.net"), Grouped)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = tx.Mail()
			_, _ = tx.Rcpt(0)
			if r, err := tx.Data(); err != nil || r.Code != 354 {
				t.Fatal(r, err)
			}
			r, err := tx.Send(c.content, make([]byte, 100))
			var unsent *UnsentError
			switch {
			case c.unsent == "":
				if err != nil || r.Code != c.reply || conn.Broken() || tx.Unfinished() {
					t.Error(r, err)
				}
			case !errors.As(err, &unsent) || unsent.Error() != c.unsent || unsent.Last.Code != c.last || !conn.Broken():
				t.Error(r, err, unsent)
			case unsent.Content != (c.last == 0):
				t.Error("whose fault it was", unsent.Content)
			}
		})
	}
}

// TestRepliesAreCounted, those that do not come as well.
func TestRepliesAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := map[int]int{}
		conn := connect(t, Config{OnReply: func(class int) { got[class]++ }}, hello+"S: 250 mx\nC: STARTTLS\nS: 454 no\nC: STARTTLS\nSILENCE")
		_, _ = conn.StartTLS()
		if _, err := conn.StartTLS(); err == nil || !conn.Broken() {
			t.Error("silence is no reply")
		}
		if got[2] != 2 || got[4] != 1 || got[0] != 1 {
			t.Error(got)
		}
		conn.Close()
	})
}

// FuzzExtensions: whatever a server offers is read, and none of it grows.
func FuzzExtensions(f *testing.F) {
	for _, s := range []string{"250-mx\r\n250 SIZE 1\r\n", "250-mx\r\n250-AUTH=PLAIN\r\n250 LIMITS RCPTMAX=9 MAILMAX\r\n", "250 \r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := smtp.ReadReply(bufio.NewReader(strings.NewReader(text)), smtp.MaxReply)
		if err != nil {
			return
		}
		e := parseExtensions(r)
		if e.Size < 0 || e.Recipients < 0 || e.Transactions < 0 || e.Domains < 0 || len(e.Auth) > len(text) {
			t.Errorf("%q: %+v", text, e)
		}
	})
}
