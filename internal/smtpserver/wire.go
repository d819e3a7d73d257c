package smtpserver

import (
	"bufio"
	"cmp"
	"io"
	"net"
	"sync"
	"time"

	"mittente/internal/smtp"
)

const (
	readBuffer = 16 << 10 // octets, while there is something to read
	idleBuffer = 1 << 10  // octets, while there is nothing: enough for a pipelined group
	keepOutput = 4 << 10  // octets of the reply buffer that are kept between replies
	maxOutput  = 8 << 10  // octets of replies that are gathered: a group of EHLO has forty times its own length
)

func newReader() any { return bufio.NewReaderSize(nil, readBuffer) }

// wire is the client's connection with replies gathered: they leave in one
// write just before a read that has to wait, so that a pipelined group gets its
// replies together (RFC 2920 §3.2) and nobody waits for a reply held back. Those
// of more than maxOutput octets leave before.
//
// A connection that waits for its client holds idleBuffer octets only; the
// large buffer comes from the pool as soon as something has come.
type wire struct {
	conn    net.Conn
	pool    *sync.Pool
	r       *bufio.Reader // nil while idle; reads from wire itself
	idle    [idleBuffer]byte
	head    []byte // of idle: what r has not been given yet
	out     []byte
	write   time.Duration // timeout
	block   time.Duration // timeout of every single read; 0: whoever reads has set one
	hard    time.Time     // end of all reads while block is set
	failure error         // of writing
}

// line reads a line of at most limit octets; it is valid until the next read.
func (w *wire) line(limit int) ([]byte, error) {
	if w.r == nil || w.r.Buffered() == 0 && len(w.head) == 0 {
		if err := w.wait(); err != nil {
			return nil, err
		}
	}
	return smtp.ReadLine(w.r, limit)
}

// wait gives the large buffer back until something has come.
func (w *wire) wait() error {
	w.release()
	n, err := w.Read(w.idle[:])
	if n == 0 {
		return cmp.Or(err, io.ErrNoProgress)
	}
	w.head = w.idle[:n]
	w.r, _ = w.pool.Get().(*bufio.Reader)
	w.r.Reset(w)
	return nil
}

// release gives the large buffer back.
func (w *wire) release() {
	if w.r != nil {
		w.r.Reset(nil)
		w.pool.Put(w.r)
		w.r = nil
	}
	if cap(w.out) > keepOutput {
		w.flush()
		w.out = nil
	}
}

// pending reports whether the client sent more than has been read.
func (w *wire) pending() bool { return len(w.head) > 0 || w.r != nil && w.r.Buffered() > 0 }

// Read reads from the connection; it is the source of r.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.head) > 0 {
		n := copy(p, w.head)
		w.head = w.head[n:]
		return n, nil
	}
	if !w.flush() {
		return 0, w.failure
	}
	if w.block > 0 {
		until := time.Now().Add(w.block)
		if until.After(w.hard) {
			until = w.hard
		}
		if err := w.conn.SetReadDeadline(until); err != nil {
			return 0, err
		}
	}
	return w.conn.Read(p)
}

// patient lets each read of content take block, and none go beyond until.
func (w *wire) patient(block time.Duration, until time.Time) { w.block, w.hard = block, until }

// impatient ends what patient began.
func (w *wire) impatient() { w.block = 0 }

// flush sends the gathered replies, and reports whether the client can still be written to.
func (w *wire) flush() bool {
	if len(w.out) == 0 || w.failure != nil {
		w.out = w.out[:0] // nobody gets it any more
		return w.failure == nil
	}
	w.failure = w.conn.SetWriteDeadline(time.Now().Add(w.write))
	if w.failure == nil {
		_, w.failure = w.conn.Write(w.out)
	}
	w.out = w.out[:0]
	return w.failure == nil
}
