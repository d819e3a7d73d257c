package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestInbox holds a dialogue with the demo's inbox, line by line.
func TestInbox(t *testing.T) {
	arrived := make(chan capture, 1)
	i, err := newInbox(t.Context(), t.TempDir(), arrived)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.run(ctx) }()
	conn, err := net.Dial("tcp", i.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	for n, step := range []struct{ say, want string }{
		{"", "220 "},
		{"HELO a.example", "250 "},
		{"DATA", "503 "},
		{"RCPT TO:<b@example.net>", "503 "},
		{"MAIL FROM:<nonsense", "501 "},
		{"MAIL FROM:<a@example.com>", "250 "},
		{"RCPT TO:<>", "501 "},
		{"RCPT TO:<b@example.net>", "250 "},
		{"VRFY b", "502 "},
		{"DATA", "354 "},
		{"Subject: Hello\r\n\r\n..dot\r\n.", "250 Captured as 0001.eml"},
		{"RSET", "250 "},
		{"NOOP", "250 "},
		{"\x01", "500 "},
		{"QUIT", "221 "},
	} {
		if n > 0 {
			fmt.Fprintf(conn, "%s\r\n", step.say)
		}
		got, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(got, step.want) {
			t.Fatalf("C: %s\nS: %s(%v)\nwant %s", step.say, got, err, step.want)
		}
	}
	c := <-arrived
	if c.from != "a@example.com" || len(c.to) != 1 || c.subject() != "Hello" || string(c.content) != "Subject: Hello\r\n\r\n.dot\r\n" {
		t.Errorf("captured %+v", c)
	}
	if text, err := os.ReadFile(c.file); err != nil || string(text) != string(c.content) {
		t.Errorf("the file holds %q, %v", text, err)
	}
	open, err := net.Dial("tcp", i.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	cancel() // ends connections that are open, too
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDialogueShowsNoSecret, whatever the server answers.
func TestDialogueShowsNoSecret(t *testing.T) {
	for name, server := range map[string]string{
		"refused": "220 hi\r\n|250 hi\r\n|535 5.7.8 no\r\n|221 bye\r\n",
		"broken":  "220 hi\r\n|250-hi\r\n250 STARTTLS\r\n|nonsense\r\n",
		"closed":  "220 hi\r\n|250 hi\r\n|",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				r := bufio.NewReader(conn)
				for n, reply := range strings.Split(server, "|") {
					if n > 0 {
						_, _ = r.ReadString('\n')
					}
					fmt.Fprint(conn, reply)
				}
			}()
			_, transcript, err := handIn(t.Context(), l.Addr().String(), handedIn{
				username: "s1_1", password: "hunter2hunter2", from: "a@example.com", to: "b@example.net", tls: "may",
			}, nil)
			if err == nil || len(transcript) == 0 {
				t.Fatalf("got %v and %q", err, transcript)
			}
			all := strings.Join(transcript, "\n") + err.Error()
			if strings.Contains(all, "hunter2") || strings.Contains(all, "AHMxXz") {
				t.Errorf("the secret is shown:\n%s", all)
			}
		})
	}
}
