package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// dotted writes content by pieces of n octets.
func dotted(in string, n int) (string, error) {
	var out bytes.Buffer
	bw := bufio.NewWriterSize(&out, 64)
	d := NewDotWriter(bw)
	for i := 0; i < len(in); i += n {
		piece := []byte(in[i:min(i+n, len(in))])
		if m, err := d.Write(piece); err != nil || m != len(piece) {
			return "", err
		}
	}
	if err := d.Close(); err != nil {
		return "", err
	}
	err := bw.Flush()
	return out.String(), err
}

func TestDotWriter(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ".\r\n"},
		{"a\r\n", "a\r\n.\r\n"},
		{"a", "a\r\n.\r\n"},
		{".\r\n", "..\r\n.\r\n"},
		{"..a\r\n.b\r\nc.\r\n", "...a\r\n..b\r\nc.\r\n.\r\n"},
		{"a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"},
		{"\r\n.\r\n", "\r\n..\r\n.\r\n"},
		{"a\r", "a\r\n.\r\n"},
		{"\n\n", "\r\n\r\n.\r\n"},
	} {
		for _, n := range []int{1, 2, 3, 100} {
			if got, err := dotted(tt.in, n); got != tt.want || err != nil {
				t.Errorf("%q by %d: %q, %v; want %q", tt.in, n, got, err, tt.want)
			}
		}
	}
}

func TestDotWriterRefusesLoneCR(t *testing.T) {
	for _, in := range []string{"a\rb\r\n", "\r\r\n", "\r.\r\n", "a\r\rb"} {
		for _, n := range []int{1, 2, 100} {
			if got, err := dotted(in, n); !errors.Is(err, ErrLoneCR) {
				t.Errorf("%q by %d: %q, %v", in, n, got, err)
			}
		}
	}
}

// Whatever DotWriter writes, DataReader reads back.
func FuzzDotWriter(f *testing.F) {
	for _, s := range []string{"", ".", "a\r\n.\r\nb", "\n.\n", "a\rb"} {
		f.Add(s, uint8(1))
	}
	f.Fuzz(func(t *testing.T, in string, n uint8) {
		wire, err := dotted(in, int(n)+1)
		if err != nil {
			if !errors.Is(err, ErrLoneCR) || !strings.Contains(in, "\r") {
				t.Errorf("%q: %v", in, err)
			}
			return
		}
		br := bufio.NewReader(strings.NewReader(wire))
		got, d, err := readAll(br, 1<<30, 1000)
		rest, _ := io.ReadAll(br)
		if err != nil || len(rest) > 0 || d.Fault() != nil && !strings.Contains(in, "\x00") && len(in) < MaxTextLine {
			t.Fatalf("%q: %v, fault %v, rest %q", wire, err, d.Fault(), rest)
		}
		want := strings.ReplaceAll(strings.ReplaceAll(in, "\r\n", "\n"), "\n", "\r\n")
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want = strings.TrimSuffix(want, "\r") + "\r\n"
		}
		if d.Fault() == nil && got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func BenchmarkDotWriter(b *testing.B) {
	in := content(4000)
	in = in[:len(in)-3]
	bw := bufio.NewWriterSize(io.Discard, 16<<10)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		d := NewDotWriter(bw)
		if _, err := d.Write(in); err != nil {
			b.Fatal(err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
