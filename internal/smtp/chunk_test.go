package smtp

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseChunk(t *testing.T) {
	for args, want := range map[string]Chunk{
		"0": {}, "86": {Size: 86}, "0 LAST": {Last: true}, "12  last": {Size: 12, Last: true},
		"00012": {Size: 12}, "99999999999999999999999": {Size: math.MaxInt64},
	} {
		if got, err := ParseChunk(args); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", args, got, err, want)
		}
	}
	for _, args := range []string{"", "LAST", "-1", "+1", "1x", "0x10", "1 2", "1 LASTING", "1 LAST 2", "1,5", "١"} {
		if got, err := ParseChunk(args); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %+v, %v", args, got, err)
		}
	}
}

// pieces cuts s at the given places, which wrap around.
func pieces(s string, at []byte) []string {
	var all []string
	for i := 0; s != ""; i++ {
		n := len(s)
		if len(at) > 0 {
			n = min(n, int(at[i%len(at)]))
		}
		all = append(all, s[:n])
		s = s[n:]
		if i > 1000 {
			return append(all, s)
		}
	}
	return append(all, "")
}

// byChunks reads content that comes as chunks, the last of which ends it.
func byChunks(all []string, rules ContentRules, r io.Reader, n int) (content string, c *ChunkReader, err error) {
	br := bufio.NewReaderSize(r, 16)
	i := 0
	begin := func() Chunk {
		chunk := Chunk{Size: int64(len(all[i])), Last: i == len(all)-1}
		i++
		return chunk
	}
	c = NewChunkReader(rules, func(Chunk) error {
		c.Begin(br, begin())
		return nil
	})
	c.Begin(br, begin())
	var out bytes.Buffer
	p := make([]byte, n)
	for err == nil {
		var m int
		m, err = c.Read(p)
		out.Write(p[:m])
	}
	return out.String(), c, err
}

func TestChunkReader(t *testing.T) {
	long := strings.Repeat("x", MaxTextLine)
	for _, tt := range []struct {
		name   string
		chunks []string
		rules  ContentRules
		want   string
		err    error
	}{
		{name: "nothing", chunks: []string{""}, want: ""},
		{name: "one chunk", chunks: []string{"a\r\nb\r\n"}, want: "a\r\nb\r\n"},
		{name: "dots are only dots", chunks: []string{".\r\n..\r\n.a\r\n"}, want: ".\r\n..\r\n.a\r\n"},
		{name: "a dot alone between chunks", chunks: []string{"a\r\n", ".\r\n", "b\r\n"}, want: "a\r\n.\r\nb\r\n"},
		{name: "an empty last one", chunks: []string{"a\r\n", ""}, want: "a\r\n"},
		{name: "empty ones between", chunks: []string{"", "a", "", "", "b\r\n", ""}, want: "ab\r\n"},
		{name: "CRLF cut", chunks: []string{"a\r", "\nb\r", "", "\n"}, want: "a\r\nb\r\n"},
		{name: "no end of line", chunks: []string{"a\r\nb"}, want: "a\r\nb\r\n"},
		{name: "lone LF is repaired", chunks: []string{"a\n", "\nb"}, want: "a\r\n\r\nb\r\n"},
		{name: "lone LF refused", chunks: []string{"a\r\nb\n"}, rules: ContentRules{CRLFOnly: true}, err: ErrLoneLF},
		{name: "lone LF first in its chunk", chunks: []string{"a", "\nb"}, rules: ContentRules{CRLFOnly: true}, err: ErrLoneLF},
		{name: "CRLF cut, strict", chunks: []string{"a\r", "\n"}, rules: ContentRules{CRLFOnly: true}, want: "a\r\n"},
		{name: "lone CR", chunks: []string{"a\rb"}, err: ErrLoneCR},
		{name: "lone CR at the end of a chunk", chunks: []string{"a\r", "b"}, err: ErrLoneCR},
		{name: "lone CR at the end of all", chunks: []string{"a\r"}, err: ErrLoneCR},
		{name: "lone CR before an empty last one", chunks: []string{"a\r", ""}, err: ErrLoneCR},
		{name: "two CR", chunks: []string{"a\r\r\n"}, err: ErrLoneCR},
		{name: "NUL", chunks: []string{"a\x00\r\n"}, err: ErrNUL},
		{name: "a line of the longest kind", chunks: []string{long, "\r\n"}, want: long + "\r\n"},
		{name: "a line too long", chunks: []string{long, "x\r\n"}, err: ErrLineTooLong},
		{name: "RFC 5321's line", chunks: []string{long[:998] + "\r\n"}, rules: ContentRules{Line: 998}, want: long[:998] + "\r\n"},
		{name: "longer than RFC 5321's", chunks: []string{long[:999] + "\r\n"}, rules: ContentRules{Line: 998}, err: ErrLineTooLong},
		{name: "as big as may be", chunks: []string{"123\r\n", "456\r\n"}, rules: ContentRules{Size: 10}, want: "123\r\n456\r\n"},
		{name: "too big together", chunks: []string{"123\r\n", "4567\r\n"}, rules: ContentRules{Size: 10}, err: ErrTooBig},
		{name: "too big by repair", chunks: []string{"1\n2\n3\n4\n"}, rules: ContentRules{Size: 10}, err: ErrTooBig},
		{name: "too big by its end", chunks: []string{"123456789"}, rules: ContentRules{Size: 10}, err: ErrTooBig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.rules.Size = cmp.Or(tt.rules.Size, 1<<20)
			all := strings.Join(tt.chunks, "")
			for _, n := range []int{1, 2, 3, 64 << 10} {
				if len(all) > 1000 && n < 1000 {
					continue
				}
				for name, r := range map[string]io.Reader{"whole": strings.NewReader(all), "byte": iotest.OneByteReader(strings.NewReader(all))} {
					got, c, err := byChunks(tt.chunks, tt.rules, r, n)
					switch whole := tt.err == nil; {
					case whole && (!errors.Is(err, io.EOF) || got != tt.want || !c.Ended() || c.Size() != int64(len(got))):
						t.Errorf("%s %d: %q, %v; want %q", name, n, got, err, tt.want)
					case !whole && (!errors.Is(err, tt.err) || !errors.Is(c.Fault(), tt.err) || c.Ended()):
						t.Errorf("%s %d: %v, fault %v; want %v", name, n, err, c.Fault(), tt.err)
					}
				}
			}
		})
	}
}

// go-smtp took a truncated "BDAT n LAST" for whole.
func TestChunkReaderTruncated(t *testing.T) {
	const whole = "Subject: x\r\n\r\nbody\r\n"
	for n := range len(whole) {
		_, c, err := byChunks([]string{whole}, ContentRules{Size: 1000}, strings.NewReader(whole[:n]), 100)
		if !errors.Is(err, io.ErrUnexpectedEOF) || c.Ended() || c.Fault() != nil {
			t.Errorf("%q: %v", whole[:n], err)
		}
		if err := c.Drain(1000); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: drain: %v", whole[:n], err)
		}
	}
}

// What is refused is read over to the end of its chunk, and no further.
func TestChunkReaderDrain(t *testing.T) {
	in := "a\x00b" + strings.Repeat("x", 100)
	br := bufio.NewReaderSize(strings.NewReader(in+"QUIT\r\n"), 16)
	c := NewChunkReader(ContentRules{Size: 1000}, nil)
	c.Begin(br, Chunk{Size: int64(len(in)), Last: true})
	if _, err := io.ReadAll(c); !errors.Is(err, ErrNUL) {
		t.Fatal(err)
	}
	if err := c.Drain(1000); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(br); string(rest) != "QUIT\r\n" {
		t.Errorf("rest %q", rest)
	}
	c = NewChunkReader(ContentRules{Size: 10}, nil)
	c.Begin(bufio.NewReader(endless{}), Chunk{Size: 2000})
	if err := c.Drain(1000); !errors.Is(err, ErrEndless) {
		t.Errorf("drain: %v", err)
	}
	// Sizes that would overflow are too big, not small.
	c = NewChunkReader(ContentRules{Size: 10}, nil)
	c.Begin(bufio.NewReader(endless{}), Chunk{Size: math.MaxInt64})
	c.Begin(bufio.NewReader(endless{}), Chunk{Size: math.MaxInt64})
	if !errors.Is(c.Fault(), ErrTooBig) {
		t.Errorf("fault %v", c.Fault())
	}
}

// However a message is cut into chunks, it is what one chunk makes of it; and
// that is what DataReader makes of the same text with its dots stuffed.
func FuzzChunkReader(f *testing.F) {
	for _, s := range []string{"a\r\nb\r\n", ".\r\n", "\n.\n", "a\rb", "a\r\n\r", "\x00", "no end"} {
		f.Add(s, []byte{1, 0, 3}, uint8(3), false)
		f.Add(s, []byte{2}, uint8(1), true)
	}
	f.Fuzz(func(t *testing.T, in string, cuts []byte, piece uint8, strict bool) {
		rules := ContentRules{Size: 1 << 16, CRLFOnly: strict}
		whole, one, err1 := byChunks([]string{in}, rules, strings.NewReader(in), 1000)
		cut, many, err2 := byChunks(pieces(in, cuts), rules, &chunks{[]byte(in), int(piece) + 1}, int(piece)+1)
		if (err1 == io.EOF) != (err2 == io.EOF) || err1 == io.EOF && (whole != cut || !one.Ended() || !many.Ended()) { //nolint:errorlint // never wrapped
			t.Fatalf("%q: %q, %v; cut: %q, %v", in, whole, err1, cut, err2)
		}
		if strings.ContainsAny(in, "\r\x00") || strict || len(in) > 1<<14 {
			return
		}
		wire, _ := dotted(in, 1000)
		got, _, err := readAll(bufio.NewReader(strings.NewReader(wire)), 1<<16, 1000)
		if err != nil || got != whole {
			t.Errorf("%q: DATA gives %q, %v; BDAT %q", in, got, err, whole)
		}
	})
}

func BenchmarkChunkReader(b *testing.B) {
	in := content(4000)
	src := bytes.NewReader(in)
	br := bufio.NewReaderSize(src, 16<<10)
	p := make([]byte, 32<<10)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(in)
		br.Reset(src)
		c := NewChunkReader(ContentRules{Size: 1 << 30}, nil)
		c.Begin(br, Chunk{Size: int64(len(in)), Last: true})
		for {
			if _, err := c.Read(p); err != nil {
				break
			}
		}
		if !c.Ended() {
			b.Fatal(c.Fault())
		}
	}
}
