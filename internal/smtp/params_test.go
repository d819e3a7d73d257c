package smtp

import (
	"errors"
	"math"
	"strings"
	"testing"

	"mittente/internal/mail"
)

func TestParseMail(t *testing.T) {
	for _, tt := range []struct {
		args, from string
		want       Mail
	}{
		{args: "FROM:<a@b.example>", from: "a@b.example"},
		{args: "from:<a@b.example>", from: "a@b.example"},
		{args: "FROM: <a@b.example>", from: "a@b.example"},
		{args: "FROM:a@b.example", from: "a@b.example"},
		{args: "FROM:a@b.example SIZE=7", from: "a@b.example", want: Mail{Size: 7}},
		{args: "FROM:<>", from: ""},
		{args: "FROM:<> BODY=7BIT", from: ""},
		{args: "FROM:<a@b.example> SIZE=123 BODY=8bitmime SMTPUTF8", from: "a@b.example", want: Mail{Size: 123, EightBit: true, UTF8: true}},
		{args: "FROM:<a@b.example> size=0 smtputf8", from: "a@b.example", want: Mail{UTF8: true}},
		{args: "FROM:<a@b.example> AUTH=<>", from: "a@b.example"},
		{args: "FROM:<a@b.example> ret=hdrs", from: "a@b.example", want: Mail{Return: mail.ReturnHeader}},
		{args: "FROM:<> RET=FULL ENVID=QQ+2B+3d+20314159", want: Mail{Return: mail.ReturnFull, ID: "QQ+= 314159"}},
		{args: "FROM:<> ENVID=" + strings.Repeat("x", 100), want: Mail{ID: strings.Repeat("x", 100)}},
		{args: "FROM:<a@b.example> AUTH=e+3Dmc2@example.com", from: "a@b.example"},
		{args: "FROM:<a@b.example> SIZE=99999999999999999999", from: "a@b.example", want: Mail{Size: math.MaxInt64}},
		{args: `FROM:<"a>b c"@b.example> SIZE=1`, from: `"a>b c"@b.example`, want: Mail{Size: 1}},
		{args: `FROM:<"a\"> b"@b.example>`, from: `"a\"> b"@b.example`},
		{args: "FROM:<@x.example,@y.example:a@b.example>", from: "a@b.example"},
		{args: "FROM:<gr\u00fc\u00df@b.example> SMTPUTF8", from: "gr\u00fc\u00df@b.example", want: Mail{UTF8: true}},
	} {
		got, err := ParseMail(tt.args)
		from := got.From.String()
		got.From = mail.ReversePath{}
		if err != nil || from != tt.from || got != tt.want {
			t.Errorf("%q: %q %+v, %v; want %q %+v", tt.args, from, got, err, tt.from, tt.want)
		}
	}
}

func TestParseMailErrors(t *testing.T) {
	for _, tt := range []struct {
		args string
		want error
	}{
		{"", ErrSyntax},
		{"FROM:", ErrPath},
		{"TO:<a@b.example>", ErrSyntax},
		{"FROM <a@b.example>", ErrSyntax},
		{"FROM:<a@b.example", ErrPath},
		{"FROM:<a@b.example>SIZE=1", ErrPath},
		{"FROM:<<a@b.example>>", ErrPath},
		{"FROM:<a @b.example>", ErrPath},
		{"FROM:a@b.example>", ErrPath},
		{`FROM:<"a@b.example>`, ErrPath},
		{"FROM:<@x.example>", ErrPath},
		{"FROM:<@x.example:>", ErrPath},
		{"FROM:<root>", ErrNoDomain},
		{`FROM:<"ro@ot">`, ErrNoDomain},
		{"FROM:<a@>", mail.ErrDomain},
		{"FROM:<a@localhost>", mail.ErrDomain},
		{"FROM:<@b.example:a@192.0.2.1>", mail.ErrDomain},
		{"FROM:<a@[192.0.2.1]>", mail.ErrLiteral},
		{"FROM:<a@[IPv6:::1]>", mail.ErrLiteral},
		{"FROM:<a..b@b.example>", mail.ErrAddress},
		{"FROM:< >", ErrPath},
		{"FROM:<a@b.example> XYZ", ErrParameter},
		{"FROM:<a@b.example> NOTIFY=NEVER", ErrParameter},
		{"FROM:<a@b.example> RET", ErrValue},
		{"FROM:<a@b.example> RET=BODY", ErrValue},
		{"FROM:<a@b.example> RET=FULL RET=HDRS", ErrValue},
		{"FROM:<a@b.example> ENVID", ErrValue},
		{"FROM:<a@b.example> ENVID=", ErrSyntax},
		{"FROM:<a@b.example> ENVID=a+", ErrValue},
		{"FROM:<a@b.example> ENVID=a+2", ErrValue},
		{"FROM:<a@b.example> ENVID=a+ZZ", ErrValue},
		{"FROM:<a@b.example> ENVID=a+0D+0ABcc:", ErrValue},
		{"FROM:<a@b.example> ENVID=a+00", ErrValue},
		{"FROM:<a@b.example> ENVID=gr\u00fc\u00df", ErrValue},
		{"FROM:<a@b.example> ENVID=" + strings.Repeat("x", 101), ErrValue},
		{"FROM:<a@b.example> SIZE", ErrValue},
		{"FROM:<a@b.example> SIZE=-1", ErrValue},
		{"FROM:<a@b.example> SIZE=1x", ErrValue},
		{"FROM:<a@b.example> SIZE=123456789012345678901", ErrValue},
		{"FROM:<a@b.example> SIZE=", ErrSyntax},
		{"FROM:<a@b.example> =1", ErrSyntax},
		{"FROM:<a@b.example> -X=1", ErrSyntax},
		{"FROM:<a@b.example> SI_ZE=1", ErrSyntax},
		{"FROM:<a@b.example> SIZE=1=2", ErrSyntax},
		{"FROM:<a@b.example> BODY=BINARYMIME", ErrValue},
		{"FROM:<a@b.example> BODY", ErrValue},
		{"FROM:<a@b.example> SMTPUTF8=1", ErrValue},
		{"FROM:<a@b.example> AUTH", ErrValue},
		{"FROM:<a@b.example> SIZE=1 size=2", ErrValue},
		{"FROM:<a@b.example> SMTPUTF8 smtputf8", ErrValue},
	} {
		if got, err := ParseMail(tt.args); !errors.Is(err, tt.want) || got != (Mail{}) {
			t.Errorf("%q: %+v, %v; want %v", tt.args, got, err, tt.want)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	for _, tt := range []struct {
		args, to string
		want     error
	}{
		{"TO:<a@b.example>", "a@b.example", nil},
		{"to: <a@B.example> ", "a@b.example", nil},
		{"TO:<@x.example:a@b.example>", "a@b.example", nil},
		{`TO:<"a b"@b.example>`, `"a b"@b.example`, nil},
		{"TO:<a@b\u00fccher.example>", "a@xn--bcher-kva.example", nil},
		{"TO:<>", "", ErrPath},
		{"FROM:<a@b.example>", "", ErrSyntax},
		{"TO:<Postmaster>", "", ErrNoDomain},
		{"TO:<a@[192.0.2.1]>", "", mail.ErrLiteral},
		{"TO:<a@b.example> NOTIFY=never ORCPT=rfc822;x@y", "a@b.example", nil},
		{"TO:<a@b.example> SIZE=1", "", ErrParameter},
		{"TO:<a@b.example> NOTIFY", "", ErrValue},
		{"TO:<a@b.example> NOTIFY=", "", ErrSyntax},
		{"TO:<a@b.example> NOTIFY=NEVER,DELAY", "", ErrValue},
		{"TO:<a@b.example> NOTIFY=DELAY NOTIFY=NEVER", "", ErrValue},
		{"TO:<a@b.example> =", "", ErrSyntax},
	} {
		got, err := ParseRcpt(tt.args)
		if got.To.String() != tt.to || !errors.Is(err, tt.want) {
			t.Errorf("%q: %q, %v; want %q, %v", tt.args, got.To, err, tt.to, tt.want)
		}
	}
}

func FuzzParseMail(f *testing.F) {
	for _, s := range []string{
		"FROM:<a@b.example> SIZE=1", "FROM:<>", `FROM:<"a\">b"@c.example> SMTPUTF8`, "from: a@b.example",
		"FROM:<@x,@y:a@b.example>", "FROM:<a@[1.2.3.4]>", "FROM:<root>", "FROM:<gr\u00fc\u00df@b\u00fccher.example> BODY=8BITMIME",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		m, err := ParseMail(args)
		if err != nil {
			return
		}
		again, err := ParseMail("FROM:<" + m.From.String() + ">")
		if err != nil || again.From != m.From {
			t.Errorf("%q: %q read back as %q, %v", args, m.From, again.From, err)
		}
		if m.Size < 0 {
			t.Errorf("%q: size %d", args, m.Size)
		}
	})
}

func FuzzParseRcpt(f *testing.F) {
	for _, s := range []string{"TO:<a@b.example>", "TO:<>", `TO:<"a b"@c.example>`, "TO:<@x:a@b.example> X=1", "TO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c", `TO:<a@b.example> ORCPT=utf-8;gr\x{FC}\u00df@c`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		r, err := ParseRcpt(args)
		if err != nil {
			return
		}
		line := "TO:<" + r.To.String() + ">"
		if r.Notify != 0 {
			line += " NOTIFY=" + r.Notify.String()
		}
		for _, encode := range []func(string) string{EncodeOriginal, EncodeOriginalUTF8} {
			full := line
			if r.Original != "" {
				full += " ORCPT=" + encode(r.Original)
			}
			again, err := ParseRcpt(full)
			tooLong := r.Original != "" && len(encode(r.Original)) > maxOriginal
			if (err != nil || again != r || r.To.Address.IsZero()) && !tooLong {
				t.Errorf("%q: %+v as %q read back as %+v, %v", args, r, full, again, err)
			}
		}
	})
}
