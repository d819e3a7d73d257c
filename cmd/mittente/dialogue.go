package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"mittente/internal/smtp"
)

// dialogue is a small SMTP client that keeps a transcript: for trying the own
// door, as the programs that use it do.
type dialogue struct {
	conn       net.Conn
	r          *bufio.Reader
	w          *bufio.Writer
	transcript []string
	show       io.Writer // gets each line as it comes; may be nil
	extensions []string  // of the last EHLO, in upper case
}

// refusal is a reply that ends a dialogue.
type refusal struct{ reply smtp.Reply }

// Error returns the reply.
func (r *refusal) Error() string { return "refused: " + r.reply.String() }

// handedIn is what a dialogue hands in.
type handedIn struct {
	username, password string
	from, to           string // for the envelope, without angle brackets
	tls                string // "none", "may" or "encrypt"
	utf8               bool   // RFC 6531
	content            []byte
}

const dialogueTime = 30 * time.Second // for each step

// handIn sends mail to the address and returns the last reply, which is a
// 250 when the error is nil, and the transcript with secrets masked.
func handIn(ctx context.Context, address string, l handedIn, show io.Writer) (smtp.Reply, []string, error) {
	conn, err := (&net.Dialer{Timeout: dialogueTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		return smtp.Reply{}, nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	d := &dialogue{show: show}
	d.over(conn)
	defer func() { _ = d.conn.Close() }()
	reply, err := d.handIn(l)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the server closed the connection: %w", err)
	}
	return reply, d.transcript, err
}

// over goes on over another connection: the first one, or TLS on it.
func (d *dialogue) over(conn net.Conn) {
	d.conn, d.r, d.w = conn, bufio.NewReader(conn), bufio.NewWriter(conn)
}

func (d *dialogue) handIn(l handedIn) (smtp.Reply, error) {
	if reply, err := d.reply(220); err != nil {
		return reply, err
	}
	if reply, err := d.hello(); err != nil {
		return reply, err
	}
	if l.tls == "encrypt" || l.tls == "may" && slices.Contains(d.extensions, "STARTTLS") {
		if reply, err := d.startTLS(); err != nil {
			return reply, err
		}
	}
	if reply, err := d.authenticate(l.username, l.password); err != nil {
		return reply, err
	}
	mailArgs := "MAIL FROM:<" + l.from + ">"
	if l.utf8 {
		mailArgs += " SMTPUTF8"
	}
	for _, step := range []struct {
		line string
		want int
	}{{mailArgs, 250}, {"RCPT TO:<" + l.to + ">", 250}, {"DATA", 354}} {
		if reply, err := d.ask(step.line, step.line, step.want); err != nil {
			d.quit()
			return reply, err
		}
	}
	reply, err := d.data(l.content)
	d.quit()
	return reply, err
}

func (d *dialogue) hello() (smtp.Reply, error) {
	const line = "EHLO localhost"
	reply, err := d.ask(line, line, 250)
	d.extensions = nil
	for _, text := range reply.Lines {
		word, _, _ := strings.Cut(strings.ToUpper(text), " ")
		d.extensions = append(d.extensions, word)
	}
	return reply, err
}

// startTLS takes whatever certificate there is: the peer is on this machine.
func (d *dialogue) startTLS() (smtp.Reply, error) {
	reply, err := d.ask("STARTTLS", "STARTTLS", 220)
	if err != nil {
		return reply, err
	}
	secured := tls.Client(d.conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // loopback, see above
	d.deadline()
	if err := secured.Handshake(); err != nil { //nolint:noctx // the connection's deadline follows the context
		return reply, fmt.Errorf("TLS handshake: %w", err)
	}
	state := secured.ConnectionState()
	d.note(fmt.Sprintf("   (%s, %s)", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)))
	d.over(secured)
	return d.hello()
}

// authenticate uses AUTH PLAIN (RFC 4616), and shows no secret.
func (d *dialogue) authenticate(username, password string) (smtp.Reply, error) {
	token := base64.StdEncoding.EncodeToString([]byte("\x00" + username + "\x00" + password))
	reply, err := d.ask("AUTH PLAIN "+token, "AUTH PLAIN "+masked, 235)
	if err != nil {
		d.quit()
	}
	return reply, err
}

// data sends content and the final dot.
func (d *dialogue) data(content []byte) (smtp.Reply, error) {
	for line := range strings.Lines(string(content)) {
		d.note("C: " + strings.TrimRight(line, "\r\n"))
	}
	d.note("C: .")
	d.deadline()
	w := smtp.NewDotWriter(d.w)
	if _, err := w.Write(content); err != nil {
		return smtp.Reply{}, err
	}
	if err := errors.Join(w.Close(), d.w.Flush()); err != nil {
		return smtp.Reply{}, err
	}
	return d.reply(250)
}

// ask sends a line, shown as shown, and reads the reply.
func (d *dialogue) ask(line, shown string, want int) (smtp.Reply, error) {
	d.note("C: " + shown)
	d.deadline()
	if _, err := d.w.WriteString(line + "\r\n"); err != nil {
		return smtp.Reply{}, err
	}
	if err := d.w.Flush(); err != nil {
		return smtp.Reply{}, err
	}
	return d.reply(want)
}

// reply reads a reply; one of another code is a refusal.
func (d *dialogue) reply(want int) (smtp.Reply, error) {
	d.deadline()
	reply, err := smtp.ReadReply(d.r, smtp.MaxReply)
	if err != nil {
		return reply, err
	}
	for line := range strings.Lines(string(reply.Append(nil))) {
		d.note("S: " + strings.TrimRight(line, "\r\n"))
	}
	if reply.Code != want {
		return reply, &refusal{reply}
	}
	return reply, nil
}

// quit is a matter of good manners; nothing depends on it.
func (d *dialogue) quit() { _, _ = d.ask("QUIT", "QUIT", 221) }

func (d *dialogue) deadline() { _ = d.conn.SetDeadline(time.Now().Add(dialogueTime)) }

func (d *dialogue) note(line string) {
	d.transcript = append(d.transcript, line)
	if d.show != nil {
		fmt.Fprintln(d.show, line)
	}
}
