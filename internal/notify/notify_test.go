package notify

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	ours "mittente/internal/dkim"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/message"
	"mittente/internal/queue"
	"mittente/internal/spool"
)

func TestFailureIsReported(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.mailOf("anna@client.example")
	m.EnvelopeID = "QQ1"
	h.lists[m.List] = account.List{Settings: account.Settings{Lang: "it"}}
	items := h.accept(m, mail.Rcpt{To: to("nobody@b.example", 0).To, Original: "rfc822;Nobody@b.example"})
	h.settle(refused(), items...)
	got := h.told()
	if len(got) != 1 || len(h.told()) != 0 {
		t.Fatalf("reports %+v", got)
	}
	envelopeOf(t, m, got[0])
	top, status, returned := h.parts(got[0].Bytes)
	for _, want := range []string{
		"Reporting-MTA: dns; relay.example\r\n", "Original-Envelope-Id: QQ1\r\n", "Original-Recipient: rfc822; Nobody@b.example\r\n",
		"Final-Recipient: rfc822; nobody@b.example\r\n", "Action: failed\r\n", "Status: 5.1.1\r\n", "Remote-MTA: dns; mx.b.example\r\n",
		"Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n", "Last-Attempt-Date:", "Final-Log-ID: " + items[0].Recipient.ID.String(),
	} {
		if !strings.Contains(status, want) {
			t.Errorf("no %q in %s", want, status)
		}
	}
	if returned != header || top.Get("In-Reply-To") != "<12@client.example>" {
		t.Errorf("returned %q, header %v", returned, top)
	}
	signed(t, got[0])
}

// envelopeOf checks how a report of a message is queued.
func envelopeOf(t *testing.T, m *queue.Message, item queue.Item) {
	t.Helper()
	dsn := item.Message
	if !dsn.From.IsNull() || item.Recipient.To.String() != "anna@client.example" || dsn.Account != m.Account || dsn.List != m.List || dsn.UserName != "" {
		t.Errorf("%+v to %s", dsn, item.Recipient.To)
	}
	if dsn.SigningDomain != "relay.example" || dsn.Subject != "Non consegnato: Invoice 12" || dsn.EightBit || dsn.SMTPUTF8 ||
		dsn.HeaderFrom == "" || !strings.HasSuffix(dsn.MessageID, "@relay.example>") {
		t.Errorf("%+v", dsn)
	}
}

// signed checks that header size and body hash are those of the content, by
// signing it and asking another library.
func signed(t *testing.T, item queue.Item) {
	t.Helper()
	key, err := ours.NewEd25519("relay.example", "s")
	if err != nil {
		t.Fatal(err)
	}
	field, err := ours.Sign(item.Bytes[:item.Message.HeaderSize], item.Message.BodyHash, []ours.Key{key}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, record := key.Record()
	found, err := dkim.VerifyWithOptions(io.MultiReader(bytes.NewReader(field), bytes.NewReader(item.Bytes)), &dkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
	})
	if err != nil || len(found) != 1 || found[0].Err != nil {
		t.Errorf("signature: %+v, %v", found, err)
	}
}

func TestWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	relayed := taken()
	relayed.DSN = true
	for _, c := range []struct {
		name    string
		asked   mail.Notify
		outcome mail.Outcome
		action  string // empty: nobody is told
	}{
		{"failure, nothing asked", 0, refused(), "failed"},
		{"failure, asked", mail.NotifyFailure, refused(), "failed"},
		{"failure, success asked", mail.NotifySuccess, refused(), ""},
		{"failure, never", mail.NotifyNever, refused(), ""},
		{"success, nothing asked", 0, taken(), ""},
		{"success, asked", mail.NotifySuccess, taken(), "relayed"},
		{"success, the next hop reports", mail.NotifySuccess, relayed, ""},
		{"success, never", mail.NotifyNever, taken(), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.settle(c.outcome, h.accept(h.mailOf("anna@client.example"), to("x@b.example", c.asked))...)
			got := h.told()
			if c.action == "" {
				if len(got) != 0 {
					t.Errorf("%s", got[0].Bytes)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("%d reports", len(got))
			}
			if _, status, _ := h.parts(got[0].Bytes); !strings.Contains(status, "Action: "+c.action+"\r\n") {
				t.Error(status)
			}
		})
	}
}

// RFC 5321 §6.1: nobody is told of what has no reverse-path, but the operators.
func TestDoubleBounceIsAnAlert(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.mailOf("")
	h.settle(refused(), h.accept(m, to("x@b.example", 0), to("y@b.example", mail.NotifyNever))...)
	if got := h.told(); len(got) != 0 {
		t.Errorf("%s", got[0].Bytes)
	}
	all := h.alerts()
	if len(all) != 1 || all[0].Kind != alert.Returned || all[0].Count != 2 || all[0].Account != m.Account || all[0].List != m.List ||
		all[0].Facts["reply"] != "550 5.1.1 no such user" || all[0].Facts["message"] != m.ID.String() || all[0].Facts["user"] != "s1_1" {
		t.Errorf("alerts %+v", all)
	}
}

// A report that can't be delivered is not reported, but shown.
func TestFailedReportIsAnAlert(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.settle(refused(), h.accept(h.mailOf("anna@client.example"), to("x@b.example", 0))...)
	dsn := h.told()
	h.settle(refused(), dsn...)
	if got := h.told(); len(got) != 0 {
		t.Errorf("%s", got[0].Bytes)
	}
	if all := h.alerts(); len(all) != 1 || all[0].Facts["to"] != "anna@client.example" || all[0].Key != "the relay itself to client.example" {
		t.Errorf("alerts %+v", all)
	}
}

// A letter of the house that fails goes to the operators, not to the house.
func TestFailedLetterIsAnAlert(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	content := "From: postmaster@relay.example\r\nTo: o@b.example\r\nSubject: =?utf-8?q?perch=C3=A9?=\r\nMessage-ID: <1@relay.example>\r\n\r\n\r\nText\r\n"
	h.batch(func(tx *db.Tx) error {
		return h.Enqueue(tx, Letter{Account: id.New[id.Account](), From: mail.ReversePath{Address: h.From()}, To: to("o@b.example", 0).To, Content: []byte(content)})
	})
	letter := slices.Clone(h.enqueued())
	if len(letter) != 1 || string(letter[0].Bytes) != content || letter[0].Message.Subject != "perché" || letter[0].Message.EightBit {
		t.Fatalf("%+v", letter)
	}
	signed(t, letter[0])
	h.settle(refused(), letter...)
	if got := h.told(); len(got) != 0 {
		t.Errorf("%s", got[0].Bytes)
	}
	if all := h.alerts(); len(all) != 1 || all[0].Kind != alert.Returned || all[0].Facts["subject"] != "perché" {
		t.Errorf("alerts %+v", all)
	}
}

func TestEnqueueRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, c := range []struct {
		content string
		want    error
	}{
		{"no header\r\n", message.ErrMalformed},
		{"X: y\r\n\r\n" + strings.Repeat("x", spool.ChunkSize), ErrTooLarge},
	} {
		err := h.deps.DB.Batch(t.Context(), func(tx *db.Tx) error {
			return h.Enqueue(tx, Letter{Account: id.New[id.Account](), To: to("o@b.example", 0).To, Content: []byte(c.content)})
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%.20s: %v", c.content, err)
		}
	}
}

func TestReturnFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ret  mail.Return
		o    mail.Outcome
		want string
	}{
		{mail.ReturnFull, refused(), header + "\r\n" + body},
		{mail.ReturnHeader, refused(), header},
		{mail.ReturnFull, taken(), header}, // RFC 3461 §4.3
	} {
		h := newHouse(t)
		m := h.mailOf("anna@client.example")
		m.Return = c.ret
		h.settle(c.o, h.accept(m, to("x@b.example", mail.NotifyFailure|mail.NotifySuccess))...)
		got := h.told()
		if len(got) != 1 {
			t.Fatalf("%d reports", len(got))
		}
		if _, _, returned := h.parts(got[0].Bytes); returned != c.want {
			t.Errorf("%s, %s: returned %q", c.ret, c.o.Action, returned)
		}
	}
}

// Content that is past its retention is missing in the report, which goes all the same.
func TestContentIsGone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	items := h.accept(h.mailOf("anna@client.example"), to("x@b.example", 0))
	h.settle(refused(), items...)
	h.batch(func(tx *db.Tx) error {
		return h.deps.Spool.Release(tx, items[0].Message.Content, time.Now().Add(-time.Hour))
	})
	h.must(h.deps.Spool.Retain(t.Context(), time.Now()))
	got := h.told()
	if len(got) != 1 {
		t.Fatalf("%d reports", len(got))
	}
	if _, status, returned := h.parts(got[0].Bytes); returned != "" || !strings.Contains(status, "Action: failed") {
		t.Errorf("returned %q, status %s", returned, status)
	}
}

// A large message comes back whole, or, beyond the bound, as its header.
func TestReturnFullOfLargeContent(t *testing.T) {
	t.Parallel()
	for _, size := range []int{spool.ChunkSize * 2, maxReturned + 1} {
		h := newHouse(t)
		m := h.mailOf("anna@client.example")
		m.Return = mail.ReturnFull
		w := h.deps.Spool.Create(m.Account)
		text := header + "\r\n" + strings.Repeat("0123456789abcde\r\n", size/17+1)
		_, err := w.Write([]byte(text))
		h.must(err)
		m.Content, m.Size = w.Content().ID, w.Content().Size
		h.batch(func(tx *db.Tx) error {
			h.must(w.Put(tx))
			stored, err := h.deps.Queue.Enqueue(tx, m, []mail.Rcpt{to("x@b.example", 0)})
			h.must(err)
			_, err = h.deps.Queue.Settle(tx, queue.Item{Message: m, Recipient: stored[0]}, refused(), db.Now())
			return err
		})
		got := h.told()
		if len(got) != 1 {
			t.Fatalf("%d reports", len(got))
		}
		raw := got[0].Bytes
		if raw == nil {
			r, err := h.deps.Spool.Open(t.Context(), got[0].Message.Content)
			h.must(err)
			raw, err = io.ReadAll(r)
			h.must(errors.Join(err, r.Close()))
		}
		want := header
		if size <= maxReturned {
			want = text
		}
		if _, _, returned := h.parts(raw); returned != want {
			t.Errorf("%d octets: %d came back", size, len(returned))
		}
	}
}

// Those to whom the same happens at about the same time share a report.
func TestRecipientsShareAReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		all := make([]mail.Rcpt, 250)
		for i := range all {
			all[i] = to("x"+strings.Repeat("y", i%60)+string(rune('a'+i/60))+"@b.example", 0)
		}
		items := h.accept(h.mailOf("anna@client.example"), all...)
		h.settle(refused(), items[:120]...)
		time.Sleep(5 * time.Second)
		if len(h.enqueued()) != 0 {
			t.Errorf("%d reports while others may fail", len(h.enqueued()))
		}
		h.settle(refused(), items[120:249]...)
		h.settle(taken(), items[249])
		time.Sleep(time.Minute)
		named := 0
		for _, r := range h.enqueued() {
			_, status, _ := h.parts(r.Bytes)
			n := strings.Count(status, "Final-Recipient")
			if n > 100 {
				t.Errorf("%d recipients in a report", n)
			}
			named += n
		}
		if len(h.enqueued()) != 3 || named != 249 {
			t.Errorf("%d reports of %d recipients", len(h.enqueued()), named)
		}
		cancel()
		h.must(<-ended)
		h.must(h.deps.DB.Close())
	})
}

// A delay is told when the list says so, once, and only to who asked.
func TestDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		m := h.mailOf("anna@client.example")
		h.lists[m.List] = account.List{Settings: account.Settings{Lifetime: 24 * time.Hour}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		items := h.accept(m, to("x@b.example", mail.NotifyDelay|mail.NotifyFailure), to("y@b.example", 0))
		for range 14 {
			h.settle(busy(), items...)
			var due []queue.Item
			for len(due) < 2 && time.Since(m.AcceptedAt) < 20*time.Hour {
				time.Sleep(time.Minute)
				more, err := h.deps.Queue.Claim(t.Context(), 10, time.Now())
				h.must(err)
				due = append(due, more...)
			}
			if items = due; len(items) < 2 {
				break
			}
		}
		if len(h.enqueued()) != 1 {
			t.Fatalf("%d reports", len(h.enqueued()))
		}
		dsn := h.enqueued()[0]
		if after := dsn.Message.AcceptedAt.Sub(m.AcceptedAt); after < 4*time.Hour || after > 4*time.Hour+time.Minute {
			t.Errorf("told after %v", after)
		}
		_, status, returned := h.parts(dsn.Bytes)
		for _, want := range []string{"Action: delayed\r\n", "Final-Recipient: rfc822; x@b.example", "Status: 4.7.1", "Will-Retry-Until: "} {
			if !strings.Contains(status, want) {
				t.Errorf("no %q in %s", want, status)
			}
		}
		if strings.Contains(status, "y@b.example") || returned != header {
			t.Errorf("%s\n%s", status, returned)
		}
		cancel()
		h.must(<-ended)
		h.must(h.deps.DB.Close())
	})
}

func TestInternationalReport(t *testing.T) {
	t.Parallel()
	for from, utf8 := range map[string]bool{"anna@client.example": false, "ñandú@client.example": true} {
		h := newHouse(t)
		m := h.mailOf(from)
		m.SMTPUTF8 = true
		h.settle(refused(), h.accept(m, to("jörg@b.example", 0))...)
		got := h.told()
		if len(got) != 1 {
			t.Fatalf("%d reports", len(got))
		}
		if got[0].Message.SMTPUTF8 != utf8 || got[0].Message.EightBit != utf8 {
			t.Errorf("%s: %+v", from, got[0].Message)
		}
		if _, status, _ := h.parts(got[0].Bytes); !strings.Contains(status, "Final-Recipient: utf-8; jörg@b.example\r\n") {
			t.Error(status)
		}
		signed(t, got[0])
	}
}

// What can't be written while the disk is full is told when there is room again.
func TestFullDiskLosesNoReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.settle(refused(), h.accept(h.mailOf("anna@client.example"), to("x@b.example", 0))...)
		h.settle(refused(), h.accept(h.mailOf(""), to("x@b.example", 0))...)
		h.disk.Full.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		if len(h.enqueued()) != 0 {
			t.Errorf("reports %+v", h.enqueued())
		}
		h.disk.Full.Store(false)
		time.Sleep(longestPause + time.Second)
		if len(h.enqueued()) != 1 || len(h.alerts()) != 1 {
			t.Errorf("%d reports, %d alerts", len(h.enqueued()), len(h.alerts()))
		}
		cancel()
		h.must(<-ended)
		h.must(h.deps.DB.Close())
	})
}

const spoilContent db.SQL = `UPDATE content SET size = 'spoiled' WHERE id = $1`

// Reports that can't be made keep none of the others up, however many they are,
// and are made when they can.
func TestReportsThatCannotBeMadeKeepNoOtherUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for range 2 * noticesAtOnce {
			m := h.mailOf("anna@client.example")
			items := h.accept(m, to("x@b.example", 0))
			h.batch(func(tx *db.Tx) error { _, err := tx.Exec(spoilContent, m.Content); return err })
			h.settle(refused(), items...)
		}
		time.Sleep(time.Second)
		h.settle(refused(), h.accept(h.mailOf("bert@client.example"), to("x@b.example", 0))...)
		if got := h.told(); len(got) != 1 || got[0].Recipient.To.String() != "bert@client.example" {
			t.Fatalf("%d reports", len(got))
		}
		h.batch(func(tx *db.Tx) error { _, err := tx.Exec("UPDATE content SET size = 0"); return err })
		if got := h.told(); len(got) != 0 {
			t.Errorf("%d reports before their time", len(got))
		}
		time.Sleep(putOff)
		if got := h.told(); len(got) != 2*noticesAtOnce {
			t.Errorf("%d reports after it", len(got))
		}
		h.must(h.deps.DB.Close())
	})
}
