package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
)

// cli is the command line: one field per command, each in a file of its own.
type cli struct {
	Config string `env:"MITTENTE_CONFIG" help:"Configuration file; \"-\" is standard input. Default: /etc/mittente/mittente.toml if it is there." placeholder:"FILE" short:"c"`
	Output string `default:"table"       enum:"table,json,jsonl"                                                                               env:"MITTENTE_OUTPUT" help:"How to print: ${enum}." short:"o"`

	ShowVersion kong.VersionFlag `help:"Print the version." name:"version"`

	Demo       demoCmd       `cmd:"" help:"Try it out: a relay on loopback, a first mail through it, and an inbox that shows what arrives."`
	Init       initCmd       `cmd:"" help:"Write a documented configuration file and make the data folder."`
	Serve      serveCmd      `cmd:"" help:"Run the relay."`
	Conf       configCmd     `cmd:"" help:"Check or print the configuration."                                                               name:"config"`
	Account    accountCmd    `cmd:"" help:"Accounts: each with its own lists, domains and senders."`
	List       listCmd       `cmd:"" help:"Lists: an account's isolated environments."`
	User       userCmd       `cmd:"" help:"SMTP+ users: the names and passwords by which applications send."`
	Domain     domainCmd     `cmd:"" help:"Sender domains: their DNS records and their verification."`
	Sender     senderCmd     `cmd:"" help:"Sender addresses: their owners are asked by mail."`
	Queue      queueCmd      `cmd:"" help:"Recipients that wait, and those that went."`
	Message    messageCmd    `cmd:"" help:"Accepted messages: what became of them, and their bytes."`
	Alert      alertCmd      `cmd:"" help:"Troubles that an operator should know of, repeated ones in one entry."`
	Audit      auditCmd      `cmd:"" help:"Who did what."`
	Ports      portsCmd      `cmd:"" help:"The ports a running relay listens on, and those it skipped."`
	Send       sendCmd       `cmd:"" help:"Send a test mail through the running relay's own door and show the transcript."`
	Doctor     doctorCmd     `cmd:"" help:"Look at everything that has to be right, and say what to do about what is not."`
	Backup     backupCmd     `cmd:"" help:"Write the database to a file while the relay runs on."`
	Restore    restoreCmd    `cmd:"" help:"Put a backup in the place of the database; the relay must not run."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print a completion script for a shell."`
}

// app is what every command is handed: where it reads and writes, and the flags of all.
type app struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
	color    bool // out is a terminal
	person   bool // err is one
	config   string
	output   string
	model    *kong.Application
}

// exited is how kong's wish to end the process reaches run.
type exited int

// run executes one command line and returns the exit code of the process.
func (a *app) run(ctx context.Context, args []string) (code int) {
	defer func() {
		if e := recover(); e != nil {
			status, ok := e.(exited)
			if !ok {
				panic(e)
			}
			code = int(status)
		}
	}()
	var c cli
	parser, err := kong.New(&c, a.options()...)
	if err != nil {
		return a.report(err)
	}
	a.model = parser.Model
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return a.report(withBoolHint(err, args))
	}
	a.config, a.output = c.Config, c.Output
	parsed.BindTo(ctx, (*context.Context)(nil))
	return a.report(parsed.Run(a))
}

func (a *app) options() []kong.Option {
	return []kong.Option{
		kong.Name("mittente"),
		kong.Description("mittente accepts mail from applications, signs it and delivers it."),
		kong.Writers(a.out, a.err),
		kong.Vars{"version": buildInfo().String()},
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Help(helpWithExitCodes),
		kong.ShortUsageOnError(),
	}
}

func helpWithExitCodes(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	if ctx.Selected() != nil {
		return nil
	}
	_, err := fmt.Fprintf(ctx.Stdout, "\n%s", exitCodeHelp())
	return err
}

// withBoolHint says how a switch is turned off, to someone who wrote a space for
// the equals sign: --require-tls false.
func withBoolHint(err error, args []string) error {
	usage, ok := errors.AsType[*kong.ParseError](err)
	if !ok {
		return err
	}
	for i, arg := range args[:len(args)-1] {
		value := args[i+1]
		if strings.HasPrefix(arg, "--") && (value == "true" || value == "false") && strings.Contains(err.Error(), "unexpected argument "+value) {
			return fmt.Errorf("%w: write %s=%s", usage, arg, value)
		}
	}
	return err
}

// again is the program as it was called, for commands to be pasted.
func (a *app) again() string {
	if a.config == "" || a.config == "-" {
		return "mittente"
	}
	return "mittente -c " + shellWord(a.config)
}

// hint returns a text for people in which every command of mittente reads as it
// has to be typed to reach the same configuration. A `domain ls` between
// backquotes is a command as well.
func (a *app) hint(text string) string {
	const commands = `((?:account|alert|audit|backup|completion|config|demo|doctor|domain|init|list|message|ports|queue|restore|send|sender|serve|user|version)\b)`
	again := strings.ReplaceAll(a.again(), "$", "$$")
	text = regexp.MustCompile(`\bmittente `+commands).ReplaceAllString(text, again+" $1")
	return regexp.MustCompile("`"+commands).ReplaceAllString(text, "`"+again+" $1")
}

// shellWord quotes what a shell would not take for one word.
func shellWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("-_./:@%+,", r) && !isAlphanumeric(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func isAlphanumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// report says what went wrong, if anything did, and returns the exit code for it.
func (a *app) report(err error) int {
	code := exitCode(err)
	if code == exitOK || errors.Is(err, errSaid) {
		return code
	}
	fmt.Fprintf(a.err, "mittente: %s\n", a.hint(err.Error()))
	if usage, ok := errors.AsType[*kong.ParseError](err); ok {
		command := ""
		if sel := usage.Context.Selected(); sel != nil {
			command = sel.Path() + " "
		}
		fmt.Fprintf(a.err, "Try: mittente %s--help\n", command)
	}
	return code
}
