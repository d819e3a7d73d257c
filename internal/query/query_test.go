package query

import (
	"errors"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"mittente/internal/id"
	"mittente/internal/mail"
)

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// noon is a time in a zone that is not UTC's.
func noon() time.Time {
	return time.Date(2026, 11, 24, 12, 0, 0, 0, time.FixedZone("Rome", 3600))
}

// Each key of the language, and what stands without one.
func TestParse(t *testing.T) {
	t.Parallel()
	message := id.New[id.Message]()
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, noon().Location()) }
	for _, c := range []struct {
		text string
		want Query
	}{
		{"", Query{}},
		{" \t\n", Query{}},
		{"to:anna@example.net", Query{To: address("anna@example.net")}},
		{"TO:anna@EXAMPLE.net", Query{To: address("anna@example.net")}},
		{`to:"a b"@example.net`, Query{To: address(`"a b"@example.net`)}},
		{"anna@example.net", Query{To: address("anna@example.net")}},
		{"from:anna@example.net", Query{From: address("anna@example.net")}},
		{"from:example.net", Query{FromAt: "example.net"}},
		{"from:@example.net", Query{FromAt: "example.net"}},
		{"domain:città.example", Query{Domain: "xn--citt-3na.example"}},
		{"user:s17_1", Query{User: "s17_1"}},
		{"status:Deferred", Query{Standing: Deferred}},
		{"status:refused", Query{Standing: Refused}},
		{"after:2026-11-22", Query{After: day(22)}},
		{"before:today", Query{Before: day(24)}},
		{"after:yesterday", Query{After: day(23)}},
		{"after:3h before:90m", Query{After: noon().Add(-3 * time.Hour), Before: noon().Add(-90 * time.Minute)}},
		{"after:2d before:1w", Query{After: noon().AddDate(0, 0, -2), Before: noon().AddDate(0, 0, -7)}},
		{"after:2026-11-22T10:00:00Z", Query{After: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}},
		{"msgid:a.b@example.com", Query{MessageID: "<a.b@example.com>"}},
		{"msgid:<a.b@example.com>", Query{MessageID: "<a.b@example.com>"}},
		{"msgid:" + message.String(), Query{Message: message}},
		{message.String(), Query{Message: message}},
		{"subject:invoice", Query{Subject: []string{"invoice"}}},
		{`subject:"your invoice" 7`, Query{Subject: []string{"your invoice", "7"}}},
		{`"to: you" invoice`, Query{Subject: []string{"to: you", "invoice"}}},
		{"16:30", Query{Subject: []string{"16:30"}}},
		{"user:s1_1 to:a@b.example  status:failed", Query{User: "s1_1", To: address("a@b.example"), Standing: Failed}},
	} {
		got, err := Parse(c.text, noon())
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
}

// An error says where it is, as people count.
func TestParseErrors(t *testing.T) {
	t.Parallel()
	for text, pos := range map[string]int{
		"to:":                           3,
		"user:a to:nobody":              10,
		"to:a@b.example to:c@d.example": 15,
		`subject:"open`:                 8,
		`subject:""`:                    8,
		"state:failed":                  0,
		"status:bounced":                7,
		"before:soon":                   7,
		"after:99999999w":               6,
		"after:2026-13-01":              6,
		"msgid:msg_7":                   6,
		"from:-":                        5,
		"a b c d e":                     8,
		"è é ì ò ù":                     12,
	} {
		_, err := Parse(text, noon())
		var at *Error
		if !errors.As(err, &at) || at.Pos != pos {
			t.Errorf("%q: %v, want it at %d", text, err, pos)
		}
	}
	if _, err := Parse(string(make([]byte, maxText+1)), noon()); err == nil {
		t.Error("a query without bound")
	}
}

// Whatever is typed, it is a query or an error within it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"to:anna@example.net", `subject:"a b" from:example.net`, "after:3h before:today status:held", "msgid:<a@b>", "x:y", `"`, "to:\"", "  ", "é:ù",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text, noon())
		var at *Error
		if err != nil && (!errors.As(err, &at) || at.Pos < 0 || at.Pos > max(len(text), maxText)) {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil && utf8.ValidString(text) && at.Pos < len(text) && !utf8.RuneStart(text[at.Pos]) {
			t.Fatalf("%q: an error within a letter, at %d", text, at.Pos)
		}
		if len(q.Subject) > MaxWords {
			t.Fatalf("%q: %d words", text, len(q.Subject))
		}
	})
}
