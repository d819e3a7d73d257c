// Package spool keeps content, written once, until its last recipient is settled.
package spool

import (
	"context"
	"embed"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/db"
	"mittente/internal/id"
)

// ChunkSize is the size of a chunk in bytes, and of the largest content that
// stays in memory until it is accepted.
const ChunkSize = 256 << 10

//go:embed schema/*.sql
var schema embed.FS

// Schema is what the room keeps in the database.
func Schema() db.Schema { return db.Schema{Room: "spool", FS: schema} }

var (
	// ErrGone says that the content is past its retention, or never was.
	ErrGone = errors.New("content is gone")
	// ErrSwept says that what was written ahead has been taken for left behind.
	ErrSwept = errors.New("content was swept before it was accepted")
)

// Config says how much is kept.
type Config struct {
	// ContentMax bounds the bytes of content that no recipient needs any more;
	// beyond it the oldest released goes first. 0: no bound but time.
	ContentMax int64
	// Buffers is how many chunk buffers are kept for use again; 0 is 64 (16 MiB).
	Buffers int
}

const defaultBuffers = 64

// Content is what a Writer has taken in.
type Content struct {
	ID    id.Content
	Size  int64
	Bytes []byte // the whole content; nil when it is larger than ChunkSize
}

// Spool keeps content in the database. It is safe for concurrent use.
type Spool struct {
	db      *db.DB
	cfg     Config
	metrics *metrics
	buffers chan []byte // free ones, each of ChunkSize
	started time.Time

	mu   sync.Mutex
	live map[id.Content]struct{} // being written ahead by this process
}

// New returns a spool on d; it starts nothing. reg may be nil.
func New(d *db.DB, cfg Config, reg prometheus.Registerer) *Spool {
	if cfg.Buffers <= 0 {
		cfg.Buffers = defaultBuffers
	}
	return &Spool{
		db: d, cfg: cfg, metrics: newMetrics(reg),
		buffers: make(chan []byte, cfg.Buffers),
		started: time.Now(),
		live:    make(map[id.Content]struct{}),
	}
}

const releaseContent db.SQL = `UPDATE content SET released_at = $2, keep_until = $3 WHERE id = $1`

// Release says that no recipient needs the content any more: it may go at
// keepUntil, or earlier when space is short.
func (s *Spool) Release(tx *db.Tx, content id.Content, keepUntil time.Time) error {
	_, err := tx.Exec(releaseContent, content, db.Micros(time.Now()), db.Micros(keepUntil))
	return err
}

const (
	retainEvery = time.Minute
	sweepEvery  = time.Hour
)

// Run sweeps at once and hourly, and enforces retention every minute, until ctx
// ends; then it returns nil. What fails is counted in the metrics and tried again.
func (s *Spool) Run(ctx context.Context) error {
	s.runSweep(ctx, s.started)
	retain, sweep := time.NewTicker(retainEvery), time.NewTicker(sweepEvery)
	defer retain.Stop()
	defer sweep.Stop()
	for {
		s.runRetain(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-retain.C:
		case now := <-sweep.C:
			s.runSweep(ctx, now.Add(-sweepEvery))
		}
	}
}

func (s *Spool) runSweep(ctx context.Context, olderThan time.Time) {
	if _, err := s.Sweep(ctx, olderThan); err != nil && ctx.Err() == nil {
		s.metrics.failures.Inc()
	}
}

func (s *Spool) runRetain(ctx context.Context, now time.Time) {
	if err := s.Retain(ctx, now); err != nil && ctx.Err() == nil {
		s.metrics.failures.Inc()
	}
}

// buffer returns an empty buffer of ChunkSize.
func (s *Spool) buffer() []byte {
	select {
	case b := <-s.buffers:
		return b[:0]
	default:
		return make([]byte, 0, ChunkSize)
	}
}

// free takes a buffer back; beyond the bound it is left to the collector.
func (s *Spool) free(b []byte) {
	if cap(b) != ChunkSize {
		return
	}
	select {
	case s.buffers <- b:
	default:
	}
}
