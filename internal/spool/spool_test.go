package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/db"
	"mittente/internal/id"
)

// open returns a spool on a database of its own.
func open(tb testing.TB, cfg Config) (*Spool, *db.DB) {
	tb.Helper()
	d, err := db.Open(tb.Context(), db.Config{DataDir: tb.TempDir(), ReserveBytes: 1}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := d.Migrate(tb.Context(), Schema()); err != nil {
		tb.Fatal(err)
	}
	return New(d, cfg, prometheus.NewPedanticRegistry()), d
}

// random returns n bytes that compress and repeat nowhere.
func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, n)))
	_, _ = r.Read(b)
	return b
}

// accept writes content and accepts it.
func accept(tb testing.TB, s *Spool, content []byte) Content {
	tb.Helper()
	w := s.Create(id.New[id.Account]())
	defer w.Discard(tb.Context())
	if _, err := w.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := s.db.Batch(tb.Context(), w.Put); err != nil {
		tb.Fatal(err)
	}
	return w.Content()
}

func release(tb testing.TB, s *Spool, c id.Content, keepUntil time.Time) {
	tb.Helper()
	if err := s.db.Batch(tb.Context(), func(tx *db.Tx) error { return s.Release(tx, c, keepUntil) }); err != nil {
		tb.Fatal(err)
	}
}

func read(tb testing.TB, s *Spool, c id.Content) []byte {
	tb.Helper()
	r, err := s.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

const (
	countContent db.SQL = `SELECT COUNT(*) FROM content`
	countChunks  db.SQL = `SELECT COUNT(*) FROM content_chunk`
	countAhead   db.SQL = `SELECT COUNT(*) FROM content_ahead`
)

// wantRows compares how many rows the tables have.
func wantRows(tb testing.TB, d *db.DB, contents, chunks, ahead int) {
	tb.Helper()
	var got [3]int
	err := d.View(tb.Context(), func(tx *db.Tx) error {
		return errors.Join(tx.Row(countContent).Scan(&got[0]), tx.Row(countChunks).Scan(&got[1]),
			tx.Row(countAhead).Scan(&got[2]))
	})
	if err != nil {
		tb.Fatal(err)
	}
	if want := [3]int{contents, chunks, ahead}; got != want {
		tb.Errorf("contents, chunks, written ahead: %v, want %v", got, want)
	}
}

// Content of any size comes back byte for byte, however it is written and read.
func TestContentComesBack(t *testing.T) {
	s, d := open(t, Config{Buffers: 2})
	chunks := 0
	sizes := []int{
		0, 1, 10_000, smallBuffer, smallBuffer + 1, growthEnd, growthEnd + 1, ChunkSize - 1, ChunkSize, ChunkSize + 1,
		2 * ChunkSize, 2*ChunkSize + 1, 3<<20 + 17,
	}
	for i, size := range sizes {
		content := random(size)
		c := acceptInPieces(t, s, content)
		if c.Size != int64(size) || (size <= ChunkSize) != (c.Bytes != nil) && size > 0 {
			t.Errorf("%d bytes: content of %d, %d in memory", size, c.Size, len(c.Bytes))
		}
		if c.Bytes != nil && !bytes.Equal(c.Bytes, content) {
			t.Errorf("%d bytes: those in memory differ", size)
		}
		if got := read(t, s, c.ID); !bytes.Equal(got, content) {
			t.Errorf("%d bytes: came back as %d", size, len(got))
		}
		r, err := s.Open(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, content); size < 20_000 && err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		r.Close()
		chunks += (size + ChunkSize - 1) / ChunkSize
		wantRows(t, d, i+1, chunks, 0)
	}
}

// acceptInPieces is accept for a client that sends a few single bytes, and then much at once.
func acceptInPieces(tb testing.TB, s *Spool, content []byte) Content {
	tb.Helper()
	w := s.Create(id.New[id.Account]())
	defer w.Discard(tb.Context())
	few := min(len(content), 5)
	if n, err := io.Copy(w, iotest.OneByteReader(bytes.NewReader(content[:few]))); err != nil || int(n) != few {
		tb.Fatal(n, err)
	}
	for rest := content[few:]; len(rest) > 0; {
		n, err := w.Write(rest[:min(len(rest), 100_000)])
		if err != nil {
			tb.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := s.db.Batch(tb.Context(), w.Put); err != nil {
		tb.Fatal(err)
	}
	return w.Content()
}

// Bytes that stay in memory are those of the content, whatever the buffers serve for next.
func TestBytesOutliveTheWriter(t *testing.T) {
	s, _ := open(t, Config{Buffers: 4})
	var kept []Content
	for _, size := range []int{200_000, 200_001, 70_000, 10_000} {
		kept = append(kept, accept(t, s, random(size)))
	}
	accept(t, s, random(1<<20))
	for _, c := range kept {
		if !bytes.Equal(c.Bytes, random(int(c.Size))) {
			t.Errorf("%d bytes were overwritten", c.Size)
		}
		if cap(c.Bytes) > 2*len(c.Bytes) {
			t.Errorf("%d bytes hold on to %d", len(c.Bytes), cap(c.Bytes))
		}
	}
}

// S0: content that is not accepted leaves nothing, small or large.
func TestDiscard(t *testing.T) {
	s, d := open(t, Config{})
	for _, size := range []int{0, 1000, ChunkSize, ChunkSize + 1, 3 << 20} {
		w := s.Create(id.New[id.Account]())
		if _, err := w.Write(random(size)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the client is gone
		w.Discard(ctx)
		w.Discard(ctx)
		wantRows(t, d, 0, 0, 0)
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("wrote after Discard")
		}
	}
	if len(s.live) != 0 {
		t.Errorf("%d contents are said to be written", len(s.live))
	}
}

// Discard after the commit takes nothing back.
func TestDiscardAfterAcceptance(t *testing.T) {
	s, _ := open(t, Config{})
	for _, size := range []int{1000, 1 << 20} {
		c := accept(t, s, random(size)) // calls Discard
		if got := read(t, s, c.ID); len(got) != size {
			t.Errorf("%d bytes of %d", len(got), size)
		}
	}
}

// The accepting transaction may run twice, when another caller of its batch
// fails, and then for good or not.
func TestPutIsRepeatable(t *testing.T) {
	for _, size := range []int{1000, ChunkSize + 5, 2 * ChunkSize} {
		synctest.Test(t, func(t *testing.T) {
			s, d := open(t, Config{})
			w := s.Create(id.New[id.Account]())
			if _, err := w.Write(random(size)); err != nil {
				t.Fatal(err)
			}
			failed := errors.New("no")
			err := d.Batch(t.Context(), func(tx *db.Tx) error { return errors.Join(w.Put(tx), failed) })
			if !errors.Is(err, failed) {
				t.Fatal(err)
			}
			release, done := make(chan struct{}), make(chan error, 2)
			go func() {
				done <- d.Batch(t.Context(), func(tx *db.Tx) error { <-release; return w.Put(tx) })
			}()
			synctest.Wait()
			go func() {
				done <- d.Batch(t.Context(), func(tx *db.Tx) error {
					_, err := tx.Exec(deleteRow, id.New[id.Content]())
					return errors.Join(err, failed)
				})
			}()
			synctest.Wait()
			close(release)
			if err := errors.Join(<-done, <-done); !errors.Is(err, failed) {
				t.Error(err)
			}
			w.Discard(t.Context())
			if got := read(t, s, w.Content().ID); !bytes.Equal(got, random(size)) {
				t.Errorf("%d bytes of %d", len(got), size)
			}
			wantRows(t, d, 1, (size+ChunkSize-1)/ChunkSize, 0)
		})
	}
}

// S0 after a crash: what a process that is gone has written ahead is swept; what
// this one is writing stays, and what was accepted.
func TestSweep(t *testing.T) {
	s, d := open(t, Config{})
	accept(t, s, random(1<<20))
	before := New(d, Config{}, nil) // as the process that is gone saw it
	for range 3 {
		if _, err := before.Create(id.New[id.Account]()).Write(random(3 << 20)); err != nil {
			t.Fatal(err)
		}
	}
	mine := s.Create(id.New[id.Account]())
	if _, err := mine.Write(random(1 << 20)); err != nil {
		t.Fatal(err)
	}
	wantRows(t, d, 1, 4+3*11+3, 4)
	if n, err := s.Sweep(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("swept %d that are young, %v", n, err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(time.Second)); n != 3 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	wantRows(t, d, 1, 4+3, 1)
	if err := d.Batch(t.Context(), mine.Put); err != nil {
		t.Error(err)
	}
	wantRows(t, d, 2, 4+4, 0)
}

// Content that was swept while its client was slow can't be accepted half.
func TestSweptContentIsNotAccepted(t *testing.T) {
	s, d := open(t, Config{})
	other := New(d, Config{}, nil)
	slow := func() *Writer {
		w := s.Create(id.New[id.Account]())
		if _, err := w.Write(random(1 << 20)); err != nil {
			t.Fatal(err)
		}
		if n, err := other.Sweep(t.Context(), time.Now().Add(time.Second)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		return w
	}
	w := slow()
	if err := d.Batch(t.Context(), w.Put); !errors.Is(err, ErrSwept) {
		t.Errorf("accepted: %v", err)
	}
	w.Discard(t.Context())
	w = slow()
	if _, err := w.Write(random(1 << 20)); !errors.Is(err, ErrSwept) {
		t.Errorf("went on: %v", err)
	}
	if err := d.Batch(t.Context(), w.Put); !errors.Is(err, ErrSwept) {
		t.Errorf("accepted: %v", err)
	}
	w.Discard(t.Context())
	wantRows(t, d, 0, 0, 0)
}

// S3: released content stays until its time, and goes then.
func TestRetainByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := open(t, Config{})
		unreleased := accept(t, s, random(1000))
		var kept []Content
		for i := range 150 {
			c := accept(t, s, random(100+i))
			release(t, s, c.ID, time.Now().Add(24*time.Hour))
			kept = append(kept, c)
		}
		large := accept(t, s, random(5<<20))
		release(t, s, large.ID, time.Now().Add(time.Hour))
		if err := s.Retain(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		wantRows(t, d, 152, 151+20, 0)
		time.Sleep(time.Hour)
		if _, err := s.Open(t.Context(), large.ID); !errors.Is(err, ErrGone) {
			t.Errorf("past its time, not yet removed: %v", err)
		}
		if err := s.Retain(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		wantRows(t, d, 151, 151, 0)
		if got := read(t, s, kept[0].ID); len(got) != 100 {
			t.Errorf("%d bytes", len(got))
		}
		time.Sleep(23 * time.Hour)
		if err := s.Retain(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		wantRows(t, d, 1, 1, 0)
		if got := read(t, s, unreleased.ID); len(got) != 1000 {
			t.Errorf("%d bytes of what is still needed", len(got))
		}
		if _, err := s.Open(t.Context(), kept[0].ID); !errors.Is(err, ErrGone) {
			t.Errorf("removed: %v", err)
		}
	})
}

// When space is short the oldest released goes first, and nothing that is still needed.
func TestRetainBySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := open(t, Config{ContentMax: 50_000})
		needed := accept(t, s, random(100_000))
		var released []Content
		for range 200 {
			c := accept(t, s, random(1000))
			time.Sleep(time.Second)
			release(t, s, c.ID, time.Now().Add(24*time.Hour))
			released = append(released, c)
		}
		if err := s.Retain(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		wantRows(t, d, 51, 51, 0)
		read(t, s, needed.ID)
		for i, c := range released {
			_, err := s.Open(t.Context(), c.ID)
			if errors.Is(err, ErrGone) != (i < 150) {
				t.Errorf("content %d: %v", i, err)
			}
		}
	})
}

// A reader holds no transaction, so content can go while it is read; it says so.
func TestContentGoesWhileItIsRead(t *testing.T) {
	s, _ := open(t, Config{})
	c := accept(t, s, random(1<<20))
	r, err := s.Open(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != 1<<20 {
		t.Errorf("size %d", r.Size())
	}
	release(t, s, c.ID, time.Now())
	if err := s.Retain(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	if n != ChunkSize || !errors.Is(err, ErrGone) {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := s.Open(t.Context(), id.New[id.Content]()); !errors.Is(err, ErrGone) {
		t.Errorf("one that never was: %v", err)
	}
}

// Memory does not grow with the size of content, nor the pool with its number.
func TestBuffersAreBounded(t *testing.T) {
	s, _ := open(t, Config{Buffers: 2})
	var writers []*Writer
	for range 5 {
		w := s.Create(id.New[id.Account]())
		if _, err := w.Write(random(ChunkSize + 1)); err != nil {
			t.Fatal(err)
		}
		if cap(w.buf) != ChunkSize {
			t.Errorf("a buffer of %d", cap(w.buf))
		}
		writers = append(writers, w)
	}
	for _, w := range writers {
		w.Discard(t.Context())
	}
	if len(s.buffers) != 2 {
		t.Errorf("%d buffers are kept", len(s.buffers))
	}
}

func TestRunSweepsAtOnceAndRetainsEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, d := open(t, Config{})
		if _, err := old.Create(id.New[id.Account]()).Write(random(1 << 20)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s := New(d, Config{}, nil)
		c := accept(t, s, random(1000))
		release(t, s, c.ID, time.Now().Add(30*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Second)
		wantRows(t, d, 1, 1, 0)
		time.Sleep(retainEvery)
		wantRows(t, d, 0, 0, 0)
		if _, err := old.Create(id.New[id.Account]()).Write(random(1 << 20)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(sweepEvery)
		wantRows(t, d, 0, 3, 1)
		time.Sleep(sweepEvery)
		wantRows(t, d, 0, 0, 0)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkPutAndRelease(b *testing.B) {
	for _, size := range []int{10_000, 1 << 20} {
		b.Run(fmt.Sprintf("%dKB", size/1000), func(b *testing.B) {
			s, d := open(b, Config{})
			content := random(size)
			account := id.New[id.Account]()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				w := s.Create(account)
				if _, err := w.Write(content); err != nil {
					b.Fatal(err)
				}
				if err := d.Batch(b.Context(), w.Put); err != nil {
					b.Fatal(err)
				}
				w.Discard(b.Context())
				release(b, s, w.Content().ID, time.Now().Add(time.Hour))
			}
		})
	}
}
