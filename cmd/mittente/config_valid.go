package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mittente/internal/mail"
	"mittente/internal/signer"
	"mittente/internal/smtpserver"
	"mittente/internal/throttle"
)

// checker collects what is wrong with a configuration.
type checker struct {
	l      *loaded
	faults []fault
}

// validate returns what is wrong with the values, each with the place it was written.
func (l *loaded) validate() []fault {
	c := &checker{l: l}
	c.identity()
	c.smtp()
	c.http()
	c.outward()
	c.shaping()
	c.upkeep()
	return c.faults
}

func (c *checker) fail(key, text, fix string) {
	where := c.l.origin[key]
	if section, _ := splitKey(key); where == "" {
		where = c.l.origin[section] // a block's missing key is reported at the block
	}
	c.faults = append(c.faults, fault{Where: where, Key: key, Text: text, Fix: fix})
}

func (c *checker) identity() {
	if _, err := mail.ParseDomain(c.l.Hostname); err != nil {
		c.fail("hostname", fmt.Sprintf("%q is not a full domain name", c.l.Hostname), `want something like "mail.example.com"`)
	}
	switch db := c.l.Database; {
	case db == "":
	case strings.HasPrefix(db, "postgres://"), strings.HasPrefix(db, "postgresql://"):
		c.fail("database", "PostgreSQL comes with a later version", "leave database empty: SQLite in data_dir")
	default:
		c.fail("database", "there is no such kind of database", "leave database empty: SQLite in data_dir")
	}
	if key := c.l.secret; key != "" {
		if _, err := signer.ParseSecret(key); err != nil {
			c.faults = append(c.faults, fault{Where: "environment MITTENTE_SECRET_KEY", Text: err.Error()})
		}
	}
	if from := c.l.Notify.From; from != c.l.postmaster() { // else it is as good as the hostname
		if _, err := mail.ParseAddress(from); err != nil {
			c.fail("notify.from", err.Error(), `want something like "postmaster@example.com"`)
		}
	}
}

func (c *checker) smtp() {
	s := c.l.SMTP
	for _, addr := range s.Bind {
		if _, err := netip.ParseAddr(addr); err != nil {
			c.fail("smtp.bind", fmt.Sprintf("%q is not an IP address", addr), `want something like "0.0.0.0" or "::"`)
		}
	}
	if len(s.Bind) == 0 {
		c.fail("smtp.bind", "is empty: mail could not come in", `want something like ["0.0.0.0", "::"]`)
	}
	if _, err := smtpserver.ParsePorts(s.Ports); err != nil {
		c.fail("smtp.ports", err.Error(), "")
	}
	if len(s.Ports) == 0 {
		c.fail("smtp.ports", "is empty: mail could not come in", `want something like ["25", "1025-5000"]`)
	}
	c.oneOf("smtp.plaintext_auth", s.PlaintextAuth, "allow", "refuse")
	c.between("smtp.max_message_bytes", s.MaxMessageBytes, 1024, 1<<30)
	c.between("smtp.max_recipients", int64(s.MaxRecipients), 1, 100_000)
	c.oneOf("smtp.bare_newlines", c.l.SMTP.BareNewlines, "repair", "refuse")
	c.oneOf("smtp.long_lines", c.l.SMTP.LongLines, "keep", "refuse")
	c.between("smtp.max_connections", int64(c.l.SMTP.MaxConnections), 1, 1_000_000)
	c.between("smtp.max_per_client", int64(c.l.SMTP.MaxPerClient), 1, 1_000_000)
	c.between("smtp.max_per_connection", int64(c.l.SMTP.MaxPerConn), 1, 1_000_000)
	c.keyPair("tls", c.l.TLS)
}

func (c *checker) http() {
	h := c.l.HTTP
	if h.Listen != "" {
		c.hostPort("http.listen", h.Listen, "127.0.0.1:8025")
	}
	if u, err := url.Parse(h.PublicURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		c.fail("http.public_url", fmt.Sprintf("%q is not a web address", h.PublicURL), `want something like "https://mail.example.com"`)
	}
	for _, network := range h.MetricsAllow {
		if _, err := parseNetwork(network); err != nil {
			c.fail("http.metrics_allow", err.Error(), `want something like ["127.0.0.0/8", "::1"]`)
		}
	}
	c.keyPair("http", KeyPairConfig{h.Cert, h.Key})
}

// outward is how mail leaves.
func (c *checker) outward() {
	for _, server := range c.l.DNS.Servers {
		c.hostPort("dns.servers", server, "192.0.2.53:53")
	}
	c.between("delivery.port", int64(c.l.Delivery.Port), 1, 65535)
	seen := map[string]int{}
	for i, r := range c.l.Routes {
		key := func(name string) string { return fmt.Sprintf("route.%d.%s", i+1, name) }
		switch domain, err := mail.ParseDomain(r.Domain); {
		case r.Domain == "*", err == nil:
			name := string(domain)
			if before := seen[name]; before > 0 {
				c.fail(key("domain"), fmt.Sprintf("%q has route %d already", r.Domain, before), "keep one of them")
			}
			seen[name] = i + 1
		default:
			c.fail(key("domain"), fmt.Sprintf("%q is not a domain", r.Domain), `want something like "example.com", or "*" for every other domain`)
		}
		c.hostPort(key("next_hop"), r.NextHop, "smtp.example.net:587")
		c.oneOf(key("tls"), r.TLS, "none", "may", "encrypt", "verify")
		if (r.Username == "") != (r.Password == "") {
			c.fail(key("username"), "username and password go together", "give both, or neither")
		}
	}
}

// shaping is how fast mail may go to certain servers.
func (c *checker) shaping() {
	for i, rule := range c.l.sites() {
		if err := rule.Validate(); err != nil {
			c.fail(fmt.Sprintf("site.%d.name", i+1), err.Error(), `want something like name = "Example Mail", match = ["mx.example.net"], connections = 5, rate = "600/min"`)
		}
	}
}

// sites are the limits of [[site]] as room throttle wants them.
func (l *loaded) sites() []throttle.Rule {
	return convert(l.Sites, func(s SiteConfig) throttle.Rule { return throttle.Rule(s) })
}

// upkeep is what is kept and what is told.
func (c *checker) upkeep() {
	c.between("storage.reserve_bytes", c.l.Storage.ReserveBytes, 0, 1<<50)
	c.between("storage.content_max_bytes", c.l.Storage.ContentMaxBytes, 0, 1<<50)
	for _, r := range []struct {
		key string
		d   Duration
	}{
		{"retention.delivered", c.l.Retention.Delivered},
		{"retention.failed", c.l.Retention.Failed},
		{"retention.events", c.l.Retention.Events},
	} {
		if _, err := r.d.Parse(); err != nil {
			c.fail(r.key, err.Error(), "")
		}
	}
	c.oneOf("log.level", c.l.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", c.l.Log.Format, "text", "json")
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.fail(key, fmt.Sprintf("%q is not one of its values", value), `want "`+strings.Join(allowed, `", "`)+`"`)
	}
}

func (c *checker) between(key string, value, low, high int64) {
	if value < low || value > high {
		c.fail(key, fmt.Sprintf("%d is out of range", value), fmt.Sprintf("want %d to %d", low, high))
	}
}

func (c *checker) hostPort(key, value, example string) {
	host, port, err := net.SplitHostPort(value)
	n, portErr := strconv.ParseUint(port, 10, 16)
	// [http] listen may be ":8025", all addresses, or have port 0, any free one.
	listens := key == "http.listen"
	if err != nil || portErr != nil || !listens && (n == 0 || host == "") {
		c.fail(key, fmt.Sprintf("%q is not host and port", value), fmt.Sprintf("want something like %q", example))
	}
}

// keyPair checks that both files are given, readable, and belong to each other.
func (c *checker) keyPair(section string, p KeyPairConfig) {
	switch {
	case p == KeyPairConfig{}:
	case p.Key == "":
		c.fail(section+".cert", "the key that goes with it is missing", "set "+section+".key as well")
	case p.Cert == "":
		c.fail(section+".key", "the certificate that goes with it is missing", "set "+section+".cert as well")
	default:
		if _, err := tls.LoadX509KeyPair(p.Cert, p.Key); err != nil {
			c.fail(section+".cert", err.Error(), "want two PEM files that belong together and that this user may read")
		}
	}
}

// parseNetwork reads "127.0.0.0/8" or a single address.
func parseNetwork(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is not a network", s)
	}
	return p.Masked(), nil
}
