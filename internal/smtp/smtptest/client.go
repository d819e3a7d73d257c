package smtptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Pipe returns both ends of a connection in memory. The server's says that the
// client is at ip, port 4711.
func Pipe(ip string) (client, server net.Conn) {
	client, server = net.Pipe()
	return client, addressed{server, &net.TCPAddr{IP: net.ParseIP(ip), Port: 4711}}
}

// addressed gives a pipe the address of a TCP connection.
type addressed struct {
	net.Conn

	addr *net.TCPAddr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

// Client is the client's end of a session, within the bubble of a synctest.
type Client struct {
	Conn net.Conn
	in   *inbox
}

// inbox keeps what the server has sent.
type inbox struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	writes int
	closed bool
}

// NewClient reads what the server says to conn until one of them closes it.
func NewClient(conn net.Conn) *Client {
	c := &Client{}
	c.connect(conn)
	return c
}

func (c *Client) connect(conn net.Conn) {
	in := &inbox{}
	c.Conn, c.in = conn, in
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			in.mu.Lock()
			in.buf.Write(b[:n])
			in.writes++
			in.closed = err != nil
			in.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

// Says sends lines and returns what the server has said since the last time.
func (c *Client) Says(lines ...string) string {
	for _, line := range lines {
		if _, err := c.Conn.Write([]byte(line + "\r\n")); err != nil {
			break
		}
	}
	synctest.Wait()
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	defer c.in.buf.Reset()
	return c.in.buf.String()
}

// HungUp reports whether the server has closed the connection.
func (c *Client) HungUp() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.closed
}

// Handshake goes on under TLS, after STARTTLS. It takes the connection back
// from the goroutine that reads it.
func (c *Client) Handshake(cfg *tls.Config) (*tls.Conn, error) {
	_ = c.Conn.SetReadDeadline(time.Now())
	synctest.Wait()
	_ = c.Conn.SetReadDeadline(time.Time{})
	conn := tls.Client(c.Conn, cfg)
	if err := conn.Handshake(); err != nil { //nolint:noctx // the bubble of the test ends it
		return nil, err
	}
	c.connect(conn)
	return conn, nil
}

// ServerTLS makes a certificate for a host name.
func ServerTLS(tb testing.TB, host string) *tls.Config {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }}
}
