package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mittente/internal/smtp"
)

// inbox is a mail server that takes everything and shows it: the far end of the demo.
type inbox struct {
	listener net.Listener
	dir      string         // each message is a file there
	arrived  chan<- capture // told of each; never waited for
	wg       sync.WaitGroup

	mu    sync.Mutex
	count int
	conns map[net.Conn]struct{}
}

// capture is a message that arrived.
type capture struct {
	file    string
	from    string
	to      []string
	content []byte
}

const (
	inboxMax      = 64 << 20 // octets of a message
	inboxMessages = 1000     // files kept; after that the first is overwritten
	inboxTime     = time.Minute
)

// newInbox listens on a free port of loopback.
func newInbox(ctx context.Context, dir string, arrived chan<- capture) (*inbox, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &inbox{listener: l, dir: dir, arrived: arrived, conns: map[net.Conn]struct{}{}}, nil
}

func (i *inbox) addr() string { return i.listener.Addr().String() }

// run takes mail until ctx ends.
func (i *inbox) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		_ = i.listener.Close()
		i.mu.Lock()
		defer i.mu.Unlock()
		for conn := range i.conns {
			_ = conn.Close()
		}
	})
	defer stop()
	defer i.wg.Wait()
	for {
		conn, err := i.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("inbox: %w", err)
		}
		i.mu.Lock()
		i.conns[conn] = struct{}{}
		i.mu.Unlock()
		i.wg.Go(func() {
			i.serve(conn)
			i.mu.Lock()
			delete(i.conns, conn)
			i.mu.Unlock()
			_ = conn.Close()
		})
	}
}

// inboxSession is one connection.
type inboxSession struct {
	*inbox
	r    *bufio.Reader
	conn net.Conn
	from *string // nil outside of a transaction
	to   []string
}

func (i *inbox) serve(conn net.Conn) {
	s := &inboxSession{inbox: i, r: bufio.NewReader(conn), conn: conn}
	s.say(220, "inbox.localhost ESMTP demo inbox")
	for {
		_ = conn.SetDeadline(time.Now().Add(inboxTime))
		line, err := smtp.ReadLine(s.r, 4096)
		if err != nil {
			return
		}
		command, err := smtp.ParseCommand(line)
		if err != nil {
			s.say(500, "Command not recognised")
			continue
		}
		if !s.answer(command) {
			return
		}
	}
}

// answer carries a command out; false ends the connection.
func (s *inboxSession) answer(c smtp.Command) bool {
	switch c.Verb {
	case "EHLO":
		s.say(250, "inbox.localhost", "PIPELINING", "8BITMIME", "SMTPUTF8", fmt.Sprintf("SIZE %d", inboxMax))
	case "HELO":
		s.say(250, "inbox.localhost")
	case "MAIL":
		s.mail(c.Args)
	case "RCPT":
		s.rcpt(c.Args)
	case "DATA":
		return s.data()
	case "RSET":
		s.from, s.to = nil, nil
		s.say(250, "OK")
	case "NOOP":
		s.say(250, "OK")
	case "QUIT":
		s.say(221, "Bye")
		return false
	default:
		s.say(502, "Not known here")
	}
	return true
}

func (s *inboxSession) mail(args string) {
	m, err := smtp.ParseMail(args)
	if err != nil {
		s.say(501, err.Error())
		return
	}
	from := m.From.String()
	s.from, s.to = &from, nil
	s.say(250, "OK")
}

func (s *inboxSession) rcpt(args string) {
	r, err := smtp.ParseRcpt(args)
	switch {
	case s.from == nil:
		s.say(503, "MAIL first")
	case err != nil:
		s.say(501, err.Error())
	case len(s.to) >= 100:
		s.say(452, "Too many recipients")
	default:
		s.to = append(s.to, r.To.String())
		s.say(250, "OK")
	}
}

func (s *inboxSession) data() bool {
	if len(s.to) == 0 {
		s.say(503, "RCPT first")
		return true
	}
	s.say(354, "Go on")
	content := smtp.NewDataReader(s.r, smtp.ContentRules{Size: inboxMax})
	var b strings.Builder
	buf := make([]byte, 32<<10)
	for {
		_ = s.conn.SetDeadline(time.Now().Add(inboxTime))
		n, err := content.Read(buf)
		b.Write(buf[:n])
		if content.Ended() {
			break
		}
		if err != nil {
			return false
		}
	}
	c, err := s.keep(capture{from: *s.from, to: s.to, content: []byte(b.String())})
	s.from, s.to = nil, nil
	if err != nil {
		s.say(452, "Can't keep it: "+err.Error())
		return true
	}
	s.say(250, "Captured as "+filepath.Base(c.file))
	select {
	case s.arrived <- c:
	default: // the reader is slow; the file is there
	}
	return true
}

// keep writes a message to its file.
func (i *inbox) keep(c capture) (capture, error) {
	i.mu.Lock()
	i.count++
	n := i.count
	i.mu.Unlock()
	c.file = filepath.Join(i.dir, fmt.Sprintf("%04d.eml", (n-1)%inboxMessages+1))
	return c, os.WriteFile(c.file, c.content, 0o600)
}

func (s *inboxSession) say(code int, lines ...string) {
	_, _ = smtp.Reply{Code: code, Lines: lines}.WriteTo(s.conn)
}

// header returns the header section of a captured message.
func (c capture) header() string {
	head, _, _ := strings.Cut(string(c.content), "\r\n\r\n")
	return strings.ReplaceAll(head, "\r\n", "\n")
}

// subject returns the raw Subject, for one line.
func (c capture) subject() string {
	for line := range strings.Lines(c.header()) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "Subject") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
