package report_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // of the texts
	"github.com/emersion/go-message/textproto"

	"mittente/internal/mail"
	"mittente/internal/report"
)

func address(tb testing.TB, s string) mail.Address {
	tb.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// at is a moment in a known place.
func at(tb testing.TB) (time.Time, report.Zone) {
	tb.Helper()
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		tb.Fatal(err)
	}
	return time.Date(2026, 11, 23, 10, 31, 0, 0, rome), report.Zone{Location: rome}
}

const originalHeader = "Received: by relay.example with ESMTPSA id msg_1; Mon, 23 Nov 2026 10:31:00 +0100\r\n" +
	"From: Anna <anna@client.example>\r\nTo: nobody@b.example\r\nSubject: Invoice 12\r\nMessage-ID: <12@client.example>\r\n"

// failed is a report of a recipient whom the other server does not know.
func failed(tb testing.TB) report.DSN {
	tb.Helper()
	when, zone := at(tb)
	return report.DSN{
		Kind: report.Failure, From: address(tb, "postmaster@relay.example"), To: address(tb, "anna@client.example"),
		MessageID: "<dsn-1@relay.example>", Date: when.Add(time.Minute),
		Reporter: "relay.example", EnvelopeID: "QQ 314159", Arrival: when, Subject: "Invoice 12", OriginalID: "<12@client.example>", Zone: zone,
		Recipients: []report.Recipient{{
			To: "nobody@b.example", Original: "rfc822;Nobody+x@b.example", LogID: "rcp_1", LastAttempt: when.Add(30 * time.Second),
			Outcome: mail.Outcome{
				Action: mail.Failed, Scope: mail.ScopeRecipient, Code: 550, Status: mail.Status{Class: 5, Subject: 1, Detail: 1},
				Diagnostic: "<nobody@b.example>: Recipient address rejected: User unknown", RemoteMTA: "mx.b.example",
			},
		}},
		Header: []byte(originalHeader),
	}
}

// seen is a report as another parser reads it.
type seen struct {
	header  message.Header
	types   []string
	people  string
	fields  []textproto.Header // the message's, then one per recipient
	content string             // of the third part
}

// read takes a report apart with emersion/go-message.
func read(tb testing.TB, raw []byte) seen {
	tb.Helper()
	e, err := message.Read(bytes.NewReader(raw))
	if err != nil {
		tb.Fatal(err)
	}
	s := seen{header: e.Header}
	parts := e.MultipartReader()
	if parts == nil {
		tb.Fatalf("no multipart:\n%s", raw)
	}
	for {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			tb.Fatal(err)
		}
		kind, _, err := p.Header.ContentType()
		if err != nil {
			tb.Fatal(err)
		}
		body, err := io.ReadAll(p.Body)
		if err != nil {
			tb.Fatal(err)
		}
		switch s.types = append(s.types, kind); len(s.types) {
		case 1:
			s.people = string(body)
		case 2:
			s.fields = groups(tb, body)
		default:
			s.content = string(body)
		}
	}
}

// groups are the groups of fields of a delivery-status.
func groups(tb testing.TB, body []byte) []textproto.Header {
	tb.Helper()
	var all []textproto.Header
	for block := range bytes.SplitSeq(bytes.TrimSuffix(body, []byte("\r\n")), []byte("\r\n\r\n")) {
		r := io.MultiReader(bytes.NewReader(block), strings.NewReader("\r\n\r\n"))
		h, err := textproto.ReadHeader(bufio.NewReader(r))
		if err != nil {
			tb.Fatalf("%v in %q", err, block)
		}
		all = append(all, h)
	}
	return all
}

// wellFormed checks what every content must be (RFC 5322 §2.1.1), and that it is
// in ASCII where it says so.
func wellFormed(tb testing.TB, d *report.DSN) []byte {
	tb.Helper()
	raw := d.Bytes()
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			tb.Fatalf("a line of %d octets: %.200q", len(line), line)
		}
	}
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		tb.Error("the last line has no end")
	}
	return raw
}

func isASCII(b []byte) bool { return bytes.IndexFunc(b, func(r rune) bool { return r >= 0x80 }) < 0 }

func TestFailure(t *testing.T) {
	t.Parallel()
	d := failed(t)
	raw := wellFormed(t, &d)
	got := read(t, raw)
	for name, want := range map[string]string{
		"From": `"Mail Delivery System" <postmaster@relay.example>`, "To": "<anna@client.example>", "Subject": "Not delivered: Invoice 12",
		"Date": "Mon, 23 Nov 2026 10:32:00 +0100", "Message-Id": "<dsn-1@relay.example>", "In-Reply-To": "<12@client.example>",
		"References": "<12@client.example>", "Auto-Submitted": "auto-replied", "Mime-Version": "1.0",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	if kind, params, err := got.header.ContentType(); err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Errorf("content type %s %v, %v", kind, params, err)
	}
	if want := "text/plain message/delivery-status text/rfc822-headers"; strings.Join(got.types, " ") != want {
		t.Errorf("parts %v", got.types)
	}
	wantFields(t, got.fields, []map[string]string{{
		"Reporting-Mta": "dns; relay.example", "Original-Envelope-Id": "QQ 314159", "Arrival-Date": "Mon, 23 Nov 2026 10:31:00 +0100",
	}, {
		"Original-Recipient": "rfc822; Nobody+x@b.example", "Final-Recipient": "rfc822; nobody@b.example", "Action": "failed",
		"Status": "5.1.1", "Remote-Mta": "dns; mx.b.example", "Last-Attempt-Date": "Mon, 23 Nov 2026 10:31:30 +0100",
		"Diagnostic-Code": "smtp; 550 5.1.1 <nobody@b.example>: Recipient address rejected: User unknown", "Final-Log-Id": "rcp_1",
		"Will-Retry-Until": "",
	}})
	if got.content != originalHeader {
		t.Errorf("returned %q", got.content)
	}
	if !isASCII(raw) || d.NeedsUTF8() {
		t.Error("it is not in ASCII")
	}
	for _, want := range []string{
		"Your message could not be delivered.", "Subject: Invoice 12", "Sent:    23 November 2026, 10:31 (Rome time)", "nobody@b.example\r\n",
		"this address does not exist.", "mx.b.example answered:\r\n  > 550 5.1.1 <nobody@b.example>:", "Il tuo messaggio non è stato consegnato.",
		"23 novembre 2026, 10:31 (ora di Roma)", "questo indirizzo non esiste.",
	} {
		if !strings.Contains(got.people, want) {
			t.Errorf("the text has no %q:\n%s", want, got.people)
		}
	}
	if strings.Count(got.people, "address rejected") != 1 {
		t.Errorf("the reply is not said once:\n%s", got.people)
	}
}

func wantFields(tb testing.TB, got []textproto.Header, want []map[string]string) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%d groups, want %d: %v", len(got), len(want), got)
	}
	for i, group := range want {
		for name, value := range group {
			if v := got[i].Get(name); v != value {
				tb.Errorf("group %d, %s: %q, want %q", i, name, v, value)
			}
		}
	}
}

func TestLanguageOfTheAccountStandsFirst(t *testing.T) {
	t.Parallel()
	d := failed(t)
	d.Lang, d.Subject = "it", "Perché no"
	got := read(t, wellFormed(t, &d))
	if s, err := got.header.Text("Subject"); err != nil || s != "Non consegnato: Perché no" {
		t.Errorf("subject %q, %v", s, err)
	}
	if it, en := strings.Index(got.people, "non è stato"), strings.Index(got.people, "could not be"); it < 0 || en < it {
		t.Errorf("italian at %d, english at %d:\n%s", it, en, got.people)
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	when, _ := at(t)
	for _, c := range []struct {
		name           string
		kind           report.Kind
		outcome        mail.Outcome
		expired        bool
		action, status string
		says           []string
	}{
		{
			"delay", report.Delay,
			mail.Outcome{Action: mail.Deferred, Code: 451, Status: mail.Status{Class: 4, Subject: 7, Detail: 1}, Diagnostic: "greylisted"},
			false, "delayed", "4.7.1",
			[]string{"We try until 26 November 2026, 10:31 (Rome time).", "you need not send it again"},
		},
		{
			"delay without a status", report.Delay,
			mail.Outcome{Action: mail.Deferred, Diagnostic: "dial: timeout"},
			false, "delayed", "4.4.7",
			[]string{"What happened:\r\n  > dial: timeout"},
		},
		{
			"success", report.Success,
			mail.Outcome{Action: mail.Delivered, Code: 250, Status: mail.Status{Class: 2, Detail: 0}, Diagnostic: "queued", RemoteMTA: "mx.b.example"},
			false, "relayed", "2.0.0",
			[]string{"has been handed on", "do not tell what becomes of it"},
		},
		{
			"success without a status", report.Success,
			mail.Outcome{Action: mail.Delivered, Code: 250, Diagnostic: "queued"},
			false, "relayed", "2.0.0", nil,
		},
		{
			"expired", report.Failure,
			mail.Outcome{Action: mail.Deferred, Status: mail.Status{Class: 4, Subject: 4, Detail: 1}, Diagnostic: "connection refused"},
			true, "failed", "4.4.1",
			[]string{"tried until its time was over", "could not be reached"},
		},
		{"expired without a status", report.Failure, mail.Outcome{}, true, "failed", "4.4.7", nil},
		{"failed without a status", report.Failure, mail.Outcome{Action: mail.Failed, Code: 550, Diagnostic: "no"}, false, "failed", "5.0.0", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := failed(t)
			d.Kind = c.kind
			r := &d.Recipients[0]
			r.Outcome, r.Expired, r.RetryUntil = c.outcome, c.expired, when.Add(72*time.Hour)
			got := read(t, wellFormed(t, &d))
			want := map[string]string{"Action": c.action, "Status": c.status}
			if c.kind == report.Delay {
				want["Will-Retry-Until"] = "Thu, 26 Nov 2026 10:31:00 +0100"
			}
			wantFields(t, got.fields[1:], []map[string]string{want})
			flat := strings.Join(strings.Fields(got.people), " ")
			for _, text := range c.says {
				if !strings.Contains(flat, strings.Join(strings.Fields(text), " ")) {
					t.Errorf("the text has no %q:\n%s", text, got.people)
				}
			}
		})
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		"550 5.1.1 x": "does not exist", "550 5.1.3 x": "does not exist", "550 5.1.2 x": "takes no mail", "556 5.1.10 x": "takes no mail",
		"550 5.1.8 x": "by its own rules", "550 5.2.1 x": "not in use", "552 5.2.2 x": "is full", "552 5.2.3 x": "larger", "552 5.3.4 x": "larger",
		"552 x": "larger", "554 5.4.6 x": "in a circle", "451 4.4.2 x": "come back later", "550 5.6.0 x": "of this form", "553 5.6.7 x": "outside ASCII",
		"550 5.7.1 x": "by its own rules", "454 4.7.0 x": "by its own rules", "450 x": "come back later", "554 5.3.0 x": "did not take", "554 x": "did not take",
		"4.4.1 x": "could not be reached", "4.7.5 x": "by its own rules", "550 5.2.0 x": "did not take", "550 5.4.1 x": "did not take",
	} {
		d := failed(t)
		o := mail.Outcome{Action: mail.Failed}
		code, rest, _ := strings.Cut(reply, " ")
		if len(code) == 3 {
			o.Code = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
		} else {
			rest, o.Action = reply, mail.Deferred
		}
		if s, text, ok := mail.ParseStatus(rest); ok {
			o.Status, rest = s, text
		}
		o.Diagnostic = rest
		d.Recipients[0].Outcome = o
		if got := strings.Join(strings.Fields(read(t, d.Bytes()).people), " "); !strings.Contains(got, want) {
			t.Errorf("%s: no %q in %s", reply, want, got)
		}
	}
}

// What a client and another server wrote stays where it belongs.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	const evil = "x\r\nTo: victim@c.example\r\n\r\n--mark\r\n\x00\x1b[31m\u2028é\xff"
	d := failed(t)
	d.Subject, d.OriginalID, d.EnvelopeID, d.Reporter = evil, "<a\r\nBcc: v@c.example>", evil, evil
	r := &d.Recipients[0]
	r.Display, r.LogID, r.Original = evil, evil, "rfc822;"+evil
	r.Outcome.Diagnostic, r.Outcome.RemoteMTA = strings.Repeat(evil, 100)+strings.Repeat("y", 5000), evil
	raw := wellFormed(t, &d)
	got := read(t, raw)
	if got.header.Get("To") != "<anna@client.example>" || got.header.Get("Bcc") != "" || got.header.Get("In-Reply-To") != "" {
		t.Errorf("header %v", got.header)
	}
	if len(got.types) != 3 || len(got.fields) != 2 || got.fields[1].Get("To") != "" || got.fields[0].Get("To") != "" {
		t.Errorf("parts %v, fields %v", got.types, got.fields)
	}
	if !isASCII(raw) && !d.NeedsUTF8() {
		t.Error("it is not in ASCII")
	}
	if strings.ContainsAny(got.people, "\x00\x1b\u2028") {
		t.Errorf("text %q", got.people)
	}
	if len(raw) > 64<<10 {
		t.Errorf("%d octets", len(raw))
	}
}

func TestNonASCIIReplyInAnASCIIReport(t *testing.T) {
	t.Parallel()
	d := failed(t)
	d.Recipients[0].Outcome.Diagnostic = "Boîte inconnue"
	got := read(t, wellFormed(t, &d))
	if v := got.fields[1].Get("Diagnostic-Code"); v != `smtp; 550 5.1.1 Bo\x{EE}te inconnue` {
		t.Errorf("%q", v)
	}
	if !strings.Contains(got.people, "Boîte inconnue") {
		t.Error(got.people)
	}
}

// RFC 6533: international mail is reported in its own form.
func TestInternational(t *testing.T) {
	t.Parallel()
	header := "From: Ñandú <ñandú@client.example>\r\nTo: jörg@b.example\r\nSubject: Grüße\r\n"
	for _, to := range []string{"anna@client.example", "ñandú@client.example"} {
		d := failed(t)
		d.To, d.UTF8, d.Header, d.Subject = address(t, to), true, []byte(header), "Grüße"
		d.Recipients[0].To, d.Recipients[0].Original = "jörg@b.example", "utf-8;jörg@b.example"
		d.Recipients[0].Outcome.Diagnostic = "<jörg@b.example> unbekannt"
		raw := wellFormed(t, &d)
		got := read(t, raw)
		if want := "text/plain message/global-delivery-status message/global-headers"; strings.Join(got.types, " ") != want {
			t.Errorf("%s: parts %v", to, got.types)
		}
		if isASCII(raw) == d.NeedsUTF8() {
			t.Errorf("%s: in ASCII %v, needs SMTPUTF8 %v", to, isASCII(raw), d.NeedsUTF8())
		}
		wantFields(t, got.fields[1:], []map[string]string{{
			"Original-Recipient": "utf-8; jörg@b.example", "Final-Recipient": "utf-8; jörg@b.example",
			"Diagnostic-Code": "smtp; 550 5.1.1 <jörg@b.example> unbekannt",
		}})
		if got.content != header {
			t.Errorf("%s: returned %q", to, got.content)
		}
	}
}

func TestReturnedContent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 999)
	for _, c := range []struct {
		name, header, body string
		utf8               bool
		kind, want         string // want empty: header, empty line, body
	}{
		{"plain", originalHeader, "Hello\r\n.\r\n--\r\n", false, "message/rfc822", ""},
		{"empty body", originalHeader, "", false, "message/rfc822", ""},
		{"8-bit body", originalHeader, "Grüße\r\n", false, "message/rfc822", ""},
		{"long line in the body", originalHeader, long + "\r\n", false, "text/rfc822-headers", originalHeader},
		{"8-bit header", "Subject: Grüße\r\n", "Hi\r\n", false, "text/rfc822-headers", "Subject: Grüße\r\n"},
		{"octets that are no text", "Subject: \xe9\r\n", "Hi\r\n", false, "text/rfc822-headers", "Subject: \xe9\r\n"},
		{"long line in the header", "X: " + long + "\r\n", "Hi\r\n", false, "text/rfc822-headers", "X: " + long + "\r\n"},
		{"international", "Subject: Grüße\r\n", "Grüße\r\n", true, "message/global", ""},
		{"international flag only", originalHeader, "Hi\r\n", true, "message/rfc822", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := failed(t)
			d.Header, d.Body, d.UTF8 = []byte(c.header), []byte(c.body), c.utf8
			got := read(t, wellFormed(t, &d))
			want := c.want
			if want == "" {
				want = c.header + "\r\n" + c.body
			}
			if got.types[2] != c.kind || got.content != want {
				t.Errorf("%s: %q, want %s: %q", got.types[2], got.content, c.kind, want)
			}
		})
	}
}

func TestContentThatIsGone(t *testing.T) {
	t.Parallel()
	d := failed(t)
	d.Header = nil
	if got := read(t, wellFormed(t, &d)); len(got.types) != 2 {
		t.Errorf("parts %v", got.types)
	}
}

// A body can't end the report that returns it.
func TestBoundaryIsNotInTheContent(t *testing.T) {
	t.Parallel()
	d := failed(t)
	d.Body = []byte("x\r\n")
	first := read(t, d.Bytes())
	_, params, err := first.header.ContentType()
	if err != nil {
		t.Fatal(err)
	}
	d.Body = []byte("--" + params["boundary"] + "--\r\nmore\r\n")
	if got := read(t, wellFormed(t, &d)); len(got.types) != 3 || !strings.HasSuffix(got.content, "more\r\n") {
		t.Errorf("parts %v, content %q", got.types, got.content)
	}
}

// TestPython has Python's email package read reports, as another opinion.
func TestPython(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("python3 reads the reports in this test: %v", err)
	}
	const script = `
import email, email.policy, sys
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
assert not m.defects, m.defects
assert m.get_content_type() == 'multipart/report' and m.get_param('report-type') == 'delivery-status'
parts = list(m.iter_parts())
for p in m.walk():
    assert not p.defects, (p.get_content_type(), p.defects)
status = parts[1].get_payload()
for block in status:
    for name, value in block.items():
        print(name + '=' + ' '.join(value.split()))
print('text=' + parts[0].get_content().splitlines()[0])
print('returned=' + parts[2].get_content_type())
if parts[2].get_content_type() == 'message/rfc822':
    print('subject=' + parts[2].get_content()['subject'])
`
	for _, full := range []bool{false, true} {
		d := failed(t)
		second := d.Recipients[0]
		second.To, second.Original = "other@b.example", ""
		d.Recipients = append(d.Recipients, second)
		want := []string{
			"Final-Recipient=rfc822; nobody@b.example", "Final-Recipient=rfc822; other@b.example", "Action=failed", "Status=5.1.1",
			"Reporting-MTA=dns; relay.example", "text=Your message could not be delivered.", "returned=text/rfc822-headers",
		}
		if full {
			d.Body = []byte("Hello\r\n")
			want = append(want[:len(want)-1], "returned=message/rfc822", "subject=Invoice 12")
		}
		cmd := exec.CommandContext(t.Context(), python, "-c", script)
		cmd.Stdin = bytes.NewReader(d.Bytes())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, line := range want {
			if !strings.Contains("\n"+string(out), "\n"+line+"\n") {
				t.Errorf("full %v: no %q in\n%s", full, line, out)
			}
		}
	}
}

func TestZone(t *testing.T) {
	t.Parallel()
	when, rome := at(t)
	for _, c := range []struct {
		zone     report.Zone
		it, want string
	}{
		{rome, "23 novembre 2026, 10:31 (ora di Roma)", "23 November 2026, 10:31 (Rome time)"},
		{report.Zone{}, "23 novembre 2026, 09:31 (UTC)", "23 November 2026, 09:31 (UTC)"},
		{report.Zone{Location: time.FixedZone("", 5*3600+1800)}, "23 novembre 2026, 15:01 (UTC+05:30)", "23 November 2026, 15:01 (UTC+05:30)"},
		{report.Zone{Location: time.FixedZone("CET", 3600)}, "23 novembre 2026, 10:31 (CET)", "23 November 2026, 10:31 (CET)"},
	} {
		if it, en := c.zone.Format(when, "it"), c.zone.Format(when, "en"); it != c.it || en != c.want {
			t.Errorf("%q, %q", it, en)
		}
	}
}

func FuzzBytes(f *testing.F) {
	f.Add("Invoice", "<1@c.example>", "no such user", "rfc822;a@b.example", originalHeader, "body\r\n")
	f.Add("\r\n", "<", "é\xff", "utf-8;é@b.example", "X: é\r\n", "")
	f.Fuzz(func(t *testing.T, subject, id, reply, original, header, body string) {
		d := failed(t)
		d.Subject, d.OriginalID, d.EnvelopeID = subject, id, reply
		d.Recipients[0].Original, d.Recipients[0].Outcome.Diagnostic, d.Recipients[0].Outcome.RemoteMTA = original, reply, reply
		if strings.ContainsAny(strings.ReplaceAll(header, "\r\n", ""), "\r\n\x00") || !strings.HasSuffix(header, "\r\n") {
			header = originalHeader // the gate takes no others
		}
		d.Header, d.Body = []byte(header), []byte(body)
		got := read(t, wellFormed(t, &d))
		if len(got.types) != 3 || len(got.fields) != 2 || got.fields[1].Get("Action") != "failed" {
			t.Errorf("parts %v, fields %v", got.types, got.fields)
		}
	})
}
