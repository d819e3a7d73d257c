// Package smtp is the grammar that both ends of an SMTP connection share (RFC 5321).
package smtp

import (
	"bufio"
	"errors"
	"io"
)

// Errors of reading lines and data. Those of DataReader say why content is
// refused; the rest of the data can still be drained.
var (
	ErrLineTooLong = errors.New("line too long")
	ErrTooBig      = errors.New("message too big")
	ErrNUL         = errors.New("content holds a NUL")
	ErrLoneCR      = errors.New("content holds a CR without LF")
	ErrLoneLF      = errors.New("content holds a LF without CR")
	// ErrEndless says that the other end sends more than we are willing to
	// read over: the connection can't be used any more.
	ErrEndless = errors.New("no end in sight")
)

// maxSkip bounds what is read over to find the end of a line that is too long, in octets.
const maxSkip = 64 << 10

// ReadLine reads a line of at most limit octets, its end not counted, and
// returns it without its end. CRLF ends it, or a lone LF (old clients send
// their commands so); a CR anywhere else stays in the line for the parser to
// refuse. The line is valid until the next read.
//
// It returns ErrLineTooLong after having read over the rest of a longer line,
// ErrEndless when even that had no end, io.EOF at the end of the stream and
// io.ErrUnexpectedEOF within a line.
func ReadLine(r *bufio.Reader, limit int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = readLong(r, line, limit)
	}
	if err != nil {
		if errors.Is(err, io.EOF) && len(line) > 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, err
	}
	line = trimEnd(line)
	if len(line) > limit {
		return nil, ErrLineTooLong
	}
	return line, nil
}

// readLong reads on where a line is longer than the buffer of r.
func readLong(r *bufio.Reader, head []byte, limit int) ([]byte, error) {
	line := append([]byte(nil), head...)
	skipped := 0
	for {
		more, err := r.ReadSlice('\n')
		if len(line) <= limit+2 {
			line = append(line, more...)
		} else {
			skipped += len(more)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if skipped > maxSkip {
			return nil, ErrEndless
		}
	}
}

// trimEnd cuts LF or CRLF.
func trimEnd(line []byte) []byte {
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}
