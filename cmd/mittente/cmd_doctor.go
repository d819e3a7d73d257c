package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"mittente/internal/dns"
	"mittente/internal/mail"
)

type doctorCmd struct {
	Outbound string        `default:"gmail.com" help:"Try port 25 of this domain's mail exchangers; \"none\" tries nobody." placeholder:"DOMAIN"`
	Timeout  time.Duration `default:"10s"       help:"For each check that asks the network."`
}

// findings are what a check comes to.
const (
	findingOK   = "ok"
	findingWarn = "warning" // works, but will cost
	findingFail = "failed"  // does not work
	findingSkip = "skipped" // could not be looked at
)

// finding is one line of the doctor.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

func fine(format string, args ...any) finding {
	return finding{State: findingOK, Detail: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) finding {
	return finding{State: findingSkip, Detail: fmt.Sprintf(format, args...)}
}

func warning(fix, format string, args ...any) finding {
	return finding{State: findingWarn, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

func failure(fix, format string, args ...any) finding {
	return finding{State: findingFail, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

// doctor is what the checks look at.
type doctor struct {
	cfg      *loaded
	app      *app
	resolver *dns.Resolver
	house    *house // nil: there is no database, or it can't be opened
	trouble  error  // why
	outbound string
	timeout  time.Duration
}

// check is one thing to look at. Those that ask the network run side by side.
type check struct {
	name string
	run  func(*doctor, context.Context) finding
}

func checks() []check {
	return []check{
		{"configuration", (*doctor).seesConfiguration},
		{"hostname", (*doctor).seesHostname},
		{"reverse DNS", (*doctor).seesReverse},
		{"resolver", (*doctor).seesResolver},
		{"signing", (*doctor).seesSigning},
		{"outbound port", (*doctor).seesOutbound},
		{"ports", (*doctor).seesPorts},
		{"certificate", (*doctor).seesCertificate},
		{"secret key", (*doctor).seesSecret},
		{"database", (*doctor).seesDatabase},
		{"what a 250 is worth", (*doctor).seesDurability},
		{"disk", (*doctor).seesDisk},
		{"clock", (*doctor).seesClock},
		{"queue", (*doctor).seesQueue},
	}
}

// Run looks at everything that has to be right and prints what it finds. It
// fails when something does not work.
func (c doctorCmd) Run(ctx context.Context, a *app) error {
	d := &doctor{app: a, outbound: c.Outbound, timeout: c.Timeout}
	if c.Outbound != "none" {
		if _, err := mail.ParseDomain(c.Outbound); err != nil {
			return fmt.Errorf("%w: --outbound: %w", errUsage, err)
		}
	}
	var err error
	if d.cfg, err = a.load(); err != nil {
		return err
	}
	if d.resolver, err = newResolver(d.cfg.DNS, nil); err != nil {
		return err
	}
	if d.house, d.trouble = a.open(ctx, reads); d.house != nil {
		defer func() { _ = d.house.close() }()
	}
	found := d.examine(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.print(found); err != nil {
		return err
	}
	for _, f := range found {
		if f.State == findingFail {
			return fmt.Errorf("%w: not everything works", errSaid)
		}
	}
	return nil
}

// examine runs the checks side by side, each within its time.
func (d *doctor) examine(ctx context.Context) []finding {
	all := checks()
	found := make([]finding, len(all))
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, d.timeout)
			defer cancel()
			found[i] = c.run(d, ctx)
			found[i].Check = c.name
		})
	}
	wg.Wait()
	return found
}

func (d *doctor) print(found []finding) error {
	if d.app.output != "table" {
		return emit(d.app, found)
	}
	counts := map[string]int{}
	for _, f := range found {
		counts[f.State]++
		d.printOne(d.app.out, f)
	}
	_, err := fmt.Fprintf(d.app.out, "\n%d ok, %s, %d failed, %d skipped\n",
		counts[findingOK], count(counts[findingWarn], "warning"), counts[findingFail], counts[findingSkip])
	return err
}

func (d *doctor) printOne(w io.Writer, f finding) {
	pad := strings.Repeat(" ", len(findingWarn)-len(f.State))
	fmt.Fprintf(w, "%s%s  %s: %s\n", d.app.paint(f.State), pad, f.Check, oneLine(f.Detail, 400))
	if f.Fix != "" {
		fmt.Fprintf(w, "%*s  → %s\n", len(findingWarn), "", d.app.hint(f.Fix))
	}
}

// lookedUp is the finding of a name that could not be looked up; ok is false when err is nil.
func lookedUp(name string, err error) (f finding, bad bool) {
	switch {
	case err == nil:
		return f, false
	case errors.Is(err, dns.ErrNotFound):
		return failure("Publish it in the DNS of its domain.", "%s does not exist in the DNS", name), true
	default:
		return skipped("%s can't be looked up now: %v", name, err), true
	}
}
