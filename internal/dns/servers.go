package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// recheck is how often the file that names the servers is looked at.
const recheck = 5 * time.Second

// server is one name server.
type server struct {
	address string // host:port
	trusted bool   // on this host: its AD bit has come over no network
}

// serverList is the servers to ask: given, or those of resolv.conf while it changes.
type serverList struct {
	file string // "" when the servers were given

	mu      sync.Mutex
	list    []server
	checked time.Time
	changed time.Time // modification time of what was read
}

func (l *serverList) init(cfg Config) error {
	if len(cfg.Servers) > 0 {
		list, err := parseServers(cfg.Servers)
		l.list = list
		return err
	}
	l.file = cfg.ResolvConf
	info, err := os.Stat(l.file)
	if err != nil {
		return err
	}
	list, err := readServers(l.file)
	l.list, l.checked, l.changed = list, time.Now(), info.ModTime()
	return err
}

// get returns the servers in the order of their mention. A file that has
// become unreadable or empty leaves the last ones in force.
func (l *serverList) get() []server {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == "" || time.Since(l.checked) < recheck {
		return l.list
	}
	l.checked = time.Now()
	info, err := os.Stat(l.file)
	if err != nil || info.ModTime().Equal(l.changed) {
		return l.list
	}
	if list, err := readServers(l.file); err == nil {
		l.list, l.changed = list, info.ModTime()
	}
	return l.list
}

func readServers(file string) ([]server, error) {
	conf, err := mdns.ClientConfigFromFile(file)
	if err != nil {
		return nil, err
	}
	if len(conf.Servers) == 0 {
		return nil, fmt.Errorf("%s: %w", file, errNoServer)
	}
	addresses := make([]string, 0, len(conf.Servers))
	for _, s := range conf.Servers {
		addresses = append(addresses, net.JoinHostPort(s, conf.Port))
	}
	return parseServers(addresses)
}

func parseServers(addresses []string) ([]server, error) {
	list := make([]server, 0, len(addresses))
	for _, a := range addresses {
		ap, err := netip.ParseAddrPort(a)
		if err != nil {
			return nil, fmt.Errorf("name server %q: want IP:port: %w", a, err)
		}
		list = append(list, server{address: a, trusted: ap.Addr().Unmap().IsLoopback()})
	}
	return list, nil
}
