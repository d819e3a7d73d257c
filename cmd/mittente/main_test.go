package main

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary answer as mittente in the stories.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mittente": main})
}

// TestScript runs the stories of testdata/script: what an operator types, and
// what comes of it.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("USER", "")
			env.Setenv("SUDO_USER", "")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits,
			"until": cmdUntil,
			"value": cmdValue,
			"hup":   func(ts *testscript.TestScript, _ bool, args []string) { signalServer(ts, args, syscall.SIGHUP) },
			"term":  func(ts *testscript.TestScript, _ bool, args []string) { signalServer(ts, args, syscall.SIGTERM) },
		},
	})
}

// cmdExits runs a command and wants its exit code: exits 3 mittente user show s1_9
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdUntil runs a command until it succeeds, for at most half a minute.
func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: until COMMAND…")
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s has not succeeded: %v", strings.Join(args, " "), err)
		}
	}
}

// cmdValue puts the value of a JSON member, as it stands in the last output, into
// a variable: value PASSWORD password
func cmdValue(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: value VARIABLE MEMBER")
	}
	_, rest, ok := strings.Cut(ts.ReadFile("stdout"), `"`+args[1]+`": "`)
	if !ok {
		ts.Fatalf("the output has no %s", args[1])
	}
	value, _, _ := strings.Cut(rest, `"`)
	ts.Setenv(args[0], value)
}

// signalServer signals the server that holds a data folder: term data
func signalServer(ts *testscript.TestScript, args []string, s syscall.Signal) {
	text := ts.ReadFile(ts.MkAbs(args[0] + "/" + lockName))
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, s))
}
