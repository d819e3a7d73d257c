package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"mittente/internal/signer"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Say whether the configuration is valid, and what it means."`
	Print configPrintCmd `cmd:"" help:"Print the configuration in effect, every key documented, secrets masked."`
}

type configPrintCmd struct {
	Default bool `help:"Print the defaults instead."`
}

// Run prints the configuration in the form of its file, or as an object.
func (c configPrintCmd) Run(a *app) error {
	var wanted Config
	if c.Default {
		if err := decode([]byte(defaultFile), &wanted); err != nil {
			return err
		}
	} else {
		l, err := a.load()
		if err != nil {
			return err
		}
		wanted = l.Config
	}
	if a.output != "table" {
		return emitOne(a, configObject(&wanted), nil)
	}
	return printConfig(a.out, &wanted)
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
	return l.places()
}

// places looks at folder and secret key, as far as they are there and this person
// may see them: serve would not start with what is found wrong here.
func (l *loaded) places() error {
	if info, err := os.Stat(l.DataDir); err == nil && !info.IsDir() {
		return fmt.Errorf("%w: data_dir %s is not a folder", errUnavailable, l.DataDir)
	}
	_, err := signer.LoadSecret(l.secretPath())
	if l.secret != "" || err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return fmt.Errorf("%w: %w", errUnavailable, err)
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

// nobodyReaches reports whether a browser elsewhere can't follow the URL.
func nobodyReaches(publicURL string) bool {
	u, err := url.Parse(publicURL)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && (addr.IsLoopback() || addr.IsUnspecified())
}

// readableByOthers reports whether the file holds a password of a route that
// everyone on this machine may read.
func (l *loaded) readableByOthers() bool {
	info, err := os.Stat(l.file)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return false
	}
	for i := range l.Routes {
		if strings.HasPrefix(l.origin[fmt.Sprintf("route.%d.password", i+1)], l.file+":") {
			return true
		}
	}
	return false
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
	if named := !strings.HasSuffix(l.Hostname, ".localdomain") && !strings.HasSuffix(l.Hostname, ".localhost"); named && nobodyReaches(l.HTTP.PublicURL) {
		w = append(w, "http.public_url: "+l.HTTP.PublicURL+" leads to this machine only: the links in refusals, which clients elsewhere are shown, lead nowhere")
	}
	if l.readableByOthers() {
		w = append(w, l.file+": holds a password and everyone on this machine may read it: chmod o-rwx, or MITTENTE_ROUTE_1_PASSWORD_FILE")
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
