package dkim

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"
)

// BodyHasher is an io.Writer that takes the SHA-256 hash of a body in its relaxed
// form (RFC 6376 §3.4.4) while the body passes by, in pieces of any size. The
// body is what follows the empty line after the header section; its lines end in
// CRLF, and a lone CR or LF is text. Make one with NewBodyHasher; it serves one
// goroutine and one body.
type BodyHasher struct {
	hash  hash.Hash
	empty int  // line ends held back: they count only if text follows
	space bool // white space held back: it counts only if its line goes on
	cr    bool // a CR held back: its LF may be in the next piece
	text  bool // the body has more than empty lines
	done  bool
	sum   [sha256.Size]byte
	n     int // octets in out
	out   [1024]byte
}

// NewBodyHasher returns the hasher of a body of which nothing has come yet.
func NewBodyHasher() *BodyHasher { return &BodyHasher{hash: sha256.New()} }

// Write takes the next piece of the body. It returns len(p) and no error.
func (b *BodyHasher) Write(p []byte) (int, error) {
	n := len(p)
	if b.cr && n > 0 {
		b.cr = false
		if p[0] == '\n' {
			b.endLine()
			p = p[1:]
		} else {
			b.one('\r')
		}
	}
	for len(p) > 0 {
		if p[0] > ' ' {
			b.release()
		}
		if !b.space && b.empty == 0 {
			if run := plain(p); run > 0 {
				b.putAll(p[:run])
				b.text = true
				if p = p[run:]; len(p) == 0 {
					break
				}
			}
		}
		p = p[b.step(p):]
	}
	return n, nil
}

// Sum returns the hash of the body; what is written after the first call does not count.
func (b *BodyHasher) Sum() [sha256.Size]byte {
	if b.done {
		return b.sum
	}
	b.done = true
	if b.cr {
		b.one('\r')
	}
	// RFC 6376 §3.4.4: a body that is not empty ends with one CRLF, one that is
	// hashes as nothing.
	if b.text {
		b.put('\r')
		b.put('\n')
	}
	b.flush()
	b.hash.Sum(b.sum[:0])
	return b.sum
}

// step takes the first token of p, which is not empty, and returns its length.
func (b *BodyHasher) step(p []byte) int {
	switch {
	case p[0] == ' ' || p[0] == '\t':
		b.space = true
		n := 1
		for n < len(p) && (p[n] == ' ' || p[n] == '\t') {
			n++
		}
		return n
	case p[0] == '\r' && len(p) == 1:
		b.cr = true
		return 1
	case p[0] == '\r' && p[1] == '\n':
		b.endLine()
		return 2
	}
	b.one(p[0])
	return 1
}

// endLine drops the white space at the end of a line.
func (b *BodyHasher) endLine() {
	b.space = false
	b.empty++
}

// one takes an octet of text.
func (b *BodyHasher) one(c byte) {
	b.release()
	b.put(c)
	b.text = true
}

// release hashes what was held back, since text follows.
func (b *BodyHasher) release() {
	for ; b.empty > 0; b.empty-- {
		b.put('\r')
		b.put('\n')
	}
	if b.space {
		b.space = false
		b.put(' ')
	}
}

// put hashes one octet of the relaxed form.
func (b *BodyHasher) put(c byte) {
	if b.n == len(b.out) {
		b.flush()
	}
	b.out[b.n] = c
	b.n++
}

// putAll hashes octets of the relaxed form; short runs are gathered first.
func (b *BodyHasher) putAll(p []byte) {
	if len(p) > len(b.out)-b.n {
		b.flush()
		if len(p) >= len(b.out) {
			b.hash.Write(p)
			return
		}
	}
	b.n += copy(b.out[b.n:], p)
}

func (b *BodyHasher) flush() {
	b.hash.Write(b.out[:b.n])
	b.n = 0
}

// plain returns how much of the start of p is its own relaxed form, whatever
// follows: no tab, no white space at the end of a line or beside other white
// space, no line end without text behind it.
func plain(p []byte) int {
	i := 0
	for i+9 <= len(p) {
		q := p[i : i+9 : i+9]
		w := binary.LittleEndian.Uint64(q)
		o := odd(w, low(w), ^(' '-uint64(q[8]))&(1<<63))
		if o == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(o) / 8
		if !lineGoesOn(p[i:]) {
			return i
		}
		i += 2
	}
	for i < len(p) {
		switch {
		case p[i] > ' ', p[i] == ' ' && i+1 < len(p) && p[i+1] > ' ':
			i++
		case lineGoesOn(p[i:]):
			i += 2
		default:
			return i
		}
	}
	return i
}

// low marks, by the high bit, the octets of w that are white space or controls.
func low(w uint64) uint64 {
	const (
		high  = 0x8080808080808080
		seven = 0x7f7f7f7f7f7f7f7f
		above = 0x5f5f5f5f5f5f5f5f // carries 0x21 and what is above into the high bit
	)
	return ^(w&seven + above | w) & high
}

// odd marks the octets of w that are controls, and the spaces before a low octet;
// next is the mark of the octet behind w. Of the low octets only the space has the bit 0x20.
func odd(w, low, next uint64) uint64 {
	space := low & (w << 2)
	return low ^ space | space&(low>>8|next)
}

// lineGoesOn reports whether p is a line end with text behind it.
func lineGoesOn(p []byte) bool {
	return len(p) > 2 && p[0] == '\r' && p[1] == '\n' && p[2] > ' '
}
