package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/queue"
	"mittente/internal/signer"
	"mittente/internal/spool"
)

// The exit codes of every command; docs/cli.md lists them for operators.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitConfig      = 5
	exitUnavailable = 6
	exitInterrupted = 130
)

// Errors that commands wrap, so that the exit code tells them apart.
var (
	errUsage       = errors.New("wrong use")
	errNotFound    = errors.New("not found")
	errConflict    = errors.New("conflict")
	errUnavailable = errors.New("not available")
	errSaid        = errors.New("already told") // the command has printed what went wrong
)

// exitMeanings is the table behind --help and docs/cli.md.
func exitMeanings() []struct {
	Code int
	Text string
} {
	return []struct {
		Code int
		Text string
	}{
		{exitOK, "done"},
		{exitFailure, "it failed; of send: the mail was refused"},
		{exitUsage, "wrong use of the command line, or a value that is not valid"},
		{exitNotFound, "there is no such user, domain, message, …"},
		{exitConflict, "it is there already, or a rule forbids it now"},
		{exitConfig, "the configuration is not valid"},
		{exitUnavailable, "the database, the data folder or the running relay is not available"},
		{exitInterrupted, "interrupted"},
	}
}

func exitCodeHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, m := range exitMeanings() {
		fmt.Fprintf(&b, "  %-3d  %s\n", m.Code, m.Text)
	}
	return b.String()
}

// exitCode is the one table from errors to exit codes.
func exitCode(err error) int {
	var parse *kong.ParseError
	var config configError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &parse), isAny(err, errUsage, account.ErrInvalid):
		return exitUsage
	case errors.As(err, &config):
		return exitConfig
	case isAny(err, errNotFound, account.ErrNotFound, queue.ErrNotFound, event.ErrNotFound, alert.ErrNotFound, spool.ErrGone):
		return exitNotFound
	case isAny(err, errConflict, account.ErrConflict, queue.ErrMove):
		return exitConflict
	case isAny(err, errUnavailable, db.ErrUnavailable, db.ErrFull, db.ErrNewer, db.ErrNotABackup, signer.ErrOtherSecret, fs.ErrPermission):
		return exitUnavailable
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	default:
		return exitFailure
	}
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}
