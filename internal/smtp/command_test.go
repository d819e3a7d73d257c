package smtp

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestParseCommand(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Command
		ok   bool
	}{
		{"NOOP", Command{"NOOP", ""}, true},
		{"noop  ", Command{"NOOP", ""}, true},
		{"mail FROM:<a@b.example> SIZE=1 ", Command{"MAIL", "FROM:<a@b.example> SIZE=1"}, true},
		{"EHLO\tclient", Command{"EHLO", "client"}, true},
		{"STARTTLS", Command{"STARTTLS", ""}, true},
		{"XYZZY plugh", Command{"XYZZY", "plugh"}, true},
		{"EHLO gr\u00fc\u00df", Command{"EHLO", "gr\u00fc\u00df"}, true},
		{"", Command{}, false},
		{" NOOP", Command{}, false},
		{"MAIL\rFROM", Command{}, false},
		{"NOOP \r", Command{}, false},
		{"NOOP \x00", Command{}, false},
		{"\x16\x03\x01\x02", Command{}, false}, // a TLS client on a plain port
		{"GET/ HTTP/1.1", Command{}, false},
		{"AVERYVERYLONGWORDINDEED", Command{}, false},
	} {
		got, err := ParseCommand([]byte(tt.in))
		if got != tt.want || (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"MAIL FROM:<a@b.example>", "ehlo x", "", "\x00", "AUTH PLAIN =", "rcpt to:<\"a b\"@c.example>  "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := ParseCommand(in)
		if err != nil {
			return
		}
		if c.Verb == "" || strings.ToUpper(c.Verb) != c.Verb || strings.ContainsAny(c.Args, "\x00\r\n\x7f") {
			t.Fatalf("%q: %+v", in, c)
		}
		line := strings.TrimRight(c.Verb+" "+c.Args, " ")
		if again, err := ParseCommand([]byte(line)); err != nil || again != c {
			t.Errorf("%q: %+v, %v; want %+v", line, again, err, c)
		}
	})
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, tt := range []struct {
		in, want, rest string
		err            error
	}{
		{in: "NOOP\r\nQUIT\r\n", want: "NOOP", rest: "QUIT\r\n"},
		{in: "NOOP\nQUIT\n", want: "NOOP", rest: "QUIT\n"}, // a lone LF ends a command
		{in: "\r\n", want: ""},
		{in: "NO\rOP\r\n", want: "NO\rOP"},
		{in: "NOOP\r\r\n", want: "NOOP\r"},
		{in: long + "\r\nQUIT", want: long, rest: "QUIT"},
		{in: long + "\nQUIT", want: long, rest: "QUIT"},
		{in: long + "x\r\nQUIT", err: ErrLineTooLong, rest: "QUIT"},
		{in: long + "xx\nQUIT", err: ErrLineTooLong, rest: "QUIT"},
		{in: strings.Repeat(long, 50) + "\r\nQUIT", err: ErrLineTooLong, rest: "QUIT"},
		{in: "", err: io.EOF},
		{in: "NOOP", err: io.ErrUnexpectedEOF},
	} {
		for _, size := range []int{16, 4096} {
			r := bufio.NewReaderSize(strings.NewReader(tt.in), size)
			got, err := ReadLine(r, 100)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%.20q, buffer %d: %q, %v; want %q, %v", tt.in, size, got, err, tt.want, tt.err)
			}
			if rest, _ := io.ReadAll(r); string(rest) != tt.rest {
				t.Errorf("%.20q, buffer %d: rest %q, want %q", tt.in, size, rest, tt.rest)
			}
		}
	}
	if _, err := ReadLine(bufio.NewReader(endless{}), 100); !errors.Is(err, ErrEndless) {
		t.Errorf("endless line: %v", err)
	}
}
