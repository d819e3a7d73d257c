package msa

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A transcript in testdata is read by lines:
//
//	# a comment
//	C: a line of the client, to which CRLF is added
//	C> octets of the client as they are, with Go's escapes: \r \n \x00
//	S: a line of the server
//	! option NAME   before the session: tls, refuse-plaintext, once
//	! tls           the client shakes hands
//	! wait 5m       time goes by
//	! closed        the server has closed the connection
//	! hang up       the client closes it
//
// <b64:text> within a client's line is its base64 with Go's escapes. Lines of
// the client that follow one another leave in one segment. After them the
// server must say exactly the S: lines that follow, in one write. Every
// transcript is also played octet by octet, unless it has "! option once".
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) { play(t, string(text), false) })
		if !strings.Contains(string(text), "! option once") {
			t.Run(name+" octet by octet", func(t *testing.T) { play(t, string(text), true) })
		}
	}
}

func play(t *testing.T, text string, bytewise bool) {
	t.Helper()
	cfg := testConfig()
	if strings.Contains(text, "! option tls") {
		cfg.TLS = testTLS(t)
	}
	if strings.Contains(text, "! option refuse-plaintext") {
		cfg.PlaintextAuth = PlaintextRefuse
	}
	synctest.Test(t, func(t *testing.T) {
		p := &player{t: t, bytewise: bytewise}
		d := testDoor(t, cfg, &fakeGate{})
		p.connect(dial(t.Context(), d))
		for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			p.line(n+1, line)
		}
		p.settle()
		_ = p.conn.Close()
		synctest.Wait()
		if n := len(d.sessions); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// player is the client of a transcript.
type player struct {
	t        *testing.T
	bytewise bool
	conn     net.Conn
	in       *inbox
	segment  []byte   // of the client, not sent yet
	want     []string // lines of the server
	at       int      // line of the transcript where the segment began
}

// inbox keeps what the server has sent.
type inbox struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	writes int
	closed bool
}

func (p *player) connect(conn net.Conn) {
	in := &inbox{}
	p.conn, p.in = conn, in
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			in.mu.Lock()
			in.buf.Write(b[:n])
			in.writes++
			in.closed = err != nil
			in.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

func (p *player) line(n int, line string) {
	kind, rest, _ := strings.Cut(line, " ")
	option := strings.HasPrefix(line, "! option")
	if kind != "S:" && len(p.want) > 0 || kind == "!" && !option {
		p.settle()
	}
	switch kind {
	case "#", "":
	case "C:":
		p.queue(n, expand(p.t, rest)+"\r\n")
	case "C>":
		p.queue(n, unquote(p.t, expand(p.t, rest)))
	case "S:":
		p.want = append(p.want, rest)
		p.at = max(p.at, 1)
	case "!":
		p.direct(n, rest)
	default:
		p.t.Fatalf("line %d: %q", n, line)
	}
}

func (p *player) queue(n int, s string) {
	if len(p.segment) == 0 {
		p.at = n
	}
	p.segment = append(p.segment, s...)
}

// settle sends the segment and compares what comes back.
func (p *player) settle() {
	step := len(p.segment)
	if p.bytewise {
		step = 1
	}
	for i := 0; i < len(p.segment); i += step {
		if _, err := p.conn.Write(p.segment[i : i+step]); err != nil {
			break // the server may have had enough
		}
	}
	sent := len(p.segment) > 0
	p.segment = nil
	time.Sleep(5 * time.Second) // refused passwords are answered late
	synctest.Wait()
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	got := p.in.buf.String()
	want := ""
	for _, line := range p.want {
		want += line + "\r\n"
	}
	if got != want {
		p.t.Errorf("line %d: the server says\n%swant\n%s", p.at, got, want)
	}
	_, encrypted := p.conn.(*tls.Conn)
	if sent && !p.bytewise && !encrypted && p.in.writes > 1 && !p.in.closed && !strings.Contains(got, "354 ") {
		p.t.Errorf("line %d: replies left in %d writes", p.at, p.in.writes)
	}
	p.in.buf.Reset()
	p.in.writes = 0
	p.want = nil
}

func (p *player) direct(n int, what string) {
	switch verb, arg, _ := strings.Cut(what, " "); verb {
	case "option":
	case "tls":
		p.handshake()
	case "wait":
		d, err := time.ParseDuration(arg)
		if err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(d)
	case "hang":
		_ = p.conn.Close()
	case "closed":
		if !p.in.closed {
			p.t.Errorf("line %d: the connection is still open", n)
		}
	default:
		p.t.Fatalf("line %d: %q", n, what)
	}
}

// handshake takes the connection back from the goroutine that reads it.
func (p *player) handshake() {
	_ = p.conn.SetReadDeadline(time.Now())
	synctest.Wait()
	_ = p.conn.SetReadDeadline(time.Time{})
	conn := tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	p.connect(conn)
}

var b64 = regexp.MustCompile(`<b64:([^>]*)>`)

func expand(t *testing.T, s string) string {
	t.Helper()
	return b64.ReplaceAllStringFunc(s, func(m string) string {
		return base64.StdEncoding.EncodeToString([]byte(unquote(t, b64.FindStringSubmatch(m)[1])))
	})
}

func unquote(t *testing.T, s string) string {
	t.Helper()
	u, err := strconv.Unquote(fmt.Sprintf(`"%s"`, s))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return u
}
