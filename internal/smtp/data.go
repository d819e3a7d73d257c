package smtp

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
)

// MaxTextLine is the longest line of content that is taken in, in octets, its
// end and a stuffed dot not counted. RFC 5321 §4.5.3.1.6 has 998, but programs
// write longer ones, and folding them would break signatures.
const MaxTextLine = 64 << 10

// ContentRules are what content may be. Zero values mean the defaults named here.
type ContentRules struct {
	Size     int64 // octets at most, counted after repair and without stuffed dots (RFC 1870 §5)
	Line     int   // octets of a line at most, without its end; default MaxTextLine
	CRLFOnly bool  // a lone LF is refused (ErrLoneLF); else it becomes CRLF
}

func (c ContentRules) withDefaults() ContentRules {
	c.Line = cmp.Or(c.Line, MaxTextLine)
	return c
}

// check refuses text of a line, without its end, for what it holds; before is
// how long the line was already.
func (c ContentRules) check(before int, text []byte) error {
	switch {
	case before+len(text) > c.Line:
		return ErrLineTooLong
	case bytes.IndexByte(text, 0) >= 0:
		return ErrNUL
	case bytes.IndexByte(text, '\r') >= 0:
		return ErrLoneCR
	}
	return nil
}

// checkEnd refuses the end of a line that is LF only, where the rules say so.
func (c ContentRules) checkEnd(end []byte) error {
	if c.CRLFOnly && string(end) == "\n" {
		return ErrLoneLF
	}
	return nil
}

// faultOf returns which rule err says was broken, or nil.
func faultOf(err error) error {
	for _, fault := range [...]error{ErrTooBig, ErrLineTooLong, ErrNUL, ErrLoneCR, ErrLoneLF} {
		if errors.Is(err, fault) {
			return fault
		}
	}
	return nil
}

// endOfData is the line that ends DATA, after the CRLF of the line before it
// (RFC 5321 §4.1.1.4). Nothing else does.
const endOfData = ".\r\n"

// DataReader reads the content that follows DATA, up to its end.
//
// What it gives has CRLF only: a lone LF is made CRLF here, before anything is
// parsed or hashed. It never ends the data, and a dot after it means nothing: a
// dot is unstuffed only after a real CRLF (RFC 5321 §4.5.2), so that no two
// readers of the same bytes can see different messages in them.
//
// It allocates nothing. Read gives io.EOF at the end of data; ErrTooBig,
// ErrLineTooLong, ErrNUL, ErrLoneCR or ErrLoneLF when the content is refused,
// after which Drain finds the end of data; any other error is that of the connection, which
// can't be used any more.
type DataReader struct {
	r     *bufio.Reader
	rules ContentRules
	size  int64 // octets given so far
	line  int   // octets of the line so far
	fresh bool  // at the start of a line, after a real CRLF or at the start of data
	owed  bool  // the LF of a CRLF did not fit
	ended bool
	err   error // what every further Read returns
}

// NewDataReader returns a reader of content. r needs a buffer of at least 16
// octets, and holds what the client sent after the end of data.
func NewDataReader(r *bufio.Reader, rules ContentRules) *DataReader {
	return &DataReader{r: r, rules: rules.withDefaults(), fresh: true}
}

// Size returns how many octets of content were given so far.
func (d *DataReader) Size() int64 { return d.size }

// Ended reports whether the end of data has been read.
func (d *DataReader) Ended() bool { return d.ended }

// Fault returns which of the ContentRules refuses the content: ErrTooBig,
// ErrLineTooLong, ErrNUL, ErrLoneCR, ErrLoneLF, or nil.
func (d *DataReader) Fault() error { return faultOf(d.err) }

// Read gives content that has come already, without waiting for more once it
// has some.
func (d *DataReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && d.err == nil && (n == 0 || d.r.Buffered() > 0) {
		m := d.step(p[n:])
		d.size += int64(m)
		if d.size > d.rules.Size {
			d.size -= int64(m)
			d.err = ErrTooBig
			break
		}
		n += m
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, d.err
}

// step gives at most one line, or sets d.err. It may give nothing.
func (d *DataReader) step(p []byte) int {
	if d.owed {
		d.owed = false
		p[0] = '\n'
		return 1
	}
	if d.fresh && d.dot() {
		return 0
	}
	if _, err := d.r.Peek(1); err != nil {
		d.fail(err)
		return 0
	}
	buf, _ := d.r.Peek(d.r.Buffered())
	lf := bytes.IndexByte(buf, '\n')
	if lf < 0 {
		return d.part(p, buf)
	}
	text := buf[:lf]
	crlf := lf > 0 && buf[lf-1] == '\r'
	if crlf {
		text = buf[:lf-1]
	}
	if d.err = cmp.Or(d.rules.check(d.line, text), d.rules.checkEnd(buf[len(text):lf+1])); d.err != nil {
		return 0
	}
	if crlf && lf < len(p) { // the usual case: the line fits, one copy
		d.end(lf+1, crlf)
		return copy(p, buf[:lf+1])
	}
	n := copy(p, text)
	if n < len(text) || n == len(p) {
		d.take(n)
		return n
	}
	p[n] = '\r'
	d.owed = n+1 == len(p)
	if !d.owed {
		p[n+1] = '\n'
		n++
	}
	d.end(lf+1, crlf)
	return n + 1
}

// dot reads a dot at the start of a line: the end of data, or one that was
// stuffed (RFC 5321 §4.5.2). It reports whether there is nothing more to read.
func (d *DataReader) dot() bool {
	head, err := d.r.Peek(1)
	if err == nil && head[0] == '.' {
		head, err = d.r.Peek(len(endOfData))
	}
	if err != nil {
		d.fail(err)
		return true
	}
	if string(head) == endOfData {
		d.finish()
		return true
	}
	if head[0] == '.' {
		d.discard(1)
	}
	d.fresh = false
	return false
}

// part gives a piece of a line whose end has not come yet.
func (d *DataReader) part(p, buf []byte) int {
	if len(buf) == 1 && buf[0] == '\r' {
		two, err := d.r.Peek(2)
		switch {
		case err != nil:
			d.fail(err)
		case two[1] != '\n':
			d.err = ErrLoneCR
		}
		return 0 // the LF has come: the next step sees a whole line
	}
	if buf[len(buf)-1] == '\r' {
		buf = buf[:len(buf)-1]
	}
	if d.err = d.rules.check(d.line, buf); d.err != nil {
		return 0
	}
	n := copy(p, buf)
	d.take(n)
	return n
}

// take goes on by n octets of text.
func (d *DataReader) take(n int) {
	d.discard(n)
	d.line += n
	d.fresh = d.fresh && n == 0
}

// end goes over the end of a line.
func (d *DataReader) end(n int, crlf bool) {
	d.discard(n)
	d.line = 0
	d.fresh = crlf
}

// discard drops n octets that are in the buffer, so it can't fail.
func (d *DataReader) discard(n int) { _, _ = d.r.Discard(n) }

func (d *DataReader) finish() {
	d.discard(len(endOfData))
	d.ended = true
	if d.err == nil {
		d.err = io.EOF
	}
}

// fail keeps an error of the connection.
func (d *DataReader) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	d.err = err
}

// Drain reads over what is left up to the end of data, at most limit octets of
// it. It returns nil when the end was found, ErrEndless when it is further
// away, or the error of the connection: after either the connection can't be
// used any more, because what follows is content and no commands.
func (d *DataReader) Drain(limit int64) error {
	if !d.ended && d.err != nil && d.Fault() == nil {
		return d.err
	}
	cr := false // the last octet read over was a CR
	for !d.ended {
		if d.fresh {
			head, err := d.r.Peek(len(endOfData))
			if err != nil {
				return d.broken(err)
			}
			if string(head) == endOfData {
				d.finish()
				continue
			}
		}
		text, err := d.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return d.broken(err)
		}
		if limit -= int64(len(text)); limit < 0 {
			return d.broken(ErrEndless)
		}
		d.fresh = err == nil && (cr && len(text) == 1 || bytes.HasSuffix(text, []byte("\r\n")))
		cr = text[len(text)-1] == '\r'
	}
	return nil
}

// broken keeps an error of the connection that comes after a fault.
func (d *DataReader) broken(err error) error {
	d.fail(err)
	return d.err
}
