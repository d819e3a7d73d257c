package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"mittente/internal/mail"
)

func TestReplyAppend(t *testing.T) {
	ok := mail.Status{Class: 2}
	for _, tt := range []struct {
		reply      Reply
		wire, text string
	}{
		{Reply{Code: 250, Status: ok, Lines: []string{"Ok"}}, "250 2.0.0 Ok\r\n", "250 2.0.0 Ok"},
		{Reply{Code: 354, Lines: []string{"Go on"}}, "354 Go on\r\n", "354 Go on"},
		{Reply{Code: 250, Lines: []string{"mx.example.org", "SIZE 10", "AUTH PLAIN"}}, "250-mx.example.org\r\n250-SIZE 10\r\n250 AUTH PLAIN\r\n", "250 mx.example.org SIZE 10 AUTH PLAIN"},
		{Reply{Code: 550, Status: mail.Status{Class: 5, Subject: 7, Detail: 1}, Lines: []string{"a", "b"}}, "550-5.7.1 a\r\n550 5.7.1 b\r\n", "550 5.7.1 a b"},
		{Reply{Code: 250}, "250 \r\n", "250"},
		{Reply{Code: 550, Lines: []string{"x\r\n250 forged\x00\x7f"}}, "550 x??250 forged??\r\n", "550 x\r\n250 forged\x00\x7f"},
	} {
		var out bytes.Buffer
		n, err := tt.reply.WriteTo(&out)
		if out.String() != tt.wire || int(n) != len(tt.wire) || err != nil {
			t.Errorf("wrote %q, want %q", out.String(), tt.wire)
		}
		if got := tt.reply.String(); got != tt.text {
			t.Errorf("String %q, want %q", got, tt.text)
		}
	}
}

func TestReadReply(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Reply
	}{
		{"250 ok\r\n", Reply{Code: 250, Lines: []string{"ok"}}},
		{"250\r\n", Reply{Code: 250, Lines: []string{""}}},
		{"250 \n", Reply{Code: 250, Lines: []string{""}}},
		{"250 2.1.5 ok\r\n", Reply{Code: 250, Status: mail.Status{Class: 2, Subject: 1, Detail: 5}, Lines: []string{"ok"}}},
		{"250 5.1.5 odd\r\n", Reply{Code: 250, Lines: []string{"5.1.5 odd"}}},
		{"250 2.0 ok\r\n", Reply{Code: 250, Lines: []string{"2.0 ok"}}},
		{"550-5.7.1 a\r\n550-5.7.1 b\r\n550 c\r\n", Reply{Code: 550, Status: mail.Status{Class: 5, Subject: 7, Detail: 1}, Lines: []string{"a", "b", "c"}}},
		{"250-mx\r\n250-SIZE 1\r\n250 HELP\r\n", Reply{Code: 250, Lines: []string{"mx", "SIZE 1", "HELP"}}},
		{"421 a\x00b\xffc\x1bd\r\n", Reply{Code: 421, Lines: []string{"a?b?c?d"}}},
		{"250 gr\u00fc\u00df\r\n", Reply{Code: 250, Lines: []string{"gr\u00fc\u00df"}}},
	} {
		got, err := ReadReply(bufio.NewReaderSize(strings.NewReader(tt.in), 16), MaxReply)
		if err != nil || got.Code != tt.want.Code || got.Status != tt.want.Status || !slices.Equal(got.Lines, tt.want.Lines) {
			t.Errorf("%q: %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
	}
}

func TestReadReplyErrors(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want error
	}{
		{"", io.EOF},
		{"25", io.ErrUnexpectedEOF},
		{"250-a\r\n", io.ErrUnexpectedEOF},
		{"\r\n", ErrReply},
		{"25 x\r\n", ErrReply},
		{"2500 x\r\n", ErrReply},
		{"199 x\r\n", ErrReply},
		{"650 x\r\n", ErrReply},
		{"250-a\r\n251 b\r\n", ErrReply},
		{"HTTP/1.1 400 Bad Request\r\n", ErrReply},
		{"250 " + strings.Repeat("x", 2000) + "\r\n", ErrLineTooLong},
		{strings.Repeat("250-x\r\n", 5000), ErrLineTooLong},
		{strings.Repeat("250-\r\n", 5000), ErrLineTooLong},
		{strings.Repeat("250-x\r\n", 1000) + "251 y\r\n", ErrReply},
		{"250 " + strings.Repeat("x", 1<<20), ErrEndless},
	} {
		got, err := ReadReply(bufio.NewReaderSize(strings.NewReader(tt.in), 64), 1000)
		if !errors.Is(err, tt.want) || got.Code != 0 && !errors.Is(err, ErrReply) {
			t.Errorf("%.40q: %+v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

// TestReadReply_OfManyLines: it is understood, though not all of it is kept.
func TestReadReply_OfManyLines(t *testing.T) {
	text := strings.Repeat("550-5.1.1 "+strings.Repeat("x", 490)+"\r\n", 499) + "550 5.1.1 end\r\n"
	r := bufio.NewReader(strings.NewReader(text + "250 next\r\n"))
	got, err := ReadReply(r, MaxReply)
	if err != nil || got.Code != 550 || got.Status.String() != "5.1.1" || len(got.Lines) != 32 || len(got.Text()) > MaxReply {
		t.Errorf("%d, %d lines, %v", got.Code, len(got.Lines), err)
	}
	if got, err = ReadReply(r, MaxReply); err != nil || got.Code != 250 {
		t.Error(got, err)
	}
}

func FuzzReadReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "550 5.7.1 no\n", "250\r\n", "250-2.0.0 a\r\n250 2.0.0 b\r\n", "\xff\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		reply, err := ReadReply(bufio.NewReaderSize(bytes.NewReader(in), 32), 500)
		if err != nil {
			return
		}
		if reply.Code < 200 || reply.Code > 599 || len(reply.Lines) == 0 {
			t.Fatalf("%+v", reply)
		}
		// What was read is written and read back the same, unless a text
		// begins with what looks like a status.
		wire := reply.Append(nil)
		again, err := ReadReply(bufio.NewReader(bytes.NewReader(wire)), MaxReply)
		if err != nil || again.Code != reply.Code || len(again.Lines) != len(reply.Lines) {
			t.Errorf("%q: %+v, %v; want %+v", wire, again, err, reply)
		}
	})
}
