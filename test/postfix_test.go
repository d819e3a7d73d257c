package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// postfix is an instance of its own: configuration, queue, log and mailboxes in
// one folder, ports on loopback only.
type postfix struct {
	t    *testing.T
	dir  string
	port int
}

// masterServices are the services both kinds of instance run, none in a chroot.
//
//nolint:dupword // columns
const masterServices = `
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
smtp      unix  - - n -     - smtp
plain     unix  - - n -     - smtp -o smtp_tls_security_level=none
encrypt   unix  - - n -     - smtp -o smtp_tls_security_level=encrypt
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
local     unix  - n n -     - local
virtual   unix  - n n -     - virtual
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
`

// mainCommon is what both kinds of instance have in common: no DNS, no aliases,
// large messages, nothing that waits.
const mainCommon = `
compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
default_transport = discard:nothing leaves but by transport_maps
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_connection_count_limit = 0
mydestination =
alias_maps =
alias_database =
message_size_limit = 67108864
mailbox_size_limit = 0
virtual_mailbox_limit = 0
in_flow_delay = 0
`

// startReceiver starts a Postfix that receives mail for the addresses, with
// STARTTLS, and writes a Maildir for each.
func startReceiver(t *testing.T, addresses ...string) *postfix {
	t.Helper()
	p := newPostfix(t)
	cert, key := certificate(t, "mx."+rcptDomain)
	p.file("cert.pem", string(cert))
	p.file("key.pem", string(key))
	var mailboxes strings.Builder
	var domains []string
	for _, address := range addresses {
		local, domain, _ := strings.Cut(address, "@")
		fmt.Fprintf(&mailboxes, "%s %s/%s/\n", address, domain, local)
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	p.file("mailboxes", mailboxes.String())
	p.start(fmt.Sprintf(`
myhostname = mx.%[2]s
virtual_mailbox_domains = %[3]s
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = texthash:%[1]s/mailboxes
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
smtpd_tls_security_level = may
smtpd_tls_cert_file = %[1]s/cert.pem
smtpd_tls_key_file = %[1]s/key.pem
`, p.dir, rcptDomain, strings.Join(domains, " ")))
	return p
}

// startForwarder starts a Postfix that hands everything to the relay as the given
// user: in clear for recipients at plain.DOMAIN, by STARTTLS at starttls.DOMAIN.
func startForwarder(t *testing.T, relay string, u user, domain string) *postfix {
	t.Helper()
	p := newPostfix(t)
	host, port, _ := net.SplitHostPort(relay)
	hop := "[" + host + "]:" + port
	p.file("passwords", fmt.Sprintf("%s %s:%s\n", hop, u.Username, u.Password))
	p.file("transport", fmt.Sprintf("plain.%[1]s plain:%[2]s\nstarttls.%[1]s encrypt:%[2]s\n", domain, hop))
	p.start(fmt.Sprintf(`
myhostname = client.%[2]s
transport_maps = texthash:%[1]s/transport
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:%[1]s/passwords
smtp_sasl_security_options = noanonymous
smtp_sasl_tls_security_options = noanonymous
`, p.dir, fromDomain))
	return p
}

// newPostfix makes the folder, which Postfix's own account must be able to reach.
func newPostfix(t *testing.T) *postfix {
	t.Helper()
	need(t, "linux", "root", "postfix")
	dir, err := os.MkdirTemp("", "mittente-postfix-") //nolint:usetesting // Postfix's account can't reach what TempDir makes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &postfix{t: t, dir: dir, port: freePort(t)}
	for _, sub := range []string{"", "etc", "queue", "data", "mail"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "mail"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v %s", err, out)
	}
	return p
}

func (p *postfix) file(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// start writes the configuration, with more services if need be, and starts the master.
func (p *postfix) start(main string, services ...string) {
	p.t.Helper()
	p.file("etc/main.cf", fmt.Sprintf(mainCommon, p.dir)+main)
	p.file("etc/master.cf", fmt.Sprintf("127.0.0.1:%d inet n - n - 100 smtpd%s%s", p.port, masterServices, strings.Join(services, "")))
	if out, err := exec.Command("postfix", "-c", p.dir+"/etc", "check").CombinedOutput(); err != nil {
		p.t.Fatalf("postfix check: %v\n%s", err, out)
	}
	daemons, err := exec.Command("postconf", "-h", "-c", p.dir+"/etc", "daemon_directory").Output()
	if err != nil {
		p.t.Fatalf("postconf: %v", err)
	}
	cmd := exec.Command(strings.TrimSpace(string(daemons))+"/master", "-c", p.dir+"/etc", "-d")
	daemon(p.t, cmd, filepath.Join(p.dir, "mail.log"), "127.0.0.1:"+strconv.Itoa(p.port))
}

// sendmail is the command by which local programs hand a message to the instance.
// The lines of its input end in LF, as they write them.
func (p *postfix) sendmail(from string, content []byte, to ...string) *exec.Cmd {
	return fed(lf(content), "sendmail", append([]string{"-C", p.dir + "/etc", "-i", "-f", from, "--"}, to...)...)
}

// mailbox returns the messages in the Maildir of an address, with CRLF line ends.
func (p *postfix) mailbox(address string) [][]byte {
	p.t.Helper()
	local, domain, _ := strings.Cut(address, "@")
	names, err := filepath.Glob(filepath.Join(p.dir, "mail", domain, local, "new", "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	var mails [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			p.t.Fatal(err)
		}
		mails = append(mails, crlf(b))
	}
	return mails
}

// one waits for the one message that an address is to get.
func (p *postfix) one(address string, limit time.Duration) []byte {
	p.t.Helper()
	waitFor(p.t, limit, "Postfix has a message for "+address, func() bool { return len(p.mailbox(address)) > 0 })
	mails := p.mailbox(address)
	if len(mails) != 1 {
		p.t.Fatalf("%s has %d messages; want 1", address, len(mails))
	}
	return mails[0]
}

// certificate makes a self-signed certificate and its key, as PEM.
func certificate(t *testing.T, host string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return authority{}.issue(t, host, time.Now().Add(24*time.Hour), private)
}
