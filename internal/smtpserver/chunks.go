package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"mittente/internal/smtp"
)

// maxSkip bounds a chunk that is read over for a client that is not known, in octets.
const maxSkip = 64 << 10

// errAborted says that the client gave up in the middle of content, by RSET,
// EHLO or QUIT or by going away: everything has been answered.
var errAborted = errors.New("content given up by the client")

// chunks is the content of a transaction by BDAT (RFC 3030).
type chunks struct {
	reader *smtp.ChunkReader
	begun  bool // a chunk has come that the reader does not know of yet
}

// bdat answers BDAT. The first of a message calls the handler, which reads what
// the others bring: they come in through nextChunk, which takes commands in its
// place.
func (s *Session) bdat(ctx context.Context, args string) smtp.Reply {
	chunk, err := smtp.ParseChunk(args)
	if err != nil { // octets follow, and nobody knows how many: they are no commands
		s.Leave("chunk")
		return say(501, status(5, 5, 4), "BDAT wants a size, and perhaps LAST; closing")
	}
	switch {
	case s.tx == nil:
		return s.skip(ctx, chunk, s.noTransaction())
	case s.tx.chunks != nil:
		s.tx.chunks.reader.Begin(s.wire.r, chunk)
		s.tx.chunks.begun = true
		return smtp.Reply{}
	case s.tx.recipients == 0: // RFC 3030 §2
		return s.skip(ctx, chunk, say(554, status(5, 1, 0), "No valid recipients"))
	}
	t := s.server.cfg.Timeouts
	until := time.Now().Add(t.Data)
	tx := s.tx
	tx.chunks = &chunks{}
	tx.chunks.reader = smtp.NewChunkReader(s.server.rules, func(before smtp.Chunk) error {
		return s.nextChunk(ctx, before, until)
	})
	tx.chunks.reader.Begin(s.wire.r, chunk)
	s.wire.patient(t.DataBlock, until)
	defer s.wire.impatient()
	reply := s.take(ctx, tx.chunks.reader)
	if s.tx != tx { // given up and answered
		return reply
	}
	chunk = tx.chunks.reader.Chunk()
	s.record.content(chunk.Size)
	s.reset()
	if !chunk.Last {
		s.refused = "The message was refused" // the chunks behind it are no errors (RFC 3030 §2)
	}
	s.advance()
	return reply
}

// nextChunk answers a chunk and takes commands until there is another one.
func (s *Session) nextChunk(ctx context.Context, before smtp.Chunk, until time.Time) error {
	tx := s.tx
	s.record.content(before.Size)
	s.answer(say(250, status(2, 0, 0), fmt.Sprintf("%d octets received", before.Size))) // RFC 3030 §2
	if before.Size > 0 {
		s.advance()
	}
	s.wire.impatient()
	tx.chunks.begun = false
	for s.reason == "" && s.tx == tx && !tx.chunks.begun {
		s.turn(ctx)
	}
	switch {
	case !tx.chunks.begun:
		return errAborted
	case time.Now().After(until): // the octets may be here already, so that no read would end it
		s.unreadable(os.ErrDeadlineExceeded)
		return errAborted
	}
	s.wire.patient(s.server.cfg.Timeouts.DataBlock, until)
	return nil
}

// skip reads over a chunk that is not wanted, then gives the reply.
func (s *Session) skip(ctx context.Context, chunk smtp.Chunk, reply smtp.Reply) smtp.Reply {
	limit := s.server.rules.Size + smtp.MaxTextLine
	if !s.authed {
		limit = maxSkip
	}
	t := s.server.cfg.Timeouts
	s.wire.patient(t.DataBlock, time.Now().Add(t.Data))
	defer s.wire.impatient()
	reader := smtp.NewChunkReader(smtp.ContentRules{}, nil)
	reader.Begin(s.wire.r, chunk)
	s.record.content(chunk.Size)
	err := reader.Drain(limit)
	switch {
	case errors.Is(err, smtp.ErrEndless):
		s.Leave("too big")
	case err != nil:
		return s.contentBroken(ctx, err)
	}
	return reply
}
