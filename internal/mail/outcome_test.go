package mail_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mittente/internal/mail"
)

// TestParseStatus: RFC 3463 §2, at the start of a reply's text.
func TestParseStatus(t *testing.T) {
	for in, want := range map[string]struct {
		status mail.Status
		rest   string
	}{
		"2.0.0 Queued":        {mail.Status{Class: 2}, "Queued"},
		"5.7.1 a b c":         {mail.Status{Class: 5, Subject: 7, Detail: 1}, "a b c"},
		"4.999.999 x":         {mail.Status{Class: 4, Subject: 999, Detail: 999}, "x"},
		"5.1.10":              {mail.Status{Class: 5, Subject: 1, Detail: 10}, ""},
		"5.1.10 ":             {mail.Status{Class: 5, Subject: 1, Detail: 10}, ""},
		"4.4.2  two spaces":   {mail.Status{Class: 4, Subject: 4, Detail: 2}, " two spaces"},
		"2.1.5 2.1.5 doubled": {mail.Status{Class: 2, Subject: 1, Detail: 5}, "2.1.5 doubled"},
	} {
		status, rest, ok := mail.ParseStatus(in)
		if status != want.status || rest != want.rest || !ok {
			t.Errorf("%q: %v, %q, %v", in, status, rest, ok)
		}
		if !strings.HasPrefix(in, status.String()) {
			t.Errorf("%q: String is %s", in, status)
		}
	}
	for _, in := range []string{
		"", " ", "5", "5.", "5.7", "5.7.", "5.7 1", "5.7.1.2", "5.7.1x", "5.7.1\tx", "5.7.1-x", "x5.7.1", " 5.7.1", "5..1", "5.7..1", ".7.1", "-5.7.1", "+5.7.1",
		"3.7.1 x", "0.0.0", "1.0.0", "6.0.0", "9.9.9", "55.7.1", "5.1000.1", "5.7.1000", "5.07.1", "5.7.01", "5.00.0", "05.7.1", "5.7.１", "5,7,1", "5.7.1\r\n", "550 5.7.1",
	} {
		status, rest, ok := mail.ParseStatus(in)
		if ok || !status.IsZero() || rest != in {
			t.Errorf("%q: %v, %q, %v", in, status, rest, ok)
		}
	}
}

// TestParseStatus_DoesNotAllocate: it reads every reply of every delivery.
func TestParseStatus_DoesNotAllocate(t *testing.T) {
	for _, in := range []string{"5.7.1 not authorised", "OK, no status here"} {
		if n := testing.AllocsPerRun(100, func() { _, _, _ = mail.ParseStatus(in) }); n != 0 {
			t.Errorf("%q: %v allocations", in, n)
		}
	}
}

// TestStatus_JSON: the text form; empty and left out when not known.
func TestStatus_JSON(t *testing.T) {
	type doc struct {
		A mail.Status  `json:"a,omitzero"`
		B *mail.Status `json:"b"`
	}
	text, err := json.Marshal(doc{B: &mail.Status{Class: 5, Subject: 7, Detail: 26}})
	if err != nil || string(text) != `{"b":"5.7.26"}` {
		t.Errorf("%s, %v", text, err)
	}
	got := doc{A: mail.Status{Class: 2}}
	if err := json.Unmarshal([]byte(`{"a":"","b":"4.2.2"}`), &got); err != nil || !got.A.IsZero() || *got.B != (mail.Status{Class: 4, Subject: 2, Detail: 2}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{`"5.7"`, `"5.7.1 x"`, `"x"`, `"5.7.1 "`} {
		var s mail.Status
		if err := json.Unmarshal([]byte(bad), &s); err == nil || !s.IsZero() {
			t.Errorf("%s: %v, %v", bad, s, err)
		}
	}
}

// TestOutcome_Reply: one line, as a postmaster expects to read it.
func TestOutcome_Reply(t *testing.T) {
	for want, o := range map[string]mail.Outcome{
		"550 5.1.1 no such user": {Code: 550, Status: mail.Status{Class: 5, Subject: 1, Detail: 1}, Diagnostic: "no such user"},
		"550 no such user":       {Code: 550, Diagnostic: "no such user"},
		"4.4.1 timed out":        {Status: mail.Status{Class: 4, Subject: 4, Detail: 1}, Diagnostic: "timed out"},
		"timed out":              {Diagnostic: "timed out"},
		"250":                    {Code: 250},
		"":                       {},
	} {
		if got := o.Reply(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestOutcome_JSON: what is not known is left out.
func TestOutcome_JSON(t *testing.T) {
	text, err := json.Marshal(mail.Outcome{Action: mail.Delivered})
	if err != nil || string(text) != `{"action":"delivered"}` {
		t.Errorf("%s, %v", text, err)
	}
	want := mail.Outcome{
		Action: mail.Failed, Scope: mail.ScopeRecipient, Code: 550, Status: mail.Status{Class: 5, Subject: 1, Detail: 1},
		Diagnostic: "no", RemoteMTA: "mx.example", RemoteAddr: "192.0.2.1", TLS: "TLS1.3",
		DSN: true, RetryAfter: 5 * time.Minute, Ours: true,
	}
	text, err = json.Marshal(want)
	var got mail.Outcome
	if err != nil || json.Unmarshal(text, &got) != nil || got != want {
		t.Errorf("%s: %+v, %v", text, got, err)
	}
}

// TestDiagnostic makes what others say fit for logs and screens.
func TestDiagnostic(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                          "plain",
		"two\r\nlines\tand tab":          "two lines and tab",
		"esc \x1b[31m \x7f\u0085\u2028.": "esc [31m .",
		"not \xff utf8":                  "not ? utf8",
		strings.Repeat("é", 501):         strings.Repeat("é", 500),
		strings.Repeat("a", 999) + "é":   strings.Repeat("a", 999),
	} {
		if got := mail.Diagnostic(in); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

// TestPriority_Validate: 1 to 5.
func TestPriority_Validate(t *testing.T) {
	for p := mail.Priority(-1); p < 8; p++ {
		if err := p.Validate(); (err == nil) != (p >= 1 && p <= 5) {
			t.Errorf("%d: %v", p, err)
		}
	}
}

// TestPaths: a reverse-path may be null, a forward-path may not.
func TestPaths(t *testing.T) {
	if p, err := mail.ParseReversePath(""); err != nil || !p.IsNull() || p.String() != "" {
		t.Errorf("null: %v, %v", p, err)
	}
	if p, err := mail.ParseReversePath("a@b.example"); err != nil || p.IsNull() || p.String() != "a@b.example" {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := mail.ParseReversePath("<>"); err == nil {
		t.Errorf("brackets: %v", p)
	}
	if p, err := mail.ParseForwardPath(""); err == nil {
		t.Errorf("null forward-path: %v", p)
	}
	if p, err := mail.ParseForwardPath("a@b.example"); err != nil || p.String() != "a@b.example" {
		t.Errorf("%v, %v", p, err)
	}
}

// FuzzParseStatus: what is accepted is what Sscanf and Sprintf make of it, and nothing is lost.
func FuzzParseStatus(f *testing.F) {
	for _, s := range []string{"2.0.0 OK", "5.7.1", "5.7.1 ", "4.999.999 x", "5.07.1", "5.7.1x", "3.0.0", "5..1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		status, rest, ok := mail.ParseStatus(s)
		word, after, _ := strings.Cut(s, " ")
		var want mail.Status
		n, _ := fmt.Sscanf(word, "%1d.%3d.%3d", &want.Class, &want.Subject, &want.Detail)
		good := n == 3 && fmt.Sprintf("%d.%d.%d", want.Class, want.Subject, want.Detail) == word && (want.Class == 2 || want.Class == 4 || want.Class == 5) &&
			want.Subject >= 0 && want.Detail >= 0
		if ok != good || ok && (status != want || rest != after || status.String() != word) || !ok && rest != s {
			t.Errorf("%q: %v, %q, %v", s, status, rest, ok)
		}
	})
}

// BenchmarkParseStatus is every reply of every delivery.
func BenchmarkParseStatus(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		mail.ParseStatus("5.7.1 Sender is not authorised")
	}
}
