// Command mittente runs the relay; its subcommands are how an operator works with it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(runMain()) }

func runMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second signal ends at once: the first restores the default action.
	context.AfterFunc(ctx, stop)
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		environ: os.Environ(), color: isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "", person: isTerminal(os.Stderr),
	}
	return a.run(ctx, os.Args[1:])
}

// isTerminal reports whether a person is likely to read what is written to f.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
