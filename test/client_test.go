package test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// reply is what a server said, its lines joined by a line feed.
type reply struct {
	code int
	text string
}

// String gives the reply as a transcript shows it.
func (r reply) String() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// wire is an SMTP client that does what it is told, byte for byte. Its methods
// return errors, so that it can be used while the server is being killed.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
	said bytes.Buffer // all replies, for those who look for a secret in them
}

// dialWire connects and reads the greeting.
func dialWire(addr string) (*wire, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn, r: bufio.NewReader(conn)}
	rep, err := w.read()
	if err == nil && rep.code != 220 {
		err = fmt.Errorf("greeting: %v", rep)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

// read reads one reply, of several lines if need be (RFC 5321 §4.2.1).
func (w *wire) read() (reply, error) {
	w.conn.SetReadDeadline(time.Now().Add(40 * time.Second))
	var rep reply
	var lines []string
	for {
		line, err := w.r.ReadString('\n')
		w.said.WriteString(line)
		if err != nil {
			return reply{}, err
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		if !ok || len(line) < 3 {
			return reply{}, fmt.Errorf("not a reply line: %q", line)
		}
		if rep.code, err = strconv.Atoi(line[:3]); err != nil {
			return reply{}, fmt.Errorf("not a reply line: %q", line)
		}
		lines = append(lines, strings.TrimLeft(line[3:], " -"))
		if len(line) == 3 || line[3] == ' ' {
			rep.text = strings.Join(lines, "\n")
			return rep, nil
		}
	}
}

func (w *wire) write(b []byte) error {
	w.conn.SetWriteDeadline(time.Now().Add(40 * time.Second))
	_, err := w.conn.Write(b)
	return err
}

// do sends one command line and reads the reply to it.
func (w *wire) do(line string) (reply, error) {
	if err := w.write([]byte(line + "\r\n")); err != nil {
		return reply{}, err
	}
	return w.read()
}

// expect is do for a command that must be answered by code.
func (w *wire) expect(code int, line string) error {
	rep, err := w.do(line)
	if err == nil && rep.code != code {
		err = fmt.Errorf("%s: %v; want %d", line, rep, code)
	}
	return err
}

// plain is the initial response of AUTH PLAIN (RFC 4616).
func plain(u user) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + u.Username + "\x00" + u.Password))
}

// login greets and authenticates.
func (w *wire) login(u user) error {
	if err := w.expect(250, "EHLO client.test"); err != nil {
		return err
	}
	return w.expect(235, "AUTH PLAIN "+plain(u))
}

// stuff makes content ready for DATA: every line that begins with a dot gets
// another one, and the final dot follows. Line ends are left as they are.
func stuff(content []byte) []byte {
	b := bytes.ReplaceAll(content, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(b, []byte(".")) {
		b = append([]byte("."), b...)
	}
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(b, "\r\n"...)
	}
	return append(b, ".\r\n"...)
}

// unfinished is stuff without the final dot.
func unfinished(content []byte) []byte { return bytes.TrimSuffix(stuff(content), []byte(".\r\n")) }

// send sends one message and returns the reply to its final dot, or the first
// reply that was not the hoped-for one.
func (w *wire) send(from, to string, content []byte) (reply, error) {
	for _, step := range []struct {
		line string
		code int
	}{{"MAIL FROM:<" + from + ">", 250}, {"RCPT TO:<" + to + ">", 250}, {"DATA", 354}} {
		rep, err := w.do(step.line)
		if err != nil || rep.code != step.code {
			return rep, err
		}
	}
	if err := w.write(stuff(content)); err != nil {
		return reply{}, err
	}
	return w.read()
}

// client is a wire in a test: what goes wrong fails the test.
type client struct {
	*wire
	t *testing.T
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	w, err := dialWire(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.conn.Close() })
	return &client{wire: w, t: t}
}

// dialAs connects and authenticates in clear.
func dialAs(t *testing.T, addr string, u user) *client {
	t.Helper()
	c := dial(t, addr)
	if err := c.login(u); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask sends a command and returns the reply.
func (c *client) ask(line string) reply {
	c.t.Helper()
	rep, err := c.do(line)
	if err != nil {
		c.t.Fatalf("%s: %v", line, err)
	}
	return rep
}

// want sends a command whose reply must begin with text, as "250 2.1.0".
func (c *client) want(text, line string) {
	c.t.Helper()
	rep := c.ask(line)
	if !strings.HasPrefix(rep.String(), text) {
		c.t.Fatalf("%s: %v; want %s", line, rep, text)
	}
}

// starttls goes over to TLS and returns the server's certificate state.
func (c *client) starttls() tls.ConnectionState {
	c.t.Helper()
	c.want("250", "EHLO client.test")
	c.want("220", "STARTTLS")
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		c.t.Fatalf("STARTTLS: %v", err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return conn.ConnectionState()
}

// mail sends a message that must get a reply beginning with text.
func (c *client) mail(text, from, to string, content []byte) reply {
	c.t.Helper()
	rep, err := c.send(from, to, content)
	if err != nil {
		c.t.Fatalf("sending from <%s> to <%s>: %v", from, to, err)
	}
	if !strings.HasPrefix(rep.String(), text) {
		c.t.Fatalf("sending from <%s> to <%s>: %v; want %s", from, to, rep, text)
	}
	return rep
}

// submit sends one message; what follows MAIL FROM: and RCPT TO: is given.
func (c *client) submit(from string, to []string, content []byte) (message string) {
	c.t.Helper()
	c.want("250", "MAIL FROM:"+from)
	for _, rcpt := range to {
		c.want("250", "RCPT TO:"+rcpt)
	}
	c.want("354", "DATA")
	if err := c.write(stuff(content)); err != nil {
		c.t.Fatal(err)
	}
	rep, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return queuedID(c.t, rep)
}

// closed asserts that the server has closed the connection.
func (c *client) closed() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if line, err := c.r.ReadString('\n'); err == nil || isTimeout(err) {
		c.t.Fatalf("the connection is still open: %q, %v", line, err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// simple is a small message with a subject that can be looked for.
func simple(to, subject string) []byte {
	return fmt.Appendf(nil, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@client.test>\r\n\r\nHello.\r\n",
		fromAddr, to, subject, strings.ReplaceAll(subject, " ", "."))
}
