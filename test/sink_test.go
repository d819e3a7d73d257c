package test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// arrived is a message as a sink got it.
type arrived struct {
	from    string
	to      []string
	content []byte // dots unstuffed, CRLF; nil in a sink that keeps none
	tls     bool
	user    string // who authenticated
}

// sinkConfig says how a sink answers. The functions may block, and may be called
// by several connections at once; an empty reply means "250 2.0.0 OK".
type sinkConfig struct {
	addr   string      // host:port
	cert   *tls.Config // nil: no STARTTLS
	auth   *user       // not nil: AUTH PLAIN is demanded, after STARTTLS
	onRcpt func(to string) string
	onData func(m *arrived) string // at the final dot, before its reply
	forget bool                    // keeps no messages; onData sees them
	greet  func(n int) string      // the greeting of the nth connection; other than 220 ends it, "" is never said
	delay  time.Duration           // before every reply
}

// sink is a small and fast mail server.
type sink struct {
	sinkConfig
	mu    sync.Mutex
	mails []*arrived
	conns map[net.Conn]bool
	count int           // connections so far
	ended chan struct{} // closed at the end of the test
}

func startSink(t *testing.T, c sinkConfig) *sink {
	t.Helper()
	listener, err := net.Listen("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{sinkConfig: c, conns: make(map[net.Conn]bool), ended: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.count++
			number := s.count
			s.mu.Unlock()
			running.Go(func() {
				s.serve(conn, number)
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		close(s.ended)
		s.mu.Lock()
		for conn := range s.conns {
			conn.Close()
		}
		s.mu.Unlock()
		running.Wait()
	})
	return s
}

// received returns the messages so far.
func (s *sink) received() []*arrived {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*arrived(nil), s.mails...)
}

// connections returns how many there have been.
func (s *sink) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// open returns how many connections there are now.
func (s *sink) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// wait waits for n messages.
func (s *sink) wait(t *testing.T, n int) []*arrived {
	t.Helper()
	waitFor(t, 20*time.Second, fmt.Sprintf("the sink has %d message(s)", n), func() bool { return len(s.received()) >= n })
	return s.received()
}

// session is one connection of a sink.
type session struct {
	*sink
	conn  net.Conn
	r     *bufio.Reader
	w     *bufio.Writer
	mail  arrived
	tlsOn bool
	user  string
}

func (s *sink) serve(conn net.Conn, number int) {
	defer conn.Close()
	c := &session{sink: s, conn: conn, r: bufio.NewReaderSize(conn, 64<<10), w: bufio.NewWriter(conn)}
	greeting := "220 sink.test ESMTP"
	if s.greet != nil {
		greeting = s.greet(number)
	}
	if greeting != "" {
		c.reply(greeting)
	}
	if greeting != "" && !strings.HasPrefix(greeting, "220") {
		c.w.Flush()
		return
	}
	for {
		if c.r.Buffered() == 0 && c.w.Flush() != nil {
			return
		}
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		if !c.command(strings.TrimRight(line, "\r\n")) {
			c.w.Flush()
			return
		}
	}
}

func (c *session) reply(line string) {
	if c.delay > 0 {
		c.w.Flush()
		select {
		case <-time.After(c.delay):
		case <-c.ended:
		}
	}
	c.w.WriteString(line + "\r\n")
}

// command answers one command; false ends the connection.
func (c *session) command(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		c.ehlo()
	case "HELO", "NOOP":
		c.reply("250 sink.test")
	case "STARTTLS":
		return c.starttls()
	case "AUTH":
		c.authenticate(rest)
	case "MAIL":
		c.mail = arrived{from: path(rest), tls: c.tlsOn, user: c.user}
		if c.auth != nil && c.user == "" {
			c.reply("530 5.7.0 Authentication required")
			break
		}
		c.reply("250 2.1.0 OK")
	case "RCPT":
		c.rcpt(path(rest))
	case "DATA":
		return c.data()
	case "RSET":
		c.mail = arrived{}
		c.reply("250 2.0.0 OK")
	case "QUIT":
		c.reply("221 2.0.0 Bye")
		return false
	default:
		c.reply("502 5.5.1 Unknown command")
	}
	return true
}

func (c *session) ehlo() {
	lines := []string{"sink.test", "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"}
	if c.cert != nil && !c.tlsOn {
		lines = append(lines, "STARTTLS")
	}
	if c.auth != nil && c.tlsOn {
		lines = append(lines, "AUTH PLAIN")
	}
	for _, line := range lines {
		c.reply("250-" + line)
	}
	c.reply("250 SIZE 104857600")
}

func (c *session) starttls() bool {
	if c.cert == nil {
		c.reply("502 5.5.1 Unknown command")
		return true
	}
	c.reply("220 2.0.0 Go ahead")
	c.w.Flush()
	conn := tls.Server(c.conn, c.cert)
	if conn.Handshake() != nil {
		return false
	}
	c.r, c.w, c.tlsOn = bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn), true
	return true
}

func (c *session) authenticate(rest string) {
	b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
	parts := strings.Split(string(b), "\x00")
	if c.auth == nil || len(parts) != 3 || parts[1] != c.auth.Username || parts[2] != c.auth.Password {
		c.reply("535 5.7.8 No")
		return
	}
	c.user = parts[1]
	c.reply("235 2.7.0 OK")
}

func (c *session) rcpt(to string) {
	answer := ""
	if c.onRcpt != nil {
		answer = c.onRcpt(to)
	}
	if answer == "" {
		c.mail.to = append(c.mail.to, to)
		answer = "250 2.1.5 OK"
	}
	c.reply(answer)
}

func (c *session) data() bool {
	if len(c.mail.to) == 0 {
		c.reply("503 5.5.1 No recipient")
		return true
	}
	c.reply("354 Go on")
	c.w.Flush()
	content, err := readContent(c.r)
	if err != nil {
		c.reply("550 5.6.0 " + err.Error())
		return false
	}
	m := c.mail
	m.content = content
	answer := ""
	if c.onData != nil {
		answer = c.onData(&m)
	}
	if answer == "" {
		answer = "250 2.0.0 OK"
	}
	if strings.HasPrefix(answer, "250") && !c.forget {
		c.mu.Lock()
		c.mails = append(c.mails, &m)
		c.mu.Unlock()
	}
	c.reply(answer)
	return true
}

// errBare says that content held a line end other than CRLF.
var errBare = errors.New("bare CR or LF in content")

// readContent reads content up to the final dot (RFC 5321 §4.5.2) and asserts
// that every line ends in CRLF.
func readContent(r *bufio.Reader) ([]byte, error) {
	var b bytes.Buffer
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, io.ErrUnexpectedEOF
		}
		atStart := b.Len() == 0 || b.Bytes()[b.Len()-1] == '\n'
		if atStart && bytes.Equal(line, []byte(".\r\n")) {
			return b.Bytes(), nil
		}
		if atStart && line[0] == '.' {
			line = line[1:]
		}
		b.Write(line)
		if err == nil && !bytes.HasSuffix(b.Bytes(), []byte("\r\n")) {
			return nil, errBare
		}
	}
}

// path takes the address out of "FROM:<a@b> SIZE=1".
func path(args string) string {
	_, rest, _ := strings.Cut(args, "<")
	address, _, _ := strings.Cut(rest, ">")
	return address
}
