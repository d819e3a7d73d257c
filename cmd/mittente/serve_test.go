package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const serverConfig = `hostname = "mx.test.example"
data_dir = "data"
[smtp]
bind = ["127.0.0.1"]
ports = ["0"]
[http]
listen = "127.0.0.1:0"
[dns]
servers = ["127.0.0.1:1"]
`

// server is a process that tells a service manager, the test, how it is.
type server struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	states chan string
	ended  chan error
}

func startServer(t *testing.T, env ...string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), states: make(chan string, 100), ended: make(chan error, 1)}
	config := filepath.Join(s.dir, "mittente.toml")
	if err := os.WriteFile(config, []byte(serverConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(s.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1024)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			s.states <- string(buf[:n])
		}
	}()
	s.cmd = exec.Command("mittente", "-c", config, "serve")
	s.cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+socket), env...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		l.Close()
	})
	return s
}

// told waits for a state that begins so.
func (s *server) told(want string) string {
	s.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case state := <-s.states:
			if strings.HasPrefix(state, want) {
				return state
			}
		case <-limit:
			s.t.Fatalf("the service manager was not told %s", want)
		}
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// dial opens a session at the server's port and reads the greeting.
func (s *server) dial() (net.Conn, *bufio.Reader) {
	s.t.Helper()
	out, err := exec.Command("mittente", "-c", filepath.Join(s.dir, "mittente.toml"), "ports", "-o", "jsonl").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(out), `"ports":"`)
	port, _, _ := strings.Cut(rest, `"`)
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 ") {
		s.t.Fatal(line, err)
	}
	return conn, r
}

// TestSystemdIsTold of readiness, health, reload and end; a session that does
// nothing does not hold the end up.
func TestSystemdIsTold(t *testing.T) {
	s := startServer(t, "WATCHDOG_USEC=200000")
	if state := s.told("READY=1"); !strings.Contains(state, "STATUS=serving on 1 ports") {
		t.Errorf("ready with %q", state)
	}
	s.told("WATCHDOG=1")
	s.signal(syscall.SIGHUP)
	if state := s.told("RELOADING=1"); !strings.Contains(state, "\nMONOTONIC_USEC=") {
		t.Errorf("reloading with %q", state)
	}
	s.told("READY=1")
	conn, r := s.dial()
	defer conn.Close()
	s.signal(syscall.SIGTERM)
	s.told("STOPPING=1")
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "421 4.3.2 ") {
		t.Errorf("the idle session was told %q, %v", line, err)
	}
	err := <-s.ended
	s.ended <- err
	if err != nil {
		t.Errorf("ended with %v", err)
	}
}

// TestSecondSignalEndsAtOnce although a transaction is running.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	s := startServer(t)
	s.told("READY=1")
	exe := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("mittente", append([]string{"-c", filepath.Join(s.dir, "mittente.toml")}, args...)...).Output()
		if err != nil {
			t.Fatal(args, err)
		}
		return string(out)
	}
	exe("domain", "add", "shop.example")
	exe("domain", "verify", "shop.example", "--override", "--reason", "test")
	out := exe("user", "add", "--domain", "shop.example", "--active", "--require-tls=false", "-o", "jsonl")
	_, rest, _ := strings.Cut(out, `"password":"`)
	password, _, _ := strings.Cut(rest, `"`)
	conn, r := s.dial()
	defer conn.Close()
	d := &dialogue{conn: conn, r: r, w: bufio.NewWriter(conn)}
	if _, err := d.hello(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.authenticate("s1_1", password); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"MAIL FROM:<a@shop.example>", "RCPT TO:<b@away.example>"} {
		if _, err := d.ask(line, line, 250); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.ask("DATA", "DATA", 354); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "Subject: it never ends\r\n\r\n")
	s.signal(syscall.SIGTERM)
	s.told("STOPPING=1")
	select {
	case err := <-s.ended:
		t.Fatalf("ended with %v while a transaction was running", err)
	case <-time.After(300 * time.Millisecond):
	}
	s.signal(syscall.SIGTERM)
	select {
	case err := <-s.ended:
		s.ended <- err
	case <-time.After(10 * time.Second):
		t.Error("still there after the second signal")
	}
}
