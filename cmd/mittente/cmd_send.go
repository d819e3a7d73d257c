package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/mail"
	"mittente/internal/smtp"
	"mittente/internal/smtpserver"
)

type sendCmd struct {
	User    string `help:"The SMTP+ user to send as; needs no password."          placeholder:"NAME"            required:""`
	From    string `help:"The sender, in MAIL FROM and From."                     placeholder:"A"               required:""`
	To      string `help:"The recipient."                                         placeholder:"B"               required:""`
	Subject string `default:"Test from mittente"                                  help:"The subject."`
	Body    string `default:"This is a test, sent with: mittente send"            help:"The text."`
	Port    uint16 `help:"The port to go through; default: the first bound one."  placeholder:"N"`
	TLS     string `default:"may"                                                 enum:"none,may,encrypt"         help:"STARTTLS: ${enum}." name:"tls"`
}

const (
	// The server looks for changes of other processes ten times a second; it has
	// to know the one-time password before it is used.
	noticed     = 300 * time.Millisecond
	noticedLate = 1500 * time.Millisecond
	// oneTimeLives is short, so that tests that are refused, and leave their
	// password unused, do not keep others from being made.
	oneTimeLives = 15 * time.Second
)

type sendView struct {
	Accepted   bool     `json:"accepted"`
	Message    string   `json:"message,omitempty"`
	Reply      string   `json:"reply"`
	Transcript []string `json:"transcript"`
}

// Run sends a test mail through the running server.
func (c sendCmd) Run(ctx context.Context, a *app) error {
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return fmt.Errorf("%w: --from: %w", errUsage, err)
	}
	to, err := mail.ParseAddress(c.To)
	if err != nil {
		return fmt.Errorf("%w: --to: %w", errUsage, err)
	}
	l := handedIn{
		username: c.User, from: from.String(), to: to.String(), tls: c.TLS, utf8: from.NeedsUTF8() || to.NeedsUTF8(),
		content: testMail(from, to, c.Subject, c.Body),
	}
	return a.with(ctx, reads, func(h *house) error {
		report, err := h.report(ctx)
		if err != nil {
			return err
		}
		address, err := report.door(c.Port)
		if err != nil {
			return err
		}
		return c.send(ctx, a, h, address, l)
	})
}

// send hands the letter in; where the server does not know the one-time password
// yet, once more. A refusal that names the user comes from one that knows it.
func (c sendCmd) send(ctx context.Context, a *app, h *house, address string, l handedIn) error {
	a.progress("through %s, as %s", address, c.User)
	var reply smtp.Reply
	var transcript []string
	var err error
	if l.password, err = h.oneTime(ctx, c.User); err != nil {
		return err
	}
	for _, wait := range []time.Duration{noticed, noticedLate} {
		if err = pause(ctx, wait); err != nil {
			return err
		}
		reply, transcript, err = handIn(ctx, address, l, nil)
		if reply.Code != 535 || strings.Contains(reply.Text(), c.User) {
			break
		}
	}
	var refused *refusal
	if err != nil && !errors.As(err, &refused) && len(transcript) == 0 {
		return err
	}
	v := sendView{Accepted: err == nil, Reply: reply.String(), Transcript: transcript}
	if v.Accepted {
		v.Message = messageOf(reply)
	}
	if failed := emitOne(a, v, func(w io.Writer) { v.print(w, a, err) }); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errSaid, err)
	}
	return nil
}

func (v sendView) print(w io.Writer, a *app, err error) {
	for _, line := range v.Transcript {
		fmt.Fprintln(w, oneLine(line, 2000))
	}
	if err != nil {
		fmt.Fprintf(w, "\nNot accepted: %v\n", err)
		return
	}
	fmt.Fprintf(w, "\nAccepted as %s. What becomes of it: %s message show %s\n", v.Message, a.again(), v.Message)
}

// oneTime makes a password for one message of a user, and says so in the audit log.
func (h *house) oneTime(ctx context.Context, name string) (password string, err error) {
	err = h.change(ctx, event.Audit{Action: "user.one-time", Object: name}, func(tx *db.Tx, e *event.Audit) error {
		u, err := h.accounts.UserByName(tx, name)
		if err != nil {
			return err
		}
		e.Account = u.Account
		password, err = h.accounts.OneTime(tx, name, oneTimeLives)
		return err
	})
	return password, err
}

// door is an address of this machine at which the server listens.
func (r nodeReport) door(want uint16) (string, error) {
	for _, p := range r.Ports {
		addr, err := netip.ParseAddr(p.Address)
		if p.State != "bound" || err != nil {
			continue
		}
		ports, err := smtpserver.ParsePorts(strings.Split(p.Ports, ","))
		if err != nil {
			continue
		}
		for _, n := range ports {
			if want == 0 || want == n {
				return net.JoinHostPort(reachable(addr), strconv.Itoa(int(n))), nil
			}
		}
	}
	return "", fmt.Errorf("%w: the relay does not listen on port %d (mittente ports shows where it does)", errNotFound, want)
}

// reachable is where to dial what is bound to addr. A one-time password is good
// from loopback only.
func reachable(addr netip.Addr) string {
	switch {
	case addr == netip.IPv4Unspecified():
		return "127.0.0.1"
	case addr == netip.IPv6Unspecified():
		return "::1"
	default:
		return addr.String()
	}
}

// messageOf reads the id from "Queued as msg_…".
func messageOf(reply smtp.Reply) string {
	i := strings.LastIndex(reply.Text(), "msg_")
	if i < 0 {
		return ""
	}
	word, _, _ := strings.Cut(reply.Text()[i:], " ")
	return word
}

// testMail is a small message, complete by RFC 5322 but for its Message-ID,
// which the server adds.
func testMail(from, to mail.Address, subject, body string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\n",
		from, to, mime.QEncoding.Encode("utf-8", oneLine(subject, 200)), time.Now().Format(time.RFC1123Z))
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	for line := range strings.Lines(strings.ReplaceAll(body, "\r", "")) {
		b.WriteString(strings.TrimRight(line, "\n") + "\r\n")
	}
	return []byte(b.String())
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
