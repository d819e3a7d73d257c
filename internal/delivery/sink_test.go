package delivery

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/mail"
	"mittente/internal/route"
)

// sink is a server on a loopback port that takes everything.
type sink struct {
	listener net.Listener
	tls      *tls.Config // STARTTLS is offered when set
	plain    bool        // no PIPELINING
	messages atomic.Int64
	octets   atomic.Int64 // of content as it came, stuffed
	sessions atomic.Int64
	wg       sync.WaitGroup
}

func newSink(tb testing.TB, s *sink) *sink {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.listener = listener
	s.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.sessions.Add(1)
			s.wg.Go(func() {
				defer func() { _ = conn.Close() }()
				s.session(conn)
			})
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		s.wg.Wait()
	})
	return s
}

func (s *sink) session(conn net.Conn) {
	r, w := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)
	say := func(text string) { _, _ = w.WriteString(text + "\r\n") }
	say("220 sink")
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch string(line[:4]) {
		case "EHLO":
			say("250-sink")
			if s.tls != nil {
				say("250-STARTTLS")
			}
			if !s.plain {
				say("250-PIPELINING")
			}
			say("250-8BITMIME")
			say("250-SIZE 100000000")
			say("250 SMTPUTF8")
		case "STAR":
			say("220 go")
			_ = w.Flush()
			conn = tls.Server(conn, s.tls)
			r.Reset(conn)
			w.Reset(conn)
		case "DATA":
			say("354 go")
			if w.Flush() != nil || s.content(r) != nil {
				return
			}
			say("250 2.0.0 taken")
		case "QUIT":
			say("221 bye")
			_ = w.Flush()
			return
		default:
			say("250 2.1.0 ok")
		}
	}
}

func (s *sink) content(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if bytes.Equal(line, []byte(".\r\n")) {
			s.messages.Add(1)
			return nil
		}
		s.octets.Add(int64(len(line)))
	}
}

// toSink returns a courier and the plan that leads to s.
func toSink(tb testing.TB, s *sink, policy route.TLSPolicy, cfg Config) (*Courier, Plan) {
	tb.Helper()
	c := courier(tb, cfg, route.Static{Domain: "*", NextHop: s.listener.Addr().String(), TLS: policy})
	tb.Cleanup(c.Close)
	plan, o := c.Plan(tb.Context(), "example.net")
	if o != nil {
		tb.Fatal(*o)
	}
	return c, plan
}

func bodyOf(size int) []byte {
	line := strings.Repeat("0123456789", 7) + "\r\n"
	return []byte("Subject: hi\r\n\r\n" + strings.Repeat(line, size/len(line)))
}

type readCloser struct{ bytes.Reader }

func (*readCloser) Close() error { return nil }

func jobOf(tb testing.TB, content []byte) Job {
	tb.Helper()
	return Job{
		From: reversePath(tb, "sender@example.org"), To: []mail.Rcpt{forwardPath(tb, "a@example.net")},
		Size: int64(len(content)),
		Content: func() (io.ReadCloser, error) {
			r := new(readCloser)
			r.Reset(content)
			return r, nil
		},
	}
}

// TestManyAtOnce shares one courier between many attempts, small and large, in
// clear and under TLS, over real sockets.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	cert := certificate(t, "sink")
	for name, s := range map[string]*sink{
		"clear": {}, "step by step": {plain: true}, "TLS": {tls: &tls.Config{Certificates: []tls.Certificate{cert}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newSink(t, s)
			c, plan := toSink(t, s, route.TLSMay, Config{MaxPerConnection: 7})
			small, large := bodyOf(1_000), bodyOf(1_000_000)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for i := range 20 {
						content := small
						if i == 10 {
							content = large
						}
						o := c.Deliver(t.Context(), plan, jobOf(t, content))[0]
						if o.Action != mail.Delivered || (o.TLS != "") != (s.tls != nil) {
							t.Error(show(o))
						}
					}
				})
			}
			wg.Wait()
			want := int64(8 * (19*len(small) + len(large)))
			if s.messages.Load() != 160 || s.octets.Load() != want {
				t.Errorf("%d messages of %d octets, want 160 of %d", s.messages.Load(), s.octets.Load(), want)
			}
			if n := s.sessions.Load(); n < 160/7 || n > 40 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestLargeContentIsStreamed: 25 MB pass through little memory.
func TestLargeContentIsStreamed(t *testing.T) {
	s := newSink(t, &sink{})
	c, plan := toSink(t, s, route.TLSNone, Config{})
	job := jobOf(t, nil)
	job.Content = func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(endless{}, 25_000_000)), nil
	}
	c.Deliver(t.Context(), plan, jobOf(t, bodyOf(100)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if o := c.Deliver(t.Context(), plan, job)[0]; o.Action != mail.Delivered {
		t.Fatal(show(o))
	}
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 200_000 {
		t.Errorf("%d bytes allocated for a message of 25 MB", allocated)
	}
}

// endless is text without end, in lines.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	for i := 76; i+1 < len(p); i += 78 {
		p[i], p[i+1] = '\r', '\n'
	}
	if p[len(p)-1] == '\r' {
		p[len(p)-1] = 'x'
	}
	return len(p), nil
}

// TestMetrics holds the names that operators watch.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSink(t, &sink{})
	reg := prometheus.NewRegistry()
	c, plan := toSink(t, s, route.TLSMay, Config{})
	m, err := newMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	c.metrics, c.pool.metrics = m, m
	for range 2 {
		c.Deliver(t.Context(), plan, jobOf(t, bodyOf(100)))
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := strings.TrimPrefix(f.GetName(), "mittente_delivery_")
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"connections_total new": 1, "connections_total reused": 1, "connections_idle": 1, "attempt_seconds": 2,
		"tls_total clear": 1, "replies_total 2": 8, "replies_total 3": 2,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// BenchmarkDeliver hands 10 KB over a connection that is used again.
func BenchmarkDeliver(b *testing.B) {
	cert := certificate(b, "sink")
	for _, policy := range []route.TLSPolicy{route.TLSNone, route.TLSEncrypt} {
		b.Run(fmt.Sprintf("tls=%s", policy), func(b *testing.B) {
			s := newSink(b, &sink{tls: &tls.Config{Certificates: []tls.Certificate{cert}}})
			c, plan := toSink(b, s, policy, Config{MaxPerConnection: 1 << 30})
			job := jobOf(b, bodyOf(10_000))
			b.ReportAllocs()
			for b.Loop() {
				if o := c.Deliver(b.Context(), plan, job)[0]; o.Action != mail.Delivered {
					b.Fatal(show(o))
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkDeliverParallel does so from many attempts at once.
func BenchmarkDeliverParallel(b *testing.B) {
	s := newSink(b, &sink{})
	c, plan := toSink(b, s, route.TLSNone, Config{})
	job := jobOf(b, bodyOf(10_000))
	b.ReportAllocs()
	b.SetParallelism(10)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if o := c.Deliver(b.Context(), plan, job)[0]; o.Action != mail.Delivered {
				b.Error(show(o))
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}
