package msa

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/sender"
	"mittente/internal/signer"
	"mittente/internal/smtp/smtptest"
	"mittente/internal/spool"
	"mittente/internal/submission"
)

// house is the door with the real rooms behind it. s1_1 may send from
// verified.example, and need not use TLS.
type house struct {
	t        *testing.T
	db       *db.DB
	accounts *account.Accounts
	door     *Door
	owner    id.Account
	password string
}

func openHouse(t *testing.T) *house {
	t.Helper()
	ctx := t.Context()
	d, err := db.Open(ctx, db.Config{DataDir: t.TempDir()}, nil)
	check(t, err)
	t.Cleanup(func() { check(t, d.Close()) })
	check(t, d.Migrate(ctx, account.Schema(), event.Schema(), alert.Schema(), spool.Schema(), signer.Schema(), letter.Schema(), sender.Schema(), queue.Schema(), submission.Schema()))
	h := &house{t: t, db: d, accounts: account.New(d, account.Deps{ScramKey: [32]byte{1}}, nil)}
	keys, err := signer.New(signer.Deps{DB: d, Secret: signer.Secret{1}, Hostname: "mx.example.org"}, nil)
	check(t, err)
	letters, err := letter.New(d, [32]byte{1})
	check(t, err)
	senders, err := sender.New(sender.Deps{DB: d, Signer: keys, Letters: letters, Hostname: "mx.example.org"}, nil)
	check(t, err)
	spool := spool.New(d, spool.Config{}, nil)
	q := queue.New(queue.Deps{DB: d, Spool: spool}, nil)
	check(t, q.Start(ctx, "mx.example.org"))
	gate := submission.New(submission.Config{Hostname: "mx.example.org"}, submission.Deps{
		DB: d, Accounts: h.accounts, Senders: senders, Spool: spool, Queue: q, Ready: func([]queue.Item) {},
	}, nil)
	cfg := testConfig()
	cfg.AuthDelay = time.Nanosecond
	cfg.Wire.TLS = smtptest.ServerTLS(t, "mx.example.org")
	h.door, err = New(cfg, Deps{
		Gate: gate, Authenticator: h.accounts,
		Exchange: func(a account.ScramAttempt) Exchange { return h.accounts.Exchange(a) },
	})
	check(t, err)
	h.do(h.accounts.Bootstrap)
	h.do(func(tx *db.Tx) error {
		a, err := h.accounts.Account(tx, 1)
		h.owner = a.ID
		return err
	})
	wanted, err := sender.ParseEntries("verified.example waiting.example")
	check(t, err)
	request, err := senders.Prepare(ctx, h.owner, wanted)
	check(t, err)
	h.do(func(tx *db.Tx) error {
		user, password, err := h.accounts.AddUser(tx, account.NewUser{List: 1, Active: true})
		if err != nil {
			return err
		}
		h.password = password
		if err := senders.Authorise(tx, user, request); err != nil {
			return err
		}
		_, err = senders.Override(tx, h.owner, mail.Domain("verified.example"), "test", "no DNS here")
		return err
	})
	return h
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) do(do func(*db.Tx) error) {
	h.t.Helper()
	check(h.t, h.db.Batch(h.t.Context(), do))
}

func (h *house) edit(change account.Edit) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		_, err := h.accounts.EditUser(tx, "s1_1", change)
		return err
	})
}

// guest is a client of the house that asks and waits.
type guest struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	said []string // by the server
}

// visit opens a session from an address.
func (h *house) visit(from string) *guest {
	h.t.Helper()
	client, server := smtptest.Pipe(from)
	return h.serve(client, server)
}

// visitTCP opens a session over TCP, which takes what the other end has not read yet.
func (h *house) visitTCP() *guest {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(h.t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	check(h.t, err)
	server, err := l.Accept()
	check(h.t, err)
	return h.serve(client, server)
}

func (h *house) serve(client, server net.Conn) *guest {
	h.t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.door.ServeConn(h.t.Context(), server)
	}()
	h.t.Cleanup(func() {
		_ = client.Close()
		<-ended
	})
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	g := &guest{t: h.t, conn: client, r: bufio.NewReader(client)}
	g.reply()
	g.ask("EHLO shop.example")
	return g
}

// reply returns the last line of the next reply; "" when the server has hung up.
func (g *guest) reply() string {
	for {
		line, err := g.r.ReadString('\n')
		if err != nil {
			return ""
		}
		line = strings.TrimSuffix(line, "\r\n")
		g.said = append(g.said, line)
		if len(line) < 4 || line[3] != '-' {
			return line
		}
	}
}

func (g *guest) ask(line string) string {
	_, _ = g.conn.Write([]byte(line + "\r\n"))
	return g.reply()
}

func (g *guest) startTLS(cfg *tls.Config) tls.ConnectionState {
	g.t.Helper()
	if got := g.ask("STARTTLS"); !strings.HasPrefix(got, "220 ") {
		g.t.Fatal(got)
	}
	cfg.ServerName, cfg.InsecureSkipVerify = "mx.example.org", true
	conn := tls.Client(g.conn, cfg)
	check(g.t, conn.Handshake())
	g.conn, g.r = conn, bufio.NewReader(conn)
	g.ask("EHLO shop.example")
	return conn.ConnectionState()
}

func (g *guest) plain(name, password string) string {
	g.t.Helper()
	return g.ask(authPlain(name, password))
}

func (g *guest) login(name, password string) string {
	b := base64.StdEncoding.EncodeToString
	if got := g.ask("AUTH LOGIN"); got != "334 "+b([]byte("Username:")) {
		return got
	}
	if got := g.ask(b([]byte(name))); got != "334 "+b([]byte("Password:")) {
		return got
	}
	return g.ask(b([]byte(password)))
}

// scram authenticates with a client that is not ours. It returns the server's
// last line; "client: " and its error where that gives up.
func (g *guest) scram(mechanism, name, password string, bind func(*scram.Client) *scram.ClientConversation) string {
	g.t.Helper()
	client, err := scram.SHA256.NewClient(name, password, "")
	check(g.t, err)
	conversation := bind(client)
	message, err := conversation.Step("")
	check(g.t, err)
	line := g.ask("AUTH " + mechanism + " " + base64.StdEncoding.EncodeToString([]byte(message)))
	for {
		challenge, asked := strings.CutPrefix(line, "334 ")
		if !asked {
			return line
		}
		b, err := base64.StdEncoding.DecodeString(challenge)
		check(g.t, err)
		if message, err = conversation.Step(string(b)); err != nil {
			return fmt.Sprint("client: ", err)
		}
		line = g.ask(base64.StdEncoding.EncodeToString([]byte(message)))
		if strings.HasPrefix(line, "235 ") && !conversation.Valid() {
			return "client: the server did not prove itself"
		}
	}
}

func unbound(c *scram.Client) *scram.ClientConversation { return c.NewConversation() }

// refusals are the records of refusals, the newest first.
func (h *house) refusals() (all []event.Refusal) {
	h.t.Helper()
	check(h.t, h.db.View(h.t.Context(), func(tx *db.Tx) error {
		events, err := event.Refusals(tx, h.owner, event.Page{Limit: 100})
		for _, e := range events {
			all = append(all, *e.Detail.Refusal)
		}
		return err
	}))
	return all
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
