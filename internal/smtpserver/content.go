package smtpserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"mittente/internal/smtp"
)

// source is how content comes: smtp.DataReader or smtp.ChunkReader.
type source interface {
	io.Reader
	Ended() bool
	Fault() error
	Drain(limit int64) error
	Size() int64
}

// Content is what a client sends of one message, by DATA or by BDAT. Read gives
// io.EOF at its end, and any other error for good: the message can't be taken.
type Content struct {
	source source
	err    error
}

// Read gives what has come, with CRLF only and dots unstuffed.
func (c *Content) Read(p []byte) (int, error) {
	n, err := c.source.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// Err returns the error that Read gave, if it was another than io.EOF.
func (c *Content) Err() error { return c.err }

// Size returns how many octets Read gave so far.
func (c *Content) Size() int64 { return c.source.Size() }

// data answers DATA, and takes the content in.
func (s *Session) data(ctx context.Context, args string) smtp.Reply {
	switch {
	case args != "":
		return noArguments("DATA")
	case s.tx == nil:
		return s.noTransaction()
	case s.tx.chunks != nil: // RFC 3030 §2
		return badOrder("BDAT has begun")
	case s.tx.recipients == 0:
		return say(554, status(5, 1, 0), "No valid recipients") // RFC 5321 §3.3
	}
	s.answer(smtp.Reply{Code: 354, Lines: []string{"Go ahead, end with CRLF.CRLF"}})
	t := s.server.cfg.Timeouts
	s.wire.patient(t.DataBlock, time.Now().Add(t.Data))
	defer s.wire.impatient()
	content := smtp.NewDataReader(s.wire.r, s.server.rules)
	reply := s.take(ctx, content)
	s.record.content(content.Size())
	s.reset()
	s.advance()
	return reply
}

// take hands content to the handler and finds the end of data. If it can't be
// found the connection is closed: what follows is content and no commands.
func (s *Session) take(ctx context.Context, from source) smtp.Reply {
	limit := s.server.rules.Size
	content := &Content{source: from}
	reply := s.handler.Content(ctx, content)
	s.server.metrics.octets.Add(float64(from.Size()))
	if errors.Is(content.err, errAborted) {
		s.server.metrics.transactions.WithLabelValues("aborted").Inc()
		return smtp.Reply{}
	}
	if reply.Class() == 2 && !from.Ended() {
		s.reason = "fault"
		reply = say(451, status(4, 3, 0), "Temporary failure, try again later")
		s.Log(ctx, slog.LevelError, "message not taken in", slog.String("error", "it was taken before its end"))
	}
	broken := from.Drain(limit + smtp.MaxTextLine)
	fault := from.Fault()
	switch {
	case broken != nil:
		return s.contentBroken(ctx, broken)
	case fault != nil:
		reply = contentRefused(fault, s.server.rules)
	case reply.Class() == 2:
		s.errors = 0
		s.server.metrics.transactions.WithLabelValues("accepted").Inc()
		return reply
	}
	s.refuse(ctx, reply, s.tx.from)
	return reply
}

// contentBroken ends a session whose content has no end that could be found.
func (s *Session) contentBroken(ctx context.Context, broken error) smtp.Reply {
	s.reason = "broken"
	s.server.metrics.transactions.WithLabelValues("aborted").Inc()
	s.Log(ctx, slog.LevelInfo, "message aborted", slog.String("error", broken.Error()))
	switch {
	case errors.Is(broken, smtp.ErrEndless):
		s.reason = "too big"
		return tooBig(s.server.cfg.MaxMessageBytes)
	case errors.Is(broken, os.ErrDeadlineExceeded):
		s.reason = "timeout"
		return say(421, status(4, 4, 2), "Timeout, closing")
	}
	return smtp.Reply{}
}
