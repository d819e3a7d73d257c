package smtp

import (
	"bufio"
	"bytes"
)

// DotWriter writes content after DATA: dots stuffed (RFC 5321 §4.5.2), CRLF
// only, and the end of data at Close. It allocates nothing.
type DotWriter struct {
	w     *bufio.Writer
	fresh bool // at the start of a line
	cr    bool // the last octet was a CR
}

// NewDotWriter returns a writer of one message's content.
func NewDotWriter(w *bufio.Writer) *DotWriter { return &DotWriter{w: w, fresh: true} }

// Write writes content; lines may be cut anywhere between two calls. A lone LF
// becomes CRLF; a lone CR may not be sent (RFC 5321 §2.3.8) and gives ErrLoneCR.
func (d *DotWriter) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := d.line(p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// line writes up to the end of a line.
func (d *DotWriter) line(p []byte) (int, error) {
	if d.fresh && p[0] == '.' {
		if err := d.w.WriteByte('.'); err != nil {
			return 0, err
		}
	}
	lf := bytes.IndexByte(p, '\n')
	text, end := p, lf >= 0
	if end {
		text = p[:lf]
	}
	if len(text) == 0 { // p begins with LF
		return 1, d.end()
	}
	if cr := bytes.IndexByte(text, '\r'); d.cr || cr >= 0 && cr < len(text)-1 {
		return 0, ErrLoneCR
	}
	n, err := d.w.Write(text)
	d.fresh, d.cr = false, text[len(text)-1] == '\r'
	if err != nil || !end {
		return n, err
	}
	return n + 1, d.end()
}

// end ends a line; the CR may be there already.
func (d *DotWriter) end() error {
	cr := d.cr
	d.fresh, d.cr = true, false
	if !cr {
		if err := d.w.WriteByte('\r'); err != nil {
			return err
		}
	}
	return d.w.WriteByte('\n')
}

// Close ends the last line, if it is open, and the data. It does not flush.
func (d *DotWriter) Close() error {
	if !d.fresh {
		if err := d.end(); err != nil {
			return err
		}
	}
	_, err := d.w.WriteString(endOfData)
	return err
}
