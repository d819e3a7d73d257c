// Package smtptest plays the client of SMTP transcripts against a server in tests.
package smtptest

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Transcript is a file that is read by lines:
//
//	# a comment
//	C: a line of the client, to which CRLF is added
//	C> octets of the client as they are, with Go's escapes: \r \n \x00
//	S: a line of the server
//	! option NAME   before the session: what the server is to be
//	! tls           the client shakes hands
//	! wait 5m       time goes by
//	! closed        the server has closed the connection
//	! hang up       the client closes it
//	! shutdown      the server is told to end
//
// <b64:text> within a client's line is its base64 with Go's escapes. Lines of
// the client that follow one another leave in one segment. After them the
// server must say exactly the S: lines that follow, in one write. A transcript
// can also be played octet by octet, unless it has "! option once".
type Transcript struct{ name, text string }

// Read returns the transcripts of a folder.
func Read(tb testing.TB, folder string) []Transcript {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no transcripts: %v", err)
	}
	all := make([]Transcript, 0, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // a file of the test
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, Transcript{strings.TrimSuffix(filepath.Base(file), ".txt"), string(text)})
	}
	return all
}

// Has reports whether the transcript has an option.
func (tr Transcript) Has(option string) bool {
	return strings.Contains(tr.text, "! option "+option+"\n")
}

// Run plays the transcript in one segment and octet by octet, as subtests in
// bubbles of their own. dial opens a session with a server that is what the
// options say, and returns what makes that server end.
func (tr Transcript) Run(t *testing.T, dial func(*testing.T, Transcript) (client *Client, shutdown func())) {
	t.Helper()
	play := func(step int) func(*testing.T) {
		return func(t *testing.T) { //nolint:thelper // the test itself
			synctest.Test(t, func(t *testing.T) {
				client, shutdown := dial(t, tr)
				p := &player{Client: client, t: t, step: step, shutdown: shutdown}
				for n, line := range strings.Split(strings.TrimSuffix(tr.text, "\n"), "\n") {
					p.line(n+1, line)
				}
				p.settle()
				_ = p.Conn.Close()
				synctest.Wait()
				shutdown()
			})
		}
	}
	t.Run(tr.name, play(0))
	if !tr.Has("once") {
		t.Run(tr.name+" octet by octet", play(1))
	}
}

// player is the client of a transcript.
type player struct {
	*Client

	t        *testing.T
	shutdown func()
	step     int      // octets sent at once; 0: all there are
	segment  []byte   // of the client, not sent yet
	want     []string // lines of the server
	at       int      // line of the transcript where the segment began
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
	step := p.step
	if step == 0 {
		step = len(p.segment)
	}
	for i := 0; i < len(p.segment); i += step {
		if _, err := p.Conn.Write(p.segment[i : i+step]); err != nil {
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
	want := strings.Join(append(p.want, ""), "\r\n")
	if got != want {
		p.t.Errorf("line %d: the server says\n%swant\n%s", p.at, got, want)
	}
	_, encrypted := p.Conn.(*tls.Conn)
	waits := strings.Contains(got, "354 ")
	if sent && p.step == 0 && !encrypted && p.in.writes > 1 && !p.in.closed && !waits {
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
		if _, err := p.Handshake(&tls.Config{InsecureSkipVerify: true}); err != nil { //nolint:gosec // a test's own certificate
			p.t.Fatal(err)
		}
	case "wait":
		d, err := time.ParseDuration(arg)
		if err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(d)
	case "shutdown":
		p.shutdown()
	case "hang":
		_ = p.Conn.Close()
	case "closed":
		if !p.HungUp() {
			p.t.Errorf("line %d: the connection is still open", n)
		}
	default:
		p.t.Fatalf("line %d: %q", n, what)
	}
}

func expand(t *testing.T, s string) string {
	t.Helper()
	b64 := regexp.MustCompile(`<b64:([^>]*)>`)
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
