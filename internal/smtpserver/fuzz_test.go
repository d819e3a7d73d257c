package smtpserver

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mittente/internal/smtp/smtptest"
)

// stream is a connection whose client has said everything already; it comes by
// pieces of at most n octets.
type stream struct {
	in  []byte
	n   int
	out bytes.Buffer
}

func (c *stream) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in[:min(c.n, len(c.in))])
	c.in = c.in[n:]
	return n, nil
}

func (c *stream) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *stream) Close() error                     { return nil }
func (c *stream) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *stream) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)} }
func (c *stream) SetDeadline(time.Time) error      { return nil }
func (c *stream) SetReadDeadline(time.Time) error  { return nil }
func (c *stream) SetWriteDeadline(time.Time) error { return nil }

// hear returns what a server says to in, and what it took.
func hear(t *testing.T, in []byte, n int) (out string, f *fake) {
	t.Helper()
	f = &fake{}
	c := &stream{in: in, n: n}
	v := testServer(t, testConfig(), f)
	v.ServeConn(t.Context(), c)
	if len(v.sessions)+len(v.clients) != 0 {
		t.Error("the session is still there")
	}
	return c.out.String(), f
}

// A session says the same however its octets are cut into segments, and every
// reply has the form of RFC 5321 §4.2. A message is taken only after DATA or BDAT,
// and a session has a record that can be shown.
func FuzzSession(f *testing.F) {
	start := "EHLO c\r\n" + login + "\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	for _, s := range []string{
		"DATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n", "BDAT 3\r\na\r\nBDAT 0 LAST\r\n", "BDAT 5\r\nab", "BDAT 99999 LAST\r\n", "BDAT x\r\n",
		"BDAT 3\r\na\r\nRSET\r\nBDAT 1 LAST\r\nx", "DATA\r\na\n.\nMAIL FROM:<>\r\n.\r\n", "DATA\r\n\x00\r\n.\r\nNOOP\r\n", "DATA\r\nCase: \r\n.\r\n",
		"BDAT 8\r\nCase: x\nBDAT 1 LAST\r\nx", "AUTH LOGIN\r\n*\r\n", "\r\n\r\n", "EHLO x\r\nMAIL FROM:<a@b.example> RET=FULL\r\nRSET\r\nQUIT\r\n",
	} {
		f.Add([]byte(start+s), uint8(7))
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		whole, one := hear(t, in, len(in)+1)
		cut, many := hear(t, in, int(piece)%40+1)
		if whole != cut || strings.Join(one.taken, "|") != strings.Join(many.taken, "|") {
			t.Errorf("at once %q, taken %q; in pieces %q, taken %q", whole, one.taken, cut, many.taken)
		}
		for line := range strings.Lines(whole) {
			if len(line) < 6 || line[0] < '2' || line[0] > '5' || !strings.HasSuffix(line, "\r\n") || len(line) > 512 && line[:3] != "334" {
				t.Errorf("not a reply: %q", line)
			}
		}
		if n := strings.Count(strings.ToUpper(string(in)), "DATA") + strings.Count(strings.ToUpper(string(in)), "BDAT"); len(one.taken) > n {
			t.Errorf("%d messages of %d", len(one.taken), n)
		}
		for _, record := range one.records {
			if len(record) > maxRecord || strings.Contains(record, "c2VjcmV0") {
				t.Errorf("record %q", record)
			}
		}
	})
}

// The record keeps the beginning and the end of a long session, whole lines of it.
func TestRecordIsBounded(t *testing.T) {
	in := "EHLO first.example\r\n" + login + "\r\n"
	for range 200 {
		in += "RSET\r\nNOOP\r\n"
	}
	in += "MAIL FROM:<a@" + strings.Repeat("x.", 100) + "example>\r\nRCPT TO:<last@d.example>\r\nDATA\r\n.\r\n"
	_, f := hear(t, []byte(in), len(in))
	if len(f.records) != 1 {
		t.Fatal("nothing was taken")
	}
	r := f.records[0]
	if len(r) > maxRecord || strings.Count(r, "...\n") != 1 {
		t.Errorf("%d octets\n%s", len(r), r)
	}
	for _, want := range []string{"S: 220 mx.example.org ESMTP mittente\nC: EHLO first.example\n", "C: AUTH PLAIN ****\n", "C: RCPT TO:<last@d.example>\nS: 250 2.1.5 Recipient ok\nC: DATA\nS: 354 "} {
		if !strings.Contains(r, want) {
			t.Errorf("no %q in\n%s", want, r)
		}
	}
	for line := range strings.Lines(r) {
		if line != "...\n" && !strings.HasPrefix(line, "C: ") && !strings.HasPrefix(line, "S: ") {
			t.Errorf("half a line: %q", line)
		}
	}
}

// Nothing that could be a password is in the record: not in AUTH, not in the
// lines that follow it, not in what is said out of turn.
func TestRecordHasNoSecrets(t *testing.T) {
	const secret = "aHVudGVyMg=="
	for _, in := range []string{
		"AUTH PLAIN " + secret, "AUTH LOGIN " + secret + "\r\n" + secret, "AUTH LOGIN\r\n" + secret + "\r\n" + secret, "AUTH " + secret,
		"AUTH\t" + secret, "auth plain " + secret, secret, "USER " + secret, "PASS " + secret, "AUTHPLAIN " + secret, "AUTH PLAIN\r\n" + secret, " " + secret,
	} {
		all := "EHLO c\r\n" + in + "\r\n*\r\n" + login + "\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 16 LAST\r\nPASS " + secret[:9] + "\r\n"
		_, f := hear(t, []byte(all), len(all))
		if len(f.records) != 1 {
			t.Fatalf("%q: nothing was taken", in)
		}
		if strings.Contains(f.records[0], secret[:6]) {
			t.Errorf("%q can be read in\n%s", in, f.records[0])
		}
	}
}

// A handshake that fails in whatever way ends the session; nothing after it is heard.
func TestFailedHandshakes(t *testing.T) {
	for name, garbage := range map[string]string{
		"in clear":          "EHLO c.example\r\n" + login + "\r\n",
		"half a record":     "\x16\x03\x01\x02\x00\x01\x00",
		"SSL 2":             "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
		"an alert":          "\x15\x03\x01\x00\x02\x02\x28",
		"TLS 1.0":           "\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x01" + strings.Repeat("r", 32) + "\x00\x00\x02\x00\x2f\x01\x00",
		"a record too long": "\x16\x03\x01\xff\xff" + strings.Repeat("x", 100),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.TLS = smtptest.ServerTLS(t, "mx.example.org")
			f := &fake{}
			v := testServer(t, cfg, f)
			c := &stream{in: []byte("EHLO c.example\r\n"), n: 1 << 16}
			c.in = append(c.in, "STARTTLS\r\n"...)
			step := &afterwards{stream: c, rest: []byte(garbage + "EHLO c.example\r\n" + login + "\r\nMAIL FROM:<a@b.example>\r\n")}
			v.ServeConn(t.Context(), step)
			_, after, _ := strings.Cut(c.out.String(), "Ready for TLS\r\n")
			if strings.Contains(after, "250") || strings.Contains(after, "235") || len(f.mails) > 0 || !strings.Contains(c.out.String(), "220 2.0.0 Ready for TLS") {
				t.Errorf("goes on: %q", after)
			}
		})
	}
}

// afterwards says the rest once the server is ready for TLS.
type afterwards struct {
	*stream

	rest []byte
}

func (a *afterwards) Read(p []byte) (int, error) {
	if len(a.in) == 0 && a.rest != nil {
		a.in, a.rest = a.rest, nil
	}
	return a.stream.Read(p)
}
