package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Say whether the configuration is valid, and what it means."`
	Print configPrintCmd `cmd:"" help:"Print the configuration in effect, every key documented, secrets masked."`
}

type configPrintCmd struct {
	Default bool `help:"Print the defaults instead."`
}

// Run prints the configuration; it has one form, that of its file.
func (c configPrintCmd) Run(a *app) error {
	if c.Default {
		_, err := io.WriteString(a.out, defaultFile)
		return err
	}
	l, err := a.load()
	if err != nil {
		return err
	}
	return printConfig(a.out, &l.Config)
}

type configCheckCmd struct{}

type checkReport struct {
	File     string   `json:"file"`
	Valid    bool     `json:"valid"`
	Faults   []fault  `json:"faults"`
	Warnings []string `json:"warnings"`
}

// Run checks the configuration and says what it found.
func (configCheckCmd) Run(a *app) error {
	l, err := a.load()
	var faults configError
	if err != nil && !errors.As(err, &faults) {
		return err
	}
	report := checkReport{File: a.config, Valid: err == nil, Faults: faults, Warnings: []string{}}
	if report.Faults == nil {
		report.Faults = []fault{}
	}
	if l != nil {
		report.File = l.file
		report.Warnings = append(report.Warnings, l.warnings()...)
	}
	if err := emitOne(a, report, func(w io.Writer) { printReport(w, a.err, l, report) }); err != nil {
		return err
	}
	if !report.Valid {
		return fmt.Errorf("%w: %w", errSaid, faults)
	}
	return nil
}

func printReport(out, errs io.Writer, l *loaded, r checkReport) {
	for _, f := range r.Faults {
		fmt.Fprintln(errs, f)
	}
	if !r.Valid {
		fmt.Fprintf(errs, "The configuration is not valid: %d to mend.\n", len(r.Faults))
		return
	}
	file := r.File
	if file == "" {
		file = "no file, defaults and environment"
	}
	var routes []string
	for _, route := range l.Routes {
		routes = append(routes, fmt.Sprintf("%s → %s (tls %s)", route.Domain, route.NextHop, route.TLS))
	}
	certificate := "self-signed, made at first start"
	if l.TLS.Cert != "" {
		certificate = l.TLS.Cert
	}
	fields(out,
		"configuration", file+": valid",
		"hostname", l.Hostname,
		"data folder", l.DataDir,
		"database", orText(l.Database, "SQLite in the data folder"),
		"secret key", orText(map[bool]string{true: "from the environment"}[l.secret != ""], l.secretPath()),
		"SMTP", strings.Join(l.SMTP.Ports, ", ")+" on "+strings.Join(l.SMTP.Bind, ", "),
		"certificate", certificate,
		"HTTP", orText(l.HTTP.Listen, "off"),
		"name servers", orText(strings.Join(l.DNS.Servers, ", "), "those of the system"),
		"routes", orText(strings.Join(routes, "; "), "none: by MX"),
	)
	for _, warning := range r.Warnings {
		fmt.Fprintln(out, "warning:", warning)
	}
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// warnings are what is valid, and still worth a second look.
func (l *loaded) warnings() []string {
	var w []string
	for _, name := range l.unknown {
		w = append(w, "environment "+name+": names no key, nothing reads it")
	}
	if strings.HasSuffix(l.Hostname, ".localdomain") {
		w = append(w, "hostname: "+l.Hostname+" is no name that other servers can look up")
	}
	if l.SMTP.MaxRecipients < 100 {
		w = append(w, "smtp.max_recipients: RFC 5321 §4.5.3.1.8 wants at least 100")
	}
	for i, r := range l.Routes {
		if r.Username != "" && (r.TLS == "none" || r.TLS == "may") {
			w = append(w, fmt.Sprintf("route.%d: with tls = %q its password may travel in clear", i+1, r.TLS))
		}
	}
	return w
}

// load reads the configuration this command line asks for.
func (a *app) load() (*loaded, error) { return load(a.config, a.in, a.environ) }
