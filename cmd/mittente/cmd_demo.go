package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/sender"
)

type demoCmd struct {
	Dir  string `help:"Work in this folder and keep it; default: a temporary one, removed at the end." placeholder:"DIR"`
	Keep bool   `help:"Keep the temporary folder."`
	Once bool   `help:"End after the first message."`
}

const (
	demoDomain = "demo.example" // RFC 2606: nobody's
	demoFrom   = "shop@" + demoDomain
	demoTo     = "customer@inbox.example"
	demoWait   = 30 * time.Second // for the first message to arrive
)

// demo is a relay with an inbox behind it.
type demo struct {
	cmd      demoCmd
	app      *app
	dir      string
	config   string
	inbox    *inbox
	arrived  chan capture
	relay    *relay
	address  string // of the door
	username string
	password string
}

// Run runs the demo until Ctrl-C, or with --once until the first message is there.
func (c demoCmd) Run(ctx context.Context, a *app) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	ctx, gone := context.WithCancelCause(ctx)
	defer gone(nil)
	// A reader that leaves is an error of the next write, and not the end of the
	// process: the folder has to be removed.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	own := *a
	own.out = outlet{a.out, gone}
	err := c.run(ctx, &own)
	if left := unread(ctx); left != nil {
		return left // whatever else went wrong came of it
	}
	return err
}

// outlet is where the demo tells its story; when nobody takes it any more, the
// demo ends.
type outlet struct {
	w    io.Writer
	gone context.CancelCauseFunc
}

// Write writes, or ends the demo.
func (o outlet) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		o.gone(fmt.Errorf("the demo ends, nobody reads it: %w", err))
	}
	return n, err
}

// unread is why the demo ended early, if its reader has left.
func unread(ctx context.Context) error {
	if err := context.Cause(ctx); errors.Is(err, syscall.EPIPE) {
		return err
	}
	return nil
}

func (c demoCmd) run(ctx context.Context, a *app) error {
	d := &demo{cmd: c, app: a, arrived: make(chan capture, 100)}
	if err := d.folder(); err != nil {
		return err
	}
	if c.Dir == "" && !c.Keep {
		defer os.RemoveAll(d.dir)
	}
	if err := d.furnish(ctx); err != nil {
		return err
	}
	// The story ends first, then the relay, then the inbox that it delivers to.
	err := runStages(ctx, stage{d.tell}, stage{d.relay.run}, stage{d.inbox.run})
	if err != nil && d.cmd.Dir == "" && !c.Keep {
		err = fmt.Errorf("%w (--keep keeps the log in %s)", err, d.dir)
	}
	return errors.Join(err, d.relay.close())
}

// folder makes the place where everything of the demo lies.
func (d *demo) folder() error {
	if d.cmd.Dir == "" {
		dir, err := os.MkdirTemp("", "mittente-demo-")
		d.dir = dir
		return err
	}
	dir, err := filepath.Abs(d.cmd.Dir)
	if err != nil {
		return err
	}
	d.dir = dir
	return os.MkdirAll(dir, 0o700)
}

// furnish makes inbox, configuration, relay, domain and user.
func (d *demo) furnish(ctx context.Context) error {
	var err error
	if d.inbox, err = newInbox(ctx, filepath.Join(d.dir, "inbox"), d.arrived); err != nil {
		return err
	}
	d.config = filepath.Join(d.dir, "mittente.toml")
	if err := os.WriteFile(d.config, []byte(d.configuration(ctx)), 0o600); err != nil {
		return err
	}
	l, err := load(d.config, nil, nil)
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(d.dir, "mittente.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	log, _ := newLog(logFile, l.Log)
	if d.relay, err = newRelay(ctx, l, log, ""); err != nil {
		return err
	}
	port, err := strconv.ParseUint(l.SMTP.Ports[0], 10, 16)
	if err != nil {
		return err
	}
	if d.address, err = d.relay.report.door(uint16(port)); err != nil {
		return err
	}
	return d.user(ctx)
}

// configuration routes all mail to the inbox; nothing leaves this machine.
func (d *demo) configuration(ctx context.Context) string {
	ports := freePorts(ctx, 2525, 2587, 1025)
	return fmt.Sprintf(`# The demo's configuration: everything on loopback, all mail goes to the inbox.
hostname = "relay.demo.example"
data_dir = "data"

[smtp]
bind = ["127.0.0.1"]
ports = ["%s"]

[http]
listen = "127.0.0.1:%s"
public_url = "http://127.0.0.1:%[2]s"

[dns]
servers = ["127.0.0.1:1"]

[[route]]
domain = "*"
next_hop = %q
tls = "none"
`, strings.Join(ports, `", "`), freePorts(ctx, 8025)[0], d.inbox.addr())
}

// freePorts returns those of the wanted ports that are free on loopback, or any free one.
func freePorts(ctx context.Context, wanted ...int) []string {
	var free []string
	for _, port := range append(slices.Clone(wanted), 0) {
		if port == 0 && len(free) > 0 {
			break
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_, bound, _ := net.SplitHostPort(l.Addr().String())
		free = append(free, bound)
		_ = l.Close()
	}
	return free
}

// user makes the demo's domain, verified by override, and an active user.
func (d *demo) user(ctx context.Context) error {
	h := d.relay.house
	wanted, err := sender.ParseDomains([]string{demoDomain})
	if err != nil {
		return err
	}
	request, err := h.prepare(ctx, 1, wanted)
	if err != nil {
		return err
	}
	return h.db.Batch(ctx, func(tx *db.Tx) error {
		u, password, err := h.accounts.AddUser(tx, account.NewUser{List: 1, Active: true, RequireTLS: false, Note: "made by mittente demo"})
		if err != nil {
			return err
		}
		d.username, d.password = u.Name, password
		if err := h.senders.Authorise(tx, u, request); err != nil {
			return err
		}
		_, err = h.senders.Override(tx, u.Account, demoDomain, actor(), "mittente demo: a domain that belongs to nobody")
		return err
	})
}

// tell sends the first message, shows what became of it, and goes on showing
// what arrives.
func (d *demo) tell(ctx context.Context) error {
	w := d.app.out
	fmt.Fprintf(w, "mittente demo: a relay on %s, an inbox behind it on %s, data in %s\n", d.address, d.inbox.addr(), d.dir)
	fmt.Fprintf(w, "Account 1 with list 1, domain %s (verified by override), SMTP+ user %s.\n\n", demoDomain, d.username)
	from, to := mail.Address{}, mail.Address{}
	if err := errors.Join(from.UnmarshalText([]byte(demoFrom)), to.UnmarshalText([]byte(demoTo))); err != nil {
		return err
	}
	fmt.Fprintln(w, "1. A first message, through the SMTP door:")
	reply, _, err := handIn(ctx, d.address, handedIn{
		username: d.username, password: d.password, from: demoFrom, to: demoTo, tls: "may",
		content: testMail(from, to, "Your order 1234", "Thank you for your order.\n\nThe shop"),
	}, indented{w})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("the first message: %w", err)
	}
	if err := d.firstArrived(ctx, messageOf(reply)); err != nil {
		return err
	}
	if !d.cmd.Once || d.cmd.Dir != "" || d.cmd.Keep { // else all of it is gone in a moment
		d.invite(w)
	}
	if d.cmd.Once {
		return nil
	}
	fmt.Fprintln(w, "\nEvery message that arrives is one line below; Ctrl-C ends the demo.")
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(w, "\nThe demo ends.")
			return nil
		case c := <-d.arrived:
			fmt.Fprintf(w, "%s  <%s> → <%s>  %d bytes  %s  (%s)\n", time.Now().Format("15:04:05"),
				oneLine(c.from, 60), oneLine(strings.Join(c.to, ">, <"), 100), len(c.content), oneLine(c.subject(), 60), c.file)
		}
	}
}

// firstArrived waits until the first message is in the inbox and settled.
func (d *demo) firstArrived(ctx context.Context, text string) error {
	message, err := id.Parse[id.Message](text)
	if err != nil {
		return err
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	var got capture
	select {
	case got = <-d.arrived:
	case <-ctx.Done():
		if err := whole.Err(); err != nil {
			return err
		}
		return fmt.Errorf("the first message has not arrived within %s: mittente -c %s message show %s", demoWait, d.config, text)
	}
	var v messageDetail
	for {
		if v, err = d.relay.house.message(ctx, message); err != nil {
			return err
		}
		if v.Unsettled == 0 {
			break
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	w := d.app.out
	fmt.Fprintln(w, "\n2. What became of it (mittente message show):")
	v.timeline(indented{w})
	fmt.Fprintf(w, "\n3. As it arrived, signed (%s):\n", got.file)
	_, err = fmt.Fprintln(indented{w}, got.header())
	return err
}

// invite prints the credentials and how to send more.
func (d *demo) invite(w io.Writer) {
	host, port, _ := net.SplitHostPort(d.address)
	fmt.Fprintln(w, "\n4. Send more, with any program:")
	fields(indented{w}, "server", host, "port", port+" (mittente -c "+d.config+" ports shows all)", "username", d.username,
		"password", d.password, "from", "anything@"+demoDomain, "encryption", "none or STARTTLS")
	fmt.Fprintln(w, "\n   Ready to paste:")
	if _, err := exec.LookPath("swaks"); err == nil {
		fmt.Fprintf(w, "   swaks --server %s --port %s --auth PLAIN --auth-user %s --auth-password %s --from %s --to you@inbox.example\n",
			host, port, d.username, d.password, demoFrom)
	} else {
		fmt.Fprintf(w, "   printf 'From: <%s>\\nSubject: Hello\\n\\nHello\\n' | curl -sS --url smtp://%s --user %s:%s --mail-from %s --mail-rcpt you@inbox.example --upload-file -\n",
			demoFrom, d.address, d.username, d.password, demoFrom)
	}
	program := "mittente"
	if self, err := os.Executable(); err == nil {
		program = self
	}
	fmt.Fprintf(w, "   %s -c %s send --user %s --from %s --to you@inbox.example\n", program, d.config, d.username, demoFrom)
	fmt.Fprintf(w, "   A sender that is refused: %s -c %s send --user %s --from boss@bank.example --to you@inbox.example\n", program, d.config, d.username)
}

// indented writes lines three columns to the right.
type indented struct{ w io.Writer }

// Write expects whole lines.
func (i indented) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if _, err := io.WriteString(i.w, "   "+line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
