package smtp

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Chunk is what BDAT announces (RFC 3030 §2).
type Chunk struct {
	Size int64 // octets that follow
	Last bool  // of the message
}

// ParseChunk reads the arguments of BDAT: a size, and perhaps LAST. It returns
// ErrSyntax, wrapped; then nobody knows how many octets follow, and the
// connection can't be used any more.
func ParseChunk(args string) (Chunk, error) {
	words := strings.Fields(args)
	if len(words) == 0 || len(words) > 2 || len(words) == 2 && !strings.EqualFold(words[1], "LAST") {
		return Chunk{}, fmt.Errorf("%w: chunk size", ErrSyntax)
	}
	for i := range len(words[0]) {
		if !isDigit(words[0][i]) {
			return Chunk{}, fmt.Errorf("%w: chunk size", ErrSyntax)
		}
	}
	n, err := strconv.ParseInt(words[0], 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		n, err = math.MaxInt64, nil
	}
	if err != nil {
		return Chunk{}, fmt.Errorf("%w: chunk size", ErrSyntax)
	}
	return Chunk{Size: n, Last: len(words) == 2}, nil
}

// ChunkReader reads the content that comes by BDAT. What it gives has CRLF
// only, as with DataReader: the chunks are lines of text (BINARYMIME is not
// offered), cut anywhere. A last line without end gets one.
//
// Read gives io.EOF after the last chunk; an error of the ContentRules when the
// content is refused, after which Drain reads over the rest of the chunk; any
// other error is that of the connection, which can't be used any more, or of next.
type ChunkReader struct {
	rules ContentRules
	next  func(before Chunk) error
	r     *bufio.Reader
	chunk Chunk // the one that is being read
	left  int64 // octets of it
	raw   int64 // octets of all chunks so far
	size  int64 // octets given so far
	line  int   // octets of the line so far
	cr    bool  // the last octet was a CR
	owed  int   // octets of "\r\n" that did not fit
	ended bool
	err   error // what every further Read returns
}

// NewChunkReader returns a reader that calls next when a chunk has been read
// that was not the last. It is to call Begin with the next one, or to return an
// error, which Read then gives.
func NewChunkReader(rules ContentRules, next func(before Chunk) error) *ChunkReader {
	return &ChunkReader{rules: rules.withDefaults(), next: next}
}

// Begin tells that a chunk follows in r.
func (c *ChunkReader) Begin(r *bufio.Reader, chunk Chunk) {
	c.r, c.chunk, c.left = r, chunk, chunk.Size
	if c.raw += min(chunk.Size, math.MaxInt64-c.raw); c.raw > c.rules.Size && c.err == nil {
		c.err = ErrTooBig // repair makes it no smaller
	}
}

// Size returns how many octets of content were given so far.
func (c *ChunkReader) Size() int64 { return c.size }

// Chunk returns the chunk that was begun last.
func (c *ChunkReader) Chunk() Chunk { return c.chunk }

// Ended reports whether all of the last chunk has been read.
func (c *ChunkReader) Ended() bool { return c.ended }

// Fault returns which of the ContentRules refuses the content, or nil.
func (c *ChunkReader) Fault() error { return faultOf(c.err) }

// Read gives content that has come already, without waiting for more once it
// has some.
func (c *ChunkReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && c.err == nil && (n == 0 || c.owed > 0 || c.left > 0 && c.r.Buffered() > 0) {
		m := c.step(p[n:])
		if c.size += int64(m); c.size > c.rules.Size {
			c.size -= int64(m)
			c.err = ErrTooBig
			break
		}
		n += m
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, c.err
}

// step gives at most one line, or sets c.err. It may give nothing.
func (c *ChunkReader) step(p []byte) int {
	switch {
	case c.owed > 0:
		n := copy(p, "\r\n"[2-c.owed:])
		c.owed -= n
		return n
	case c.left > 0:
		return c.text(p)
	case !c.chunk.Last:
		if err := c.next(c.chunk); err != nil {
			c.err = err
		}
	case c.cr:
		c.err = ErrLoneCR
	case c.line > 0:
		c.endLine()
	default:
		c.ended = true
		c.err = io.EOF
	}
	return 0
}

// text gives a piece of the chunk, up to the end of a line.
func (c *ChunkReader) text(p []byte) int {
	if _, err := c.r.Peek(1); err != nil {
		c.fail(err)
		return 0
	}
	buf, _ := c.r.Peek(int(min(int64(c.r.Buffered()), c.left)))
	if c.cr {
		if c.err = ErrLoneCR; buf[0] == '\n' {
			c.err = nil
			c.after(buf[:1])
		}
		return 0
	}
	end := len(buf)
	if lf := bytes.IndexByte(buf, '\n'); lf >= 0 {
		end = lf + 1
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(buf[:end], []byte{'\n'}), []byte{'\r'})
	after := buf[len(line):end]
	if c.err = cmp.Or(c.rules.check(c.line, line), c.rules.checkEnd(after)); c.err != nil {
		return 0
	}
	if string(after) == "\r\n" && end <= len(p) { // the usual case: the line fits, one copy
		c.discard(end)
		c.line = 0
		return copy(p, buf[:end])
	}
	n := copy(p, line)
	c.discard(n)
	c.line += n
	if n == len(line) {
		c.after(after)
	}
	return n
}

// after goes over what comes after the text of a line: CR, LF, both or nothing.
func (c *ChunkReader) after(end []byte) {
	c.discard(len(end))
	switch string(end) {
	case "":
	case "\r":
		c.cr = true // its LF may be in the next chunk
	default:
		c.endLine()
	}
}

// endLine has the end of the line given.
func (c *ChunkReader) endLine() { c.line, c.cr, c.owed = 0, false, len("\r\n") }

// discard drops n octets that are in the buffer, so it can't fail.
func (c *ChunkReader) discard(n int) {
	_, _ = c.r.Discard(n)
	c.left -= int64(n)
}

// fail keeps an error of the connection.
func (c *ChunkReader) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	c.err = err
}

// Drain reads over what is left of the chunk, at most limit octets of it. It
// returns ErrEndless when there is more, or the error of the connection: after
// either the connection can't be used any more.
func (c *ChunkReader) Drain(limit int64) error {
	switch {
	case c.err != nil && !errors.Is(c.err, io.EOF) && c.Fault() == nil:
		return c.err
	case c.left > limit:
		c.err = ErrEndless
		return c.err
	}
	for c.left > 0 {
		if _, err := c.r.Peek(1); err != nil {
			c.fail(err)
			return c.err
		}
		c.discard(int(min(int64(c.r.Buffered()), c.left)))
	}
	return nil
}
