package main

import (
	"bytes"
	_ "embed" // the default configuration
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// defaultFile is the documented default configuration. It is decoded below every
// other source, so that what is printed and what holds can't differ.
//
//go:embed mittente.toml
var defaultFile string

// systemConfig is read when no -c is given, if it is there.
const systemConfig = "/etc/mittente/mittente.toml"

// Config is what an operator may set; mittente.toml documents every key.
type Config struct {
	Hostname      string          `toml:"hostname"`
	DataDir       string          `toml:"data_dir"`
	Database      string          `secret:"url"           toml:"database"`
	SecretKeyFile string          `toml:"secret_key_file"`
	SMTP          SMTPConfig      `toml:"smtp"`
	TLS           KeyPairConfig   `toml:"tls"`
	HTTP          HTTPConfig      `toml:"http"`
	DNS           DNSConfig       `toml:"dns"`
	Delivery      DeliveryConfig  `toml:"delivery"`
	Routes        []RouteConfig   `toml:"route"`
	Sites         []SiteConfig    `toml:"site"`
	Notify        NotifyConfig    `toml:"notify"`
	Storage       StorageConfig   `toml:"storage"`
	Retention     RetentionConfig `toml:"retention"`
	Log           LogConfig       `toml:"log"`
}

// SMTPConfig is the section [smtp].
type SMTPConfig struct {
	Bind            []string `toml:"bind"`
	Ports           []string `toml:"ports"`
	PlaintextAuth   string   `toml:"plaintext_auth"`
	MaxMessageBytes int64    `toml:"max_message_bytes"`
	MaxRecipients   int      `toml:"max_recipients"`
	BareNewlines    string   `toml:"bare_newlines"`
	LongLines       string   `toml:"long_lines"`
	MaxConnections  int      `toml:"max_connections"`
	MaxPerClient    int      `toml:"max_per_client"`
	MaxPerConn      int      `toml:"max_per_connection"`
}

// KeyPairConfig is the section [tls], and the same two keys of [http].
type KeyPairConfig struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
}

// HTTPConfig is the section [http].
type HTTPConfig struct {
	Listen       string   `toml:"listen"`
	PublicURL    string   `toml:"public_url"`
	Cert         string   `toml:"cert"`
	Key          string   `toml:"key"`
	MetricsAllow []string `toml:"metrics_allow"`
}

// DNSConfig is the section [dns].
type DNSConfig struct {
	Servers []string `toml:"servers"`
}

// DeliveryConfig is the section [delivery].
type DeliveryConfig struct {
	Port int `toml:"port"`
}

// RouteConfig is one block [[route]].
type RouteConfig struct {
	Domain   string `toml:"domain"`
	NextHop  string `toml:"next_hop"`
	TLS      string `toml:"tls"`
	Username string `toml:"username"`
	Password string `secret:"yes"     toml:"password"`
}

// SiteConfig is one block [[site]].
type SiteConfig struct {
	Name          string   `toml:"name"`
	Match         []string `toml:"match"`
	Connections   int      `toml:"connections"`
	Together      int      `toml:"together"`
	PerConnection int      `toml:"per_connection"`
	Rate          string   `toml:"rate"`
}

// NotifyConfig is the section [notify].
type NotifyConfig struct {
	From string `toml:"from"`
}

// StorageConfig is the section [storage].
type StorageConfig struct {
	ReserveBytes    int64 `toml:"reserve_bytes"`
	ContentMaxBytes int64 `toml:"content_max_bytes"`
}

// RetentionConfig is the section [retention].
type RetentionConfig struct {
	Delivered Duration `toml:"delivered"`
	Failed    Duration `toml:"failed"`
	Events    Duration `toml:"events"`
}

// LogConfig is the section [log].
type LogConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Duration is the text of a duration: what time.ParseDuration reads, or days, "90d".
type Duration string

const day = 24 * time.Hour

// Parse returns the duration, which is not negative and at most 36,500 days.
func (d Duration) Parse() (time.Duration, error) {
	n, err := time.ParseDuration(string(d))
	if days, ok := strings.CutSuffix(string(d), "d"); ok {
		var count uint64
		count, err = strconv.ParseUint(days, 10, 16)
		n = time.Duration(count) * day
	}
	if err != nil || n < 0 || n > 36_500*day {
		return 0, fmt.Errorf("%q is not a duration like \"30s\", \"15m\", \"24h\" or \"90d\"", string(d))
	}
	return n, nil
}

// loaded is a configuration, and where its values were written.
type loaded struct {
	Config
	file    string            // as named by the operator; "" when none was read
	origin  map[string]string // key → "file:line" or "environment NAME"; default when absent
	secret  string            // MITTENTE_SECRET_KEY
	unknown []string          // MITTENTE_… variables that name no key
}

// load reads the configuration: defaults, then the file (name "" takes the
// system's if it is there, "-" reads in), then the environment. Every fault found
// is in the error, a configError.
func load(name string, in io.Reader, environ []string) (*loaded, error) {
	l := &loaded{origin: map[string]string{}}
	if err := decode([]byte(defaultFile), &l.Config); err != nil {
		return nil, fmt.Errorf("default configuration: %w", err)
	}
	text, err := l.read(name, in)
	if err != nil {
		return nil, err
	}
	if faults := l.decodeFile(text); len(faults) > 0 {
		return nil, configError(sorted(faults))
	}
	if faults := l.applyEnv(environ); len(faults) > 0 {
		return nil, configError(faults)
	}
	l.complete()
	if faults := l.validate(); len(faults) > 0 {
		return nil, configError(sorted(faults))
	}
	return l, nil
}

func (l *loaded) read(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		l.file = "standard input"
		return io.ReadAll(io.LimitReader(in, 1<<20))
	}
	l.file = name
	if name == "" {
		l.file = systemConfig
	}
	text, err := os.ReadFile(l.file)
	switch {
	case name == "" && errors.Is(err, fs.ErrNotExist):
		l.file = ""
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, configError{{Where: name, Text: "there is no such file", Fix: "make one with: mittente -c " + name + " init"}}
	case err != nil:
		return nil, configError{{Where: l.file, Text: err.Error()}}
	}
	return text, nil
}

// complete fills what depends on the machine and makes paths absolute.
func (l *loaded) complete() {
	if l.Hostname == "" {
		l.Hostname = systemHostname()
	}
	if l.DataDir == "" {
		l.DataDir = defaultDataDir()
	}
	for _, p := range []struct {
		key  string
		path *string
	}{
		{"data_dir", &l.DataDir},
		{"secret_key_file", &l.SecretKeyFile},
		{"tls.cert", &l.TLS.Cert},
		{"tls.key", &l.TLS.Key},
		{"http.cert", &l.HTTP.Cert},
		{"http.key", &l.HTTP.Key},
	} {
		*p.path = l.absolute(p.key, *p.path)
	}
	for i := range l.Routes {
		if l.Routes[i].TLS == "" {
			l.Routes[i].TLS = "may"
		}
	}
	if l.Notify.From == "" {
		l.Notify.From = l.postmaster()
	}
}

// postmaster is the address of the house when none is configured.
func (l *loaded) postmaster() string { return "postmaster@" + l.Hostname }

func (l *loaded) absolute(key, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	if l.file != "" && strings.HasPrefix(l.origin[key], l.file+":") {
		path = filepath.Join(filepath.Dir(l.file), path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// secretPath is where the secret key is, or will be made.
func (l *loaded) secretPath() string {
	if l.SecretKeyFile != "" {
		return l.SecretKeyFile
	}
	return filepath.Join(l.DataDir, "secret.key")
}

func decode(text []byte, into *Config) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// systemHostname is the machine's name, with its domain where /etc/hosts tells it.
func systemHostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	if strings.Contains(name, ".") {
		return name
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		return name + ".localdomain"
	}
	for line := range strings.Lines(string(hosts)) {
		line, _, _ = strings.Cut(line, "#")
		names := strings.Fields(line)
		for _, n := range names {
			if n == name && strings.Contains(names[1], ".") {
				return names[1]
			}
		}
	}
	return name + ".localdomain"
}

// defaultDataDir is /var/lib/mittente for root and for who owns that folder, else a
// folder of the person who runs the command.
func defaultDataDir() string {
	const system = "/var/lib/mittente"
	if os.Geteuid() == 0 || ownedBy(system, os.Geteuid()) {
		return system
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "mittente")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return system
	}
	return filepath.Join(home, ".local", "share", "mittente")
}
