package test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// door is one address of a mail server, with the certificate it shows there.
type door struct {
	name, ip  string
	cert, key []byte // PEM; nil: no STARTTLS
}

// mailServer is a mail server of another make that listens at all its doors on one
// port and takes everything that comes.
type mailServer struct {
	name  string
	tools []string
	start func(t *testing.T, port int, doors []door) maildirs
	// tls reports whether its STARTTLS works; nil: it does.
	tls func() bool
}

func mailServers() []mailServer {
	return []mailServer{
		{name: "postfix", tools: []string{"postfix"}, start: startPostfixDoors},
		{name: "exim", tools: []string{"exim4-daemon-light", "unshare"}, start: startExim},
		{name: "opensmtpd", tools: []string{"opensmtpd", "unshare"}, start: startOpenSMTPD, tls: openSMTPDHandshakes},
	}
}

// maildirs is where a server puts what it takes: a pattern of file names.
type maildirs string

// find waits for the message with an id, and returns it with CRLF line ends.
func (m maildirs) find(t *testing.T, id string) (got []byte) {
	t.Helper()
	field := []byte("\nMessage-ID: <" + id + ">\n")
	waitFor(t, 20*time.Second, "the message "+id+" has arrived", func() bool {
		names, _ := filepath.Glob(string(m))
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, field) {
				got = crlf(b)
			}
		}
		return got != nil
	})
	return got
}

// daemon starts a server in a process group of its own and waits until it answers.
func daemon(t *testing.T, cmd *exec.Cmd, log, addr string) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := spawner()(cmd); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of %s:\n%s", log, tail(log, 30))
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group
		<-done
	})
	waitFor(t, 20*time.Second, "a server answers at "+addr+" (its log: "+log+")", func() bool {
		select {
		case <-done:
			t.Fatalf("%s ended:\n%s", cmd, tail(log, 20))
		default:
		}
		w, err := dialWire(addr)
		if err == nil {
			w.conn.Close()
		}
		return err == nil
	})
}

// startPostfixDoors starts a Postfix with a listener for each door.
func startPostfixDoors(t *testing.T, port int, doors []door) maildirs {
	t.Helper()
	p := newPostfix(t)
	var services strings.Builder
	for _, d := range doors {
		fmt.Fprintf(&services, "%s:%d inet n - n - 100 smtpd", d.ip, port)
		if d.cert != nil {
			p.file(d.name+".cert", string(d.cert))
			p.file(d.name+".key", string(d.key))
			fmt.Fprintf(&services, " -o smtpd_tls_security_level=may -o smtpd_tls_cert_file=%[1]s/%[2]s.cert -o smtpd_tls_key_file=%[1]s/%[2]s.key", p.dir, d.name)
		}
		services.WriteString("\n")
	}
	p.start(fmt.Sprintf(`
myhostname = mx.postfix.test
virtual_mailbox_domains = static:all
virtual_mailbox_base = %s/mail
virtual_mailbox_maps = static:all/bob/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
`, p.dir), services.String())
	return maildirs(p.dir + "/mail/all/bob/new/*")
}

// entered is a folder for a server that runs from .cache/peers, by testdata/enter.sh.
type entered struct {
	dir, unpacked string
}

// enter makes a folder that the server's users can reach.
func enter(t *testing.T, pkg string, doors []door) entered {
	t.Helper()
	dir, err := os.MkdirTemp("", "mittente-"+pkg+"-") //nolint:usetesting // the server's own user can't reach what TempDir makes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := entered{dir: dir, unpacked: peer(pkg)}
	if err := errorsOf(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "mail"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, d := range doors {
		if d.cert != nil {
			e.file(t, d.name+".cert", string(d.cert))
			e.file(t, d.name+".key", string(d.key))
		}
	}
	return e
}

// peer is the folder of a package that test/install.sh has unpacked.
func peer(pkg string) string {
	path, _ := filepath.Abs(filepath.Join("..", ".cache", "peers", pkg))
	return path
}

func (e entered) file(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(e.dir, name)
	mode := os.FileMode(0o644)
	if strings.HasSuffix(name, ".key") {
		mode = 0o600
	}
	if err := errorsOf(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}

// own gives the named files to a user of the server.
func (e entered) own(t *testing.T, uid int, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Chown(filepath.Join(e.dir, name), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// command runs a program of the package.
func (e entered) command(program string, args ...string) *exec.Cmd {
	return exec.Command("unshare", append([]string{
		"--mount", "--pid", "--fork", "--kill-child", "sh", "testdata/enter.sh", e.dir, e.unpacked, filepath.Join(e.unpacked, program),
	}, args...)...)
}

// start runs the server.
func (e entered) start(t *testing.T, addr string, cmd *exec.Cmd) {
	t.Helper()
	log := filepath.Join(e.dir, "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	daemon(t, cmd, log, addr)
}

// eximCommon is what Exim as a server and as a client have in common: one user does
// everything, nothing is setuid, nothing is looked up.
const eximCommon = `
exim_path = %[1]s/usr/sbin/exim4
spool_directory = %[2]s/spool
log_file_path = %[2]s/log.%%s
deliver_drop_privilege = true
host_lookup =
rfc1413_query_timeout = 0s
message_size_limit = 64M
accept_8bitmime = true
keep_environment =
`

// eximServer takes all mail into one Maildir.
const eximServer = `
primary_hostname = mx.exim.test
local_interfaces = <; %[3]s
tls_advertise_hosts = ${if exists{%[2]s/$received_ip_address.cert}{*}{}}
tls_certificate = %[2]s/$received_ip_address.cert
tls_privatekey = %[2]s/$received_ip_address.key
smtputf8_advertise_hosts =
acl_smtp_rcpt = accept
begin routers
all:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = %[2]s/mail
  maildir_format
  user = Debian-exim
  group = Debian-exim
`

// eximClient hands all mail to the relay in chunks (RFC 3030), and drops its bounces.
const eximClient = `
primary_hostname = client.test
begin routers
bounces:
  driver = redirect
  senders = :
  data = :blackhole:
relay:
  driver = manualroute
  transport = %[3]s
  route_list = * %[4]s
  self = send
begin transports
plain:
  driver = smtp
  port = %[5]s
  hosts_require_auth = *
  hosts_avoid_tls = *
  hosts_try_chunking = *
starttls:
  driver = smtp
  port = %[5]s
  hosts_require_auth = *
  hosts_require_tls = *
  hosts_try_chunking = *
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^%[6]s^%[7]s
`

// enterExim makes a folder for an Exim with a configuration.
func enterExim(t *testing.T, doors []door, conf string, values ...any) entered {
	t.Helper()
	const uid = 64001
	e := enter(t, "exim4-daemon-light", doors)
	e.file(t, "passwd", fmt.Sprintf("Debian-exim:x:%[1]d:%[1]d::/:/bin/false\n", uid))
	e.file(t, "group", fmt.Sprintf("Debian-exim:x:%d:\n", uid))
	e.file(t, "root/var/lib/exim4/config.autogenerated", fmt.Sprintf(eximCommon+conf, append([]any{e.unpacked, e.dir}, values...)...))
	e.own(t, uid, "", "mail")
	for _, d := range doors {
		if d.cert != nil {
			e.own(t, uid, d.name+".key")
		}
	}
	return e
}

// eximSends is Exim as a client, in a folder of its own for each message: it tells
// messages apart by process ids, which are small where it runs.
func eximSends(t *testing.T, m errand) *exec.Cmd {
	t.Helper()
	host, port, _ := net.SplitHostPort(m.relay)
	e := enterExim(t, nil, eximClient, m.mode, host, port, m.user.Username, m.user.Password)
	cmd := e.command("usr/sbin/exim4", append([]string{"-v", "-odf", "-i", "-f", m.from, "--"}, m.to...)...)
	cmd.Stdin = bytes.NewReader(lf(read(t, m.file)))
	return cmd
}

func startExim(t *testing.T, port int, doors []door) maildirs {
	t.Helper()
	var listen []string
	for i, d := range doors {
		listen = append(listen, fmt.Sprintf("[%s]:%d", d.ip, port))
		doors[i].name = d.ip // the file of the certificate is found by it
	}
	e := enterExim(t, doors, eximServer, strings.Join(listen, " ; "))
	e.start(t, fmt.Sprintf("%s:%d", doors[0].ip, port), e.command("usr/sbin/exim4", "-bdf", "-q1h"))
	return maildirs(e.dir + "/mail/new/*")
}

func startOpenSMTPD(t *testing.T, port int, doors []door) maildirs {
	t.Helper()
	e := enter(t, "opensmtpd", doors)
	var conf strings.Builder
	for _, d := range doors {
		if d.cert == nil {
			fmt.Fprintf(&conf, "listen on %s port %d hostname mx.opensmtpd.test\n", d.ip, port)
			continue
		}
		fmt.Fprintf(&conf, "pki %[1]s cert \"%[2]s/%[1]s.cert\"\npki %[1]s key \"%[2]s/%[1]s.key\"\nlisten on %[3]s port %[4]d tls pki %[1]s hostname mx.opensmtpd.test\n",
			d.name, e.dir, d.ip, port)
	}
	fmt.Fprintf(&conf, "smtp max-message-size \"64M\"\naction all maildir \"%s/mail\" user nobody virtual { \"@\" = \"nobody\" }\nmatch from any for any action all\n", e.dir)
	e.file(t, "smtpd.conf", conf.String())
	e.file(t, "passwd", "opensmtpd:x:64002:64002::/:/bin/false\nopensmtpq:x:64003:64003::/:/bin/false\n")
	e.file(t, "group", "opensmtpd:x:64002:\nopensmtpq:x:64003:\n")
	if err := os.MkdirAll(filepath.Join(e.dir, "root/var/lib/opensmtpd/empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	e.own(t, 65534, "mail")
	e.start(t, fmt.Sprintf("%s:%d", doors[0].ip, port), e.command("usr/sbin/smtpd", "-d", "-f", filepath.Join(e.dir, "smtpd.conf")))
	return maildirs(e.dir + "/mail/new/*")
}

// openSMTPDHandshakes reports whether the OpenSMTPD that is unpacked can do TLS. The
// 6.8 of Debian 12 offers STARTTLS, and with OpenSSL 3 every handshake of it fails
// (github.com/OpenSMTPD/OpenSMTPD/issues/1171).
func openSMTPDHandshakes() bool {
	out, _ := exec.Command(filepath.Join(peer("opensmtpd"), "usr/sbin/smtpd"), "-h").CombinedOutput()
	return !bytes.Contains(out, []byte("OpenSMTPD 6."))
}

// authority is a certificate authority of a test; the zero value has each key sign
// its own certificate.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	file string // its certificate, PEM
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Authority of a test"},
		NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: template, key: key, file: scratch(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue makes a certificate of a host's key that ends at the given time, as PEM.
func (a authority) issue(t *testing.T, host string, end time.Time, private crypto.Signer) (cert, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: end.Add(-48 * time.Hour), NotAfter: end,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}
