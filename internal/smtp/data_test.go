package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// reference is DataReader as one would write it on a blackboard: it looks at a
// whole stream, one octet at a time.
func reference(in string, limit int) (m seen) {
	var out strings.Builder
	fresh, line := true, 0
	for i := 0; i < len(in); {
		if fresh && strings.HasPrefix(in[i:], ".\r\n") {
			return seen{out.String(), in[i+3:], m.fault || out.Len() > limit, true}
		}
		if fresh && in[i] == '.' {
			i++
			fresh = false
			continue
		}
		fresh = false
		switch {
		case strings.HasPrefix(in[i:], "\r\n"):
			out.WriteString("\r\n")
			fresh, line = true, 0
			i += 2
			continue
		case in[i] == '\n':
			out.WriteString("\r\n")
			line = 0
			i++
			continue
		case in[i] == '\r', in[i] == 0:
			m.fault = true
		}
		line++
		m.fault = m.fault || line > MaxTextLine
		out.WriteByte(in[i])
		i++
	}
	return m
}

// seen is what a reader makes of a stream.
type seen struct {
	content, rest string
	fault, ended  bool
}

// readAll reads content by pieces of at most n octets, then drains.
func readAll(r *bufio.Reader, limit int64, n int) (content string, d *DataReader, err error) {
	d = NewDataReader(r, ContentRules{Size: limit})
	var out bytes.Buffer
	p := make([]byte, n)
	for {
		m, err := d.Read(p)
		out.Write(p[:m])
		if err != nil {
			break
		}
	}
	return out.String(), d, d.Drain(1 << 30)
}

func TestDataReader(t *testing.T) {
	long := strings.Repeat("x", MaxTextLine)
	for _, tt := range []struct {
		name, in, want, rest string
		fault                error
	}{
		{name: "empty", in: ".\r\n", want: ""},
		{name: "one line", in: "hello\r\n.\r\n", want: "hello\r\n"},
		{name: "what follows stays", in: "a\r\n.\r\nMAIL FROM:<>\r\n", want: "a\r\n", rest: "MAIL FROM:<>\r\n"},
		{name: "stuffed dot", in: "..\r\n..a\r\n.b\r\n.\r\n", want: ".\r\n.a\r\nb\r\n"},
		{name: "dot within a line", in: "a.\r\nb.c\r\n.\r\n", want: "a.\r\nb.c\r\n"},
		{name: "lone LF is repaired", in: "a\nb\n\nc\r\n.\r\n", want: "a\r\nb\r\n\r\nc\r\n"},
		{name: "line of the longest kind", in: long + "\r\n.\r\n", want: long + "\r\n"},
		{name: "line too long", in: long + "x\r\n.\r\nQUIT\r\n", rest: "QUIT\r\n", fault: ErrLineTooLong},
		{name: "NUL", in: "a\x00b\r\n.\r\nQUIT\r\n", rest: "QUIT\r\n", fault: ErrNUL},
		{name: "lone CR", in: "a\rb\r\n.\r\nQUIT\r\n", rest: "QUIT\r\n", fault: ErrLoneCR},

		// SMTP smuggling (SEC Consult, December 2023): each of these ends the
		// data for some server in the world. Only CRLF.CRLF does here.
		{name: `smuggling \n.\n`, in: "a\n.\nMAIL\r\n.\r\n", want: "a\r\n.\r\nMAIL\r\n"},
		{name: `smuggling \n.\r\n`, in: "a\n.\r\nMAIL\r\n.\r\n", want: "a\r\n.\r\nMAIL\r\n"},
		{name: `smuggling \r\n.\n`, in: "a\r\n.\nMAIL\r\n.\r\n", want: "a\r\n\r\nMAIL\r\n"},
		{name: `smuggling \r\n.\r`, in: "a\r\n.\rMAIL\r\n.\r\n", fault: ErrLoneCR},
		{name: `smuggling \r\n.\r\r\n`, in: "a\r\n.\r\r\nMAIL\r\n.\r\n", fault: ErrLoneCR},
		{name: `smuggling \r.\r`, in: "a\r.\rMAIL\r\n.\r\n", fault: ErrLoneCR},
		{name: `smuggling \r.\r\n`, in: "a\r.\r\nMAIL\r\n.\r\n", fault: ErrLoneCR},
		{name: `smuggling \r.\n`, in: "a\r.\nMAIL\r\n.\r\n", fault: ErrLoneCR},
		{name: `smuggling \r\r\n.\r\r\n`, in: "a\r\r\n.\r\r\nMAIL\r\n.\r\n", fault: ErrLoneCR},
		{name: `smuggling \n.\r`, in: "a\n.\rMAIL\r\n.\r\n", fault: ErrLoneCR},
		{name: `smuggling \r\n\x00.\r\n`, in: "a\r\n\x00.\r\nMAIL\r\n.\r\n", fault: ErrNUL},
		{name: `smuggling \r\n.\x00\r\n`, in: "a\r\n.\x00\r\nMAIL\r\n.\r\n", fault: ErrNUL},
		{name: `smuggling \n..\r\n`, in: "a\n..\r\n.\r\n", want: "a\r\n..\r\n"},
		{name: `first line .\n`, in: ".\nMAIL\r\n.\r\n", want: "\r\nMAIL\r\n"},
		{name: `first line \n.`, in: "\n.\r\nMAIL\r\n.\r\n", want: "\r\n.\r\nMAIL\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 4096, 128 << 10} {
				for name, r := range map[string]io.Reader{
					"whole":   strings.NewReader(tt.in),
					"byte":    iotest.OneByteReader(strings.NewReader(tt.in)),
					"halving": iotest.HalfReader(strings.NewReader(tt.in)),
				} {
					if len(tt.in) > 1000 && size < 4096 {
						continue // quadratic, and says nothing new
					}
					br := bufio.NewReaderSize(r, 16)
					got, d, err := readAll(br, 1<<20, size)
					if err != nil || !d.Ended() {
						t.Fatalf("%s %d: drain: %v", name, size, err)
					}
					if d.Fault() != tt.fault { //nolint:errorlint // Fault returns the sentinels themselves
						t.Errorf("%s %d: fault %v, want %v", name, size, d.Fault(), tt.fault)
					}
					if tt.fault == nil && got != tt.want {
						t.Errorf("%s %d: got %q, want %q", name, size, got, tt.want)
					}
					rest, _ := io.ReadAll(br)
					if string(rest) != tt.rest {
						t.Errorf("%s %d: rest %q, want %q", name, size, rest, tt.rest)
					}
				}
			}
		})
	}
}

// The rules an operator can choose.
func TestDataReaderStrict(t *testing.T) {
	for _, tt := range []struct {
		in    string
		rules ContentRules
		fault error
	}{
		{"a\r\nb\r\n.\r\n", ContentRules{CRLFOnly: true}, nil},
		{"a\nb\r\n.\r\n", ContentRules{CRLFOnly: true}, ErrLoneLF},
		{"\n.\r\n.\r\n", ContentRules{CRLFOnly: true}, ErrLoneLF},
		{"a\r\n.\n.\r\n\r\n.\r\n", ContentRules{CRLFOnly: true}, ErrLoneLF},
		{"a\n.\nMAIL\r\n.\r\n", ContentRules{CRLFOnly: true}, ErrLoneLF},
		{strings.Repeat("x", 998) + "\r\n.\r\n", ContentRules{Line: 998}, nil},
		{"." + strings.Repeat("x", 998) + "\r\n.\r\n", ContentRules{Line: 998}, nil}, // the stuffed dot does not count
		{strings.Repeat("x", 999) + "\r\n.\r\n", ContentRules{Line: 998}, ErrLineTooLong},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(tt.in + "QUIT"), "byte": iotest.OneByteReader(strings.NewReader(tt.in + "QUIT"))} {
			br := bufio.NewReaderSize(r, 16)
			tt.rules.Size = 1 << 20
			d := NewDataReader(br, tt.rules)
			_, err := io.ReadAll(d)
			if !errors.Is(err, tt.fault) || !errors.Is(d.Fault(), tt.fault) {
				t.Errorf("%s %.20q: %v, fault %v; want %v", name, tt.in, err, d.Fault(), tt.fault)
			}
			if err := d.Drain(1 << 20); err != nil {
				t.Errorf("%s %.20q: drain: %v", name, tt.in, err)
			}
			if rest, _ := io.ReadAll(br); !strings.HasSuffix(string(rest), "QUIT") || tt.fault == nil && string(rest) != "QUIT" {
				t.Errorf("%s %.20q: rest %q", name, tt.in, rest)
			}
		}
	}
}

func TestDataReaderSize(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int64
		fault error
	}{
		{"12345\r\n.\r\n", 7, nil},
		{"12345\r\n.\r\n", 6, ErrTooBig},
		{"..345\r\n.\r\n", 6, nil},          // the stuffed dot does not count
		{"12345\n.\r\n.\r\n", 9, ErrTooBig}, // the size counts after repair
		{"12345\n.\r\n.\r\n", 10, nil},
		{strings.Repeat("x\r\n", 1000) + ".\r\n", 100, ErrTooBig},
		{".\r\n", 0, nil},
	} {
		br := bufio.NewReader(strings.NewReader(tt.in + "QUIT"))
		got, d, err := readAll(br, tt.limit, 5)
		if err != nil || d.Fault() != tt.fault { //nolint:errorlint // Fault returns the sentinels themselves
			t.Errorf("%q: fault %v, drain %v; want %v", tt.in, d.Fault(), err, tt.fault)
		}
		if int64(len(got)) > tt.limit || int64(len(got)) != d.Size() {
			t.Errorf("%q: gave %d octets, says %d, limit %d", tt.in, len(got), d.Size(), tt.limit)
		}
		if rest, _ := io.ReadAll(br); string(rest) != "QUIT" {
			t.Errorf("%q: rest %q", tt.in, rest)
		}
	}
}

// A truncated stream is never a message: go-smtp took a truncated BDAT for whole.
func TestDataReaderTruncated(t *testing.T) {
	const whole = "Subject: x\r\n\r\nbody\r\n..dot\r\n.\r\n"
	for n := range len(whole) {
		_, d, err := readAll(bufio.NewReaderSize(strings.NewReader(whole[:n]), 16), 1000, 100)
		if !errors.Is(err, io.ErrUnexpectedEOF) || d.Ended() {
			t.Errorf("%q: %v", whole[:n], err)
		}
	}
}

// go-smtp issue 196: after a read error in DATA the rest of the body was executed as commands.
func TestDataReaderKeepsError(t *testing.T) {
	broken := errors.New("i/o timeout")
	r := bufio.NewReader(io.MultiReader(strings.NewReader("a\r\nb"), iotest.ErrReader(broken), strings.NewReader("\r\n.\r\n")))
	_, d, err := readAll(r, 1000, 100)
	if !errors.Is(err, broken) || d.Fault() != nil {
		t.Fatalf("drain %v, fault %v", err, d.Fault())
	}
	if _, err := d.Read(make([]byte, 10)); !errors.Is(err, broken) {
		t.Errorf("second read: %v", err)
	}
	if err := d.Drain(1000); !errors.Is(err, broken) || d.Ended() {
		t.Errorf("second drain: %v", err)
	}
}

func TestDataReaderDrainIsBounded(t *testing.T) {
	d := NewDataReader(bufio.NewReader(iotest.OneByteReader(endless{})), ContentRules{Size: 10})
	_, _ = io.Copy(io.Discard, d)
	if err := d.Drain(100_000); !errors.Is(err, ErrEndless) {
		t.Errorf("drain: %v", err)
	}
	if err := d.Drain(100_000); !errors.Is(err, ErrEndless) {
		t.Errorf("second drain: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func FuzzDataReader(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\n", "..\r\n.\r\nx", "\n.\n.\r\n", "a\rb\r\n.\r\n", "\x00\r\n.\r\n", ".\r", "\r\n.\r\r\n.\r\n"} {
		f.Add([]byte(s), uint8(3), uint8(4), uint16(50))
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk, piece uint8, limit uint16) {
		want := reference(string(in), int(limit))
		br := bufio.NewReaderSize(&chunks{in, int(chunk) + 1}, 16)
		got, d, err := readAll(br, int64(limit), int(piece)+1)
		if d.Ended() != want.ended || (err == nil) != want.ended {
			t.Fatalf("ended %v (%v), want %v", d.Ended(), err, want.ended)
		}
		if !want.ended {
			return
		}
		left, _ := io.ReadAll(br)
		if string(left) != want.rest {
			t.Errorf("rest %q, want %q", left, want.rest)
		}
		if (d.Fault() != nil) != want.fault {
			t.Fatalf("fault %v, want %v", d.Fault(), want.fault)
		}
		if !want.fault && got != want.content {
			t.Errorf("got %q, want %q", got, want.content)
		}
	})
}

// chunks gives at most n octets at once.
type chunks struct {
	in []byte
	n  int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in[:min(c.n, len(c.in))])
	c.in = c.in[n:]
	return n, nil
}

func TestDataReaderAllocatesNothing(t *testing.T) {
	in := content(2000)
	src := bytes.NewReader(in)
	br := bufio.NewReaderSize(src, 16<<10)
	p := make([]byte, 32<<10)
	allocs := testing.AllocsPerRun(20, func() {
		src.Reset(in)
		br.Reset(src)
		d := NewDataReader(br, ContentRules{Size: 1 << 30})
		for {
			if _, err := d.Read(p); err != nil {
				break
			}
		}
	})
	if allocs > 1 { // the reader itself
		t.Errorf("%v allocations for 2,000 lines", allocs)
	}
}

// content returns n lines as they go over the wire, some with a stuffed dot.
func content(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		if i%50 == 0 {
			b.WriteString("..")
		}
		b.WriteString(strings.Repeat("abcdefghij ", 7) + "\r\n")
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}

func BenchmarkDataReader(b *testing.B) {
	in := content(4000)
	src := bytes.NewReader(in)
	br := bufio.NewReaderSize(src, 16<<10)
	p := make([]byte, 32<<10)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(in)
		br.Reset(src)
		d := NewDataReader(br, ContentRules{Size: 1 << 30})
		for {
			if _, err := d.Read(p); err != nil {
				break
			}
		}
		if !d.Ended() {
			b.Fatal(d.Fault())
		}
	}
}
