package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The kernel's trace of the relay shows, for each of n messages: the final dot is
// read, then an fsync of the write-ahead log begins and returns 0, then "250 2.0.0
// Queued" is written. (A failing disk under the database is a test of room db.)
func TestFsyncComesBefore250(t *testing.T) {
	t.Parallel()
	need(t, "linux", "strace", "ptrace")
	const n = 20
	trace := filepath.Join(t.TempDir(), "trace")
	r := startRelay(t, relayConfig{wrap: []string{
		"strace", "-D", "-f", "-q", "-y", "-s", "4096", "-o", trace,
		"-e", "trace=fsync,fdatasync,read,recvfrom,recvmsg,write,writev,sendto,sendmsg",
	}})
	c := dialAs(t, r.smtp, r.setUp())
	messages := make([]string, n)
	for i := range n {
		content := simple("bob@"+rcptDomain, fmt.Sprintf("traced-%d-", i))
		messages[i] = queuedID(t, c.mail("250", fromAddr, "bob@"+rcptDomain, content))
	}
	r.stop()
	var lines []string
	waitFor(t, 10*time.Second, "the trace is complete", func() bool {
		b, err := os.ReadFile(trace)
		lines = strings.Split(string(b), "\n")
		return err == nil && strings.Contains(string(b), "+++ exited with 0 +++")
	})
	for i, message := range messages {
		if err := syncedBefore(lines, fmt.Sprintf("Subject: traced-%d-", i), "250 2.0.0 Queued as "+message); err != nil {
			t.Error(err)
		}
	}
}

// syncedBefore looks for the read of a content, the write of its reply, and an
// fsync of the write-ahead log that begins and ends well between them.
func syncedBefore(lines []string, content, reply string) error {
	dot, said := -1, -1
	for i, line := range lines {
		switch {
		case dot < 0 && strings.Contains(line, content) && strings.Contains(line, `\r\n.\r\n`):
			dot = i
		case said < 0 && strings.Contains(line, reply) && strings.Contains(line, "write("):
			said = i
		}
	}
	if dot < 0 || said < dot {
		return fmt.Errorf("%s: content in line %d of the trace, reply in line %d", content, dot, said)
	}
	begins := regexp.MustCompile(`^(\d+) +f(?:data)?sync\(\d+<[^>]*/mittente\.db-wal>(?:\) += 0| <unfinished)`)
	for i := dot + 1; i < said; i++ {
		m := begins.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		if strings.HasSuffix(lines[i], "= 0") {
			return nil
		}
		ends := regexp.MustCompile(`^` + m[1] + ` +<\.\.\. f(?:data)?sync resumed>\) += 0$`)
		if slices.ContainsFunc(lines[i+1:said], ends.MatchString) {
			return nil
		}
	}
	return fmt.Errorf("%s: no fsync of the write-ahead log between final dot and reply:\n%s", content, strings.Join(lines[dot:said+1], "\n"))
}
