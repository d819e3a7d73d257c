package submission_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

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
	"mittente/internal/spool"
	"mittente/internal/submission"
)

const noteMarker = "note-that-nobody-outside-may-see"

const (
	messages db.SQL = "SELECT count(*) FROM message"
	refusals db.SQL = "SELECT count(*) FROM event WHERE kind = 'refused'"
)

// house is the gate with the real rooms behind it.
type house struct {
	gate     *submission.Gate
	db       *db.DB
	accounts *account.Accounts
	senders  *sender.Senders
	spool    *spool.Spool
	queue    *queue.Queue
	session  submission.Session

	mu    sync.Mutex
	ready []queue.Item
}

// open builds a house in which user s1_1 may send from verified.example,
// *.wild.example, boss@verified.example and waiting.example; the last is not verified.
func open(t *testing.T, cfg db.Config) *house {
	t.Helper()
	ctx := t.Context()
	cfg.DataDir = t.TempDir()
	d, err := db.Open(ctx, cfg, nil)
	check(t, err)
	t.Cleanup(func() { check(t, d.Close()) })
	check(t, d.Migrate(ctx, account.Schema(), event.Schema(), alert.Schema(), spool.Schema(), signer.Schema(), letter.Schema(), sender.Schema(), queue.Schema(), submission.Schema()))
	h := &house{db: d, accounts: account.New(d, account.Deps{}, nil), spool: spool.New(d, spool.Config{}, nil)}
	keys, err := signer.New(signer.Deps{DB: d, Secret: signer.Secret{1}, Hostname: "relay.example"}, nil)
	check(t, err)
	letters, err := letter.New(d, [32]byte{1})
	check(t, err)
	h.senders, err = sender.New(sender.Deps{DB: d, Signer: keys, Letters: letters, Hostname: "relay.example"}, nil)
	check(t, err)
	h.queue = queue.New(queue.Deps{DB: d, Spool: h.spool}, nil)
	check(t, h.queue.Start(ctx, "relay.example"))
	h.gate = submission.New(submission.Config{Hostname: "relay.example"}, submission.Deps{
		DB: d, Accounts: h.accounts, Senders: h.senders, Spool: h.spool, Queue: h.queue, Ready: h.take,
	}, nil)
	h.addUser(t)
	return h
}

func (h *house) take(items []queue.Item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = append(h.ready, items...)
}

func (h *house) addUser(t *testing.T) {
	t.Helper()
	var password string
	h.batch(t, h.accounts.Bootstrap)
	owner := h.owner(t)
	wanted, err := sender.ParseEntries("verified.example *.wild.example boss@verified.example waiting.example")
	check(t, err)
	request, err := h.senders.Prepare(t.Context(), owner, wanted)
	check(t, err)
	h.batch(t, func(tx *db.Tx) error {
		user, secret, err := h.accounts.AddUser(tx, account.NewUser{List: 1, Active: true, Note: noteMarker})
		if err != nil {
			return err
		}
		password = secret
		if err := h.senders.Authorise(tx, user, request); err != nil {
			return err
		}
		for _, d := range []mail.Domain{"verified.example", "wild.example"} {
			if _, err := h.senders.Override(tx, owner, d, "test", "no DNS here"); err != nil {
				return err
			}
		}
		return nil
	})
	h.signIn(t, "s1_1", password)
}

func (h *house) signIn(t *testing.T, name, password string) {
	t.Helper()
	client := netip.MustParseAddrPort("127.0.0.1:40000")
	p, err := h.accounts.Authenticate(t.Context(), account.AuthAttempt{Name: name, Password: password, TLS: true, Client: client.Addr()})
	check(t, err)
	h.session = submission.Session{Principal: p, Client: client, Helo: "shop.example", TLS: "TLS1.3"}
}

func (h *house) owner(t *testing.T) id.Account {
	t.Helper()
	var owner account.Account
	check(t, h.db.View(t.Context(), func(tx *db.Tx) (err error) {
		owner, err = h.accounts.Account(tx, 1)
		return err
	}))
	return owner.ID
}

func (h *house) batch(t *testing.T, do func(*db.Tx) error) {
	t.Helper()
	check(t, h.db.Batch(t.Context(), do))
}

func (h *house) submit(t *testing.T, env mail.Envelope, content io.Reader) (id.Message, error) {
	t.Helper()
	return h.gate.Submit(t.Context(), h.session, env, content)
}

// count returns the number of rows of a query; it keeps tests from trusting the room under test.
func (h *house) count(t *testing.T, q db.SQL) (n int) {
	t.Helper()
	check(t, h.db.View(t.Context(), func(tx *db.Tx) error { return tx.Row(q).Scan(&n) }))
	return n
}

func (h *house) content(t *testing.T, m id.Message) string {
	t.Helper()
	var stored queue.Stored
	check(t, h.db.View(t.Context(), func(tx *db.Tx) (err error) {
		stored, err = h.queue.Message(tx, m)
		return err
	}))
	r, err := h.spool.Open(t.Context(), stored.Content)
	check(t, err)
	defer func() { check(t, r.Close()) }()
	b, err := io.ReadAll(r)
	check(t, err)
	return string(b)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func reverse(t *testing.T, s string) mail.ReversePath {
	t.Helper()
	p, err := mail.ParseReversePath(s)
	check(t, err)
	return p
}

func envelope(t *testing.T, from string, to ...string) mail.Envelope {
	t.Helper()
	env := mail.Envelope{From: reverse(t, from)}
	for _, s := range to {
		p, err := mail.ParseForwardPath(s)
		check(t, err)
		env.To = append(env.To, mail.Rcpt{To: p})
	}
	return env
}

func reason(t *testing.T, err error) submission.Reason {
	t.Helper()
	var r *submission.Rejection
	switch {
	case err == nil:
		return ""
	case errors.As(err, &r):
		return r.Reason
	}
	t.Fatalf("not a rejection: %v", err)
	return ""
}

// TestAcceptedIsOnDisk: what Submit accepted is in the spool byte for byte
// behind the completed header, in the queue with its event, and in the hands of
// the dispatcher, leased.
func TestAcceptedIsOnDisk(t *testing.T) {
	h := open(t, db.Config{})
	body := "Grüße\r\n\r\n.. dots  and\tspace \r\n\r\n"
	m, err := h.submit(t, envelope(t, "shop@verified.example", "a@there.example", "b@there.example", "a@there.example"),
		strings.NewReader("Subject: =?utf-8?q?Ordine_n=C2=B0_1?=\r\nFrom: Shop <shop@verified.example>\r\n\r\n"+body))
	check(t, err)

	content := h.content(t, m)
	header, got, ok := strings.Cut(content, "\r\n\r\n")
	if !ok || got != body {
		t.Errorf("body %q, want %q", got, body)
	}
	for _, want := range []string{"Received: from shop.example", "with ESMTPSA", m.String(), "\r\nDate: ", "\r\nMessage-ID: <" + m.String() + "@relay.example>"} {
		if !strings.Contains(header, want) {
			t.Errorf("header lacks %q:\n%s", want, header)
		}
	}
	if strings.Contains(content, noteMarker) || strings.Contains(content, "s1_1") {
		t.Errorf("S15: note or user name in\n%s", content)
	}
	if n := h.count(t, "SELECT count(*) FROM event WHERE kind = 'accepted'"); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	h.checkReady(t, content)
}

// checkReady holds what the dispatcher got against the content in the spool.
func (h *house) checkReady(t *testing.T, content string) {
	t.Helper()
	if len(h.ready) != 2 { // a@ was given twice
		t.Fatalf("%d items are ready, want 2", len(h.ready))
	}
	row := h.ready[0].Message
	if string(h.ready[0].Bytes) != content || row.Size != int64(len(content)) || !strings.HasPrefix(content[row.HeaderSize:], "\r\n") {
		t.Errorf("the dispatcher got other bytes or sizes: %+v", row)
	}
	relaxed := sha256.Sum256([]byte("Grüße\r\n\r\n.. dots and space\r\n"))
	if row.BodyHash != relaxed {
		t.Error("the body hash is not that of the relaxed body (RFC 6376 §3.4.4)")
	}
	if row.Subject != "Ordine n° 1" || row.SigningDomain != "verified.example" || !row.EightBit || row.UserName != "s1_1" {
		t.Errorf("row %+v", row)
	}
}

// TestMail is the authorisation of the reverse-path (S19, S20, S21).
func TestMail(t *testing.T) {
	h := open(t, db.Config{})
	for from, want := range map[string]submission.Reason{
		"":                          "", // the header decides
		"shop@verified.example":     "",
		"shop@VERIFIED.example":     "",
		"x@deep.down.wild.example":  "",
		"x@wild.example":            submission.NotAuthorised,
		"shop@sub.verified.example": submission.NotAuthorised,
		"shop@verified.example.org": submission.NotAuthorised,
		"shop@waiting.example":      submission.Pending,
		"visitor@elsewhere.example": submission.NotAuthorised,
	} {
		_, err := h.gate.Mail(t.Context(), h.session, reverse(t, from))
		if got := reason(t, err); got != want {
			t.Errorf("MAIL FROM:<%s>: %q, want %q", from, got, want)
		}
	}
	if n := h.count(t, refusals); n != 5 {
		t.Errorf("S18: %d refusals on record, want 5", n)
	}
}

// TestHeader is the authorisation of From and Sender, and their completion (S20, S24).
func TestHeader(t *testing.T) {
	const ours = "shop@verified.example"
	h := open(t, db.Config{})
	for name, c := range map[string]struct {
		reverse, header string
		want            submission.Reason
	}{
		"own From":                       {ours, "From: <" + ours + ">", ""},
		"another own From":               {ours, "From: x@a.wild.example", ""},
		"several, all own":               {ours, "From: " + ours + ", boss@verified.example\r\nSender: " + ours, ""},
		"no From":                        {ours, "Subject: x", ""},
		"no From, null reverse-path":     {"", "Subject: x", submission.Malformed},
		"no From, reverse-path like one": {`"<boss@bank.example>"@verified.example`, "Subject: x", submission.Malformed},
		"no From, encoded reverse-path":  {`=?utf-8?q?boss=40bank.example?=@verified.example`, "Subject: x", submission.Malformed},
		"null reverse-path, own From":    {"", "From: " + ours, ""},
		"null reverse-path, foreign":     {"", "From: v@elsewhere.example", submission.NotAuthorised},
		"visitor of a form":              {ours, "From: v@elsewhere.example", submission.FormVisitor},
		"one of several foreign":         {ours, "From: " + ours + ", v@elsewhere.example", submission.FormVisitor},
		"pending From":                   {ours, "From: a@waiting.example", submission.Pending},
		"foreign Sender":                 {ours, "From: " + ours + "\r\nSender: v@elsewhere.example", submission.NotAuthorised},
		"two From":                       {ours, "From: " + ours + "\r\nFrom: " + ours, submission.Malformed},
		"empty group":                    {ours, "From: nobody:;", submission.Malformed},
		"space before the colon":         {ours, "From : v@elsewhere.example", submission.Malformed},
		"continuation as first line":     {ours, " From: v@elsewhere.example", submission.Malformed},
		"a name in a comment":            {ours, "From: " + ours + " (the shop)", ""},
		"foreign in a comment":           {ours, "From: " + ours + " (v@elsewhere.example)", submission.Malformed},
		"foreign behind an own display":  {ours, "From: \"" + ours + "\" <v@elsewhere.example>", submission.FormVisitor},
	} {
		t.Run(name, func(t *testing.T) {
			kept, refused := h.count(t, messages), h.count(t, refusals)
			m, err := h.submit(t, envelope(t, c.reverse, "to@there.example"), strings.NewReader(c.header+"\r\n\r\nbody\r\n"))
			if got := reason(t, err); got != c.want {
				t.Fatalf("%q (%v), want %q", got, err, c.want)
			}
			kept, refused = h.count(t, messages)-kept, h.count(t, refusals)-refused
			if c.want == "" {
				if kept != 1 || refused != 0 || !strings.Contains(h.content(t, m), "From: ") {
					t.Errorf("%d kept, %d refused, or no From in what will leave", kept, refused)
				}
			} else if kept != 0 || refused != 1 {
				t.Errorf("S18: %d kept, %d refusals on record, want 0 and 1", kept, refused)
			}
		})
	}
}

// TestNothingIsKept: content that breaks off, small or already written ahead,
// leaves no trace and tells nobody.
func TestNothingIsKept(t *testing.T) {
	h := open(t, db.Config{})
	broken := errors.New("the client went away")
	for _, size := range []int{10, 1 << 20} {
		content := io.MultiReader(strings.NewReader("From: shop@verified.example\r\n\r\n"),
			bytes.NewReader(bytes.Repeat([]byte("0123456789abc\r\n"), size/15+1)), iotest.ErrReader(broken))
		if _, err := h.submit(t, envelope(t, "shop@verified.example", "a@there.example"), content); !errors.Is(err, broken) {
			t.Errorf("size %d: %v, want the reader's error", size, err)
		}
	}
	if n := h.count(t, "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM content) + (SELECT count(*) FROM content_chunk)"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if len(h.ready) != 0 {
		t.Error("the dispatcher heard of it")
	}
}

// TestLarge: content above what memory holds comes back byte for byte.
func TestLarge(t *testing.T) {
	h := open(t, db.Config{})
	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 40_000)
	m, err := h.submit(t, envelope(t, "shop@verified.example", "a@there.example"),
		strings.NewReader("From: shop@verified.example\r\n\r\n"+body))
	check(t, err)
	if _, got, _ := strings.Cut(h.content(t, m), "\r\n\r\n"); got != body {
		t.Error("the body is not what was sent")
	}
	if h.ready[0].Bytes != nil {
		t.Error("3 MB are kept in memory")
	}
}

// TestStorage: without room nothing is taken, and the answer is for later.
func TestStorage(t *testing.T) {
	h := open(t, db.Config{ReserveBytes: 1 << 60})
	_, err := h.gate.Mail(t.Context(), h.session, reverse(t, "shop@verified.example"))
	var r *submission.Rejection
	if !errors.As(err, &r) || r.Reason != submission.StorageFull || !r.Temporary() {
		t.Errorf("got %v, want a temporary %s", err, submission.StorageFull)
	}
}

// TestBusy: messages beyond the bound wait for their turn, and are told to come
// again when it does not come.
func TestBusy(t *testing.T) {
	h := open(t, db.Config{})
	h.gate = submission.New(submission.Config{Hostname: "relay.example", MaxTransfers: 1, Patience: 10 * time.Millisecond}, submission.Deps{
		DB: h.db, Accounts: h.accounts, Senders: h.senders, Spool: h.spool, Queue: h.queue, Ready: h.take,
	}, nil)
	slow, finish := io.Pipe()
	env := envelope(t, "shop@verified.example", "a@there.example")
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := h.gate.Submit(t.Context(), h.session, env, slow); err != nil {
			t.Errorf("the one that was first: %v", err)
		}
	})
	_, err := io.WriteString(finish, "From: shop@verified.example\r\n") // it has its turn
	check(t, err)
	_, err = h.submit(t, env, strings.NewReader("From: shop@verified.example\r\n\r\nx\r\n"))
	if got := reason(t, err); got != submission.Busy {
		t.Errorf("the second: %q, want %q", got, submission.Busy)
	}
	_, err = io.WriteString(finish, "\r\nx\r\n")
	check(t, err)
	check(t, finish.Close())
	first.Wait()
	_, err = h.submit(t, env, strings.NewReader("From: shop@verified.example\r\n\r\nx\r\n"))
	check(t, err)
}

// TestCredentialsEnd: a session whose password was changed sends no more (S9, S12).
func TestCredentialsEnd(t *testing.T) {
	h := open(t, db.Config{})
	h.batch(t, func(tx *db.Tx) error { _, err := h.accounts.SetPassword(tx, "s1_1", 0); return err })
	_, err := h.gate.Mail(t.Context(), h.session, reverse(t, "shop@verified.example"))
	if _, ok := errors.AsType[*account.AuthError](err); !ok {
		t.Errorf("got %v, want an AuthError", err)
	}
}

// TestOneTime: the credential of a test sending is good for one message.
func TestOneTime(t *testing.T) {
	h := open(t, db.Config{})
	var password string
	h.batch(t, func(tx *db.Tx) (err error) {
		password, err = h.accounts.OneTime(tx, "s1_1", account.OneTimeTTL)
		return err
	})
	h.signIn(t, "s1_1", password)
	send := func() error {
		_, err := h.submit(t, envelope(t, "shop@verified.example", "a@there.example"), strings.NewReader("From: shop@verified.example\r\n\r\nx\r\n"))
		return err
	}
	check(t, send())
	if got := reason(t, send()); got != submission.CredentialSpent {
		t.Errorf("second message: %q, want %q", got, submission.CredentialSpent)
	}
	if n := h.count(t, messages); n != 1 {
		t.Errorf("%d messages kept, want 1", n)
	}
}

// TestPriority: the user's priority is on the message and on its row (S14).
func TestPriority(t *testing.T) {
	h := open(t, db.Config{})
	highest := mail.PriorityHighest
	h.batch(t, func(tx *db.Tx) error {
		_, err := h.accounts.EditUser(tx, "s1_1", account.Edit{Priority: &highest})
		return err
	})
	p, err := h.gate.Mail(context.Background(), h.session, reverse(t, "shop@verified.example"))
	check(t, err)
	h.session.Principal = p
	m, err := h.submit(t, envelope(t, "shop@verified.example", "a@there.example"),
		strings.NewReader("From: shop@verified.example\r\nX-Priority: 5\r\n\r\nx\r\n"))
	check(t, err)
	content := h.content(t, m)
	for _, want := range []string{"X-Priority: 1", "Importance: high", "X-MSMail-Priority: High"} {
		if !strings.Contains(content, want) {
			t.Errorf("no %q in\n%s", want, content)
		}
	}
	if strings.Contains(content, "X-Priority: 5") || h.ready[0].Message.Priority != mail.PriorityHighest {
		t.Error("the message's own lower priority is still there, or the queue does not know the user's")
	}
}
