package account

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"mittente/internal/db"
)

// talk leads a client through an exchange.
func talk(ctx context.Context, x *Exchange, c *scram.ClientConversation) error {
	message, err := c.Step("")
	if err != nil {
		return err
	}
	for {
		answer, done, err := x.Step(ctx, message)
		if done || err != nil {
			return err
		}
		if message, err = c.Step(answer); err != nil {
			return err
		}
	}
}

func scramClient(t *testing.T, name, password string) *scram.Client {
	t.Helper()
	c, err := scram.SHA256.NewClient(name, password, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// scram authenticates by SCRAM-SHA-256 in clear.
func (h *house) scram(t *testing.T, name, password string) (Principal, error) {
	t.Helper()
	x := h.Exchange(ScramAttempt{Client: here})
	c := scramClient(t, name, password).NewConversation()
	err := talk(t.Context(), x, c)
	if err == nil && !c.Valid() {
		t.Error("the server did not prove that it knows the password")
	}
	return x.Principal(), err
}

// The table of Authenticate holds for SCRAM too, as an independent client sees it.
func TestScram(t *testing.T) {
	h := open(t)
	plain, plainPw := h.add(t, NewUser{Active: true})
	secure, securePw := h.add(t, NewUser{Active: true, RequireTLS: true})
	inactive, inactivePw := h.add(t, NewUser{})
	abroad, abroadPw := h.add(t, NewUser{Active: true, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	var oneTime string
	h.do(t, func(tx *db.Tx) (err error) { oneTime, err = h.OneTime(tx, plain.Name, OneTimeTTL); return err })
	for name, c := range map[string]struct {
		user, password string
		want           Reason
	}{
		"right password":         {plain.Name, plainPw, ""},
		"wrong password":         {plain.Name, securePw, BadCredentials},
		"no such user":           {"s1_99", plainPw, BadCredentials},
		"TLS user in clear":      {secure.Name, securePw, TLSRequired},
		"inactive":               {inactive.Name, inactivePw, Inactive},
		"inactive, wrong":        {inactive.Name, plainPw, BadCredentials},
		"from another network":   {abroad.Name, abroadPw, NotFromHere},
		"one-time: PLAIN's only": {plain.Name, oneTime, BadCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			h.forgive()
			p, err := h.scram(t, c.user, c.password)
			if why(err) != c.want || (err == nil) != (p.User.Name == c.user) {
				t.Errorf("%v, %+v, want %q", err, p, c.want)
			}
			var refused *AuthError
			if errors.As(err, &refused) && refused.InClear {
				t.Error("SCRAM shows no password, so none was in clear")
			}
		})
	}
}

// A user that is not there gets the same salt each time, as one that is.
func TestScramLeadsUnknownUsersThrough(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{Active: true})
	for _, name := range []string{u.Name, "nobody"} {
		salts := map[string]bool{}
		for range 2 {
			x := h.Exchange(ScramAttempt{Client: here})
			answer, done, err := x.Step(t.Context(), "n,,n="+name+",r=nonce")
			if done || err != nil {
				t.Fatal(answer, done, err)
			}
			parts := strings.Split(answer, ",")
			if len(parts) != 3 || !strings.HasPrefix(parts[0], "r=nonce") || len(parts[0]) < 30 || parts[2] != "i=4096" {
				t.Errorf("%s: server-first %q", name, answer)
			}
			salts[parts[1]] = true
		}
		if len(salts) != 1 {
			t.Errorf("%s: salts %v", name, salts)
		}
	}
	if string(h.scramSalt(u.Name)) == string(h.scramSalt("nobody")) {
		t.Error("two names have the same salt")
	}
	other := New(h.db, Deps{ScramKey: [32]byte{1}}, nil)
	if string(h.scramSalt(u.Name)) == string(other.scramSalt(u.Name)) {
		t.Error("another installation has the same salt")
	}
}

// While two passwords overlap, SCRAM takes both.
func TestScramOverlap(t *testing.T) {
	h := open(t)
	u, first := h.add(t, NewUser{Active: true})
	var second string
	h.do(t, func(tx *db.Tx) (err error) { second, err = h.SetPassword(tx, u.Name, time.Hour); return err })
	for _, password := range []string{first, second} {
		if _, err := h.scram(t, u.Name, password); err != nil {
			t.Error(err)
		}
	}
	third := h.regenerate(t, u.Name)
	for password, want := range map[string]Reason{first: BadCredentials, second: BadCredentials, third: ""} {
		if _, err := h.scram(t, u.Name, password); why(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A password from before there was SCRAM works by PLAIN, and not by SCRAM.
func TestScramWithoutVerifier(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	h.do(t, func(tx *db.Tx) error {
		_, err := tx.Exec("UPDATE credential SET stored_key = NULL, server_key = NULL")
		return err
	})
	if _, err := h.scram(t, u.Name, password); why(err) != BadCredentials {
		t.Errorf("SCRAM: %v", err)
	}
	if _, err := h.login(t.Context(), u.Name, password); err != nil {
		t.Errorf("PLAIN: %v", err)
	}
	h.do(t, func(tx *db.Tx) error {
		known, err := h.Credentials(tx, u.Name)
		if len(known) != 1 || known[0].SCRAM {
			t.Errorf("credentials %+v", known)
		}
		return err
	})
}

// What is no SCRAM, or not its turn, ends the exchange, and authenticates nobody.
func TestScramMalformed(t *testing.T) {
	h := open(t)
	u, _ := h.add(t, NewUser{Active: true})
	for _, messages := range [][]string{
		{""},
		{"n"},
		{"n,,"},
		{"x,,n=a,r=b"},
		{"n,,n=" + u.Name},
		{"n,,n==20,r=x"},
		{"n,,n=\xff,r=x"},
		{"n,,m=ext,n=a,r=b"},
		{"p=tls-exporter,,n=" + u.Name + ",r=x"}, // that is for -PLUS
		{"n,,n=" + u.Name + ",r=x", ""},
		{"n,,n=" + u.Name + ",r=x", "c=biws,r=x,p=AAAA"},
		{"n,,n=" + u.Name + ",r=x", "c=biws,r=x"},
		{"n,,n=" + u.Name + ",r=x", "n,,n=" + u.Name + ",r=x"},
		{"n,,n=" + u.Name + ",r=" + strings.Repeat("x", 8000), strings.Repeat("c=biws,", 1000)},
	} {
		x := h.Exchange(ScramAttempt{Client: here})
		var err error
		for i, m := range messages {
			if err != nil {
				t.Errorf("%.60q: message %d: %v", messages, i, err)
			}
			_, _, err = x.Step(t.Context(), m)
		}
		if !errors.Is(err, ErrExchange) || !x.Principal().User.ID.IsZero() {
			t.Errorf("%.60q: %v, %v", messages, err, x.Principal())
		}
		if _, done, err := x.Step(t.Context(), ""); done || !errors.Is(err, ErrExchange) {
			t.Errorf("%.60q: goes on after its end: %t, %v", messages, done, err)
		}
	}
	x := h.Exchange(ScramAttempt{Client: here})
	if _, _, err := x.Step(t.Context(), "n,a=s1_2,n="+u.Name+",r=x"); why(err) != BadCredentials {
		t.Errorf("acting as another user: %v", err)
	}
}

// Until the client has answered server-final nobody is authenticated (RFC 5802 §5).
func TestScramIsNotDoneTooEarly(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	x := h.Exchange(ScramAttempt{Client: here})
	c := scramClient(t, u.Name, password).NewConversation()
	message, _ := c.Step("")
	for range 2 {
		answer, done, err := x.Step(t.Context(), message)
		if done || err != nil || !x.Principal().User.ID.IsZero() {
			t.Fatal(answer, done, err)
		}
		if message, err = c.Step(answer); err != nil {
			t.Fatal(err)
		}
	}
	if _, done, err := x.Step(t.Context(), "x"); done || !errors.Is(err, ErrExchange) {
		t.Errorf("%t, %v", done, err)
	}
}

// session is a TLS session over a pipe, as both ends see it.
func session(t *testing.T, version uint16) (server, client tls.ConnectionState, certificate *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"relay.example"},
		NotAfter: time.Now().Add(time.Hour), SignatureAlgorithm: x509.ECDSAWithSHA384,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	s := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: version})
	c := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	failed := make(chan error, 1)
	go func() { failed <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-failed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return s.ConnectionState(), c.ConnectionState(), certificate
}

// SCRAM-SHA-256-PLUS binds to the TLS session that both ends see, and to no other.
func TestScramPlus(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true, RequireTLS: true})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server, client, certificate := session(t, version)
		_, other, _ := session(t, version)
		attempt := ScramAttempt{Plus: true, TLS: &server, Certificate: certificate, Client: here}
		for name, bind := range map[string]func(*tls.ConnectionState) (scram.ChannelBinding, error){
			"tls-exporter": scram.NewTLSExporterBinding, "tls-server-end-point": scram.NewTLSServerEndpointBinding,
		} {
			for _, c := range []struct {
				session *tls.ConnectionState
				want    Reason
			}{{&client, ""}, {&other, Unbound}} {
				h.forgive()
				binding, err := bind(c.session)
				if err != nil {
					t.Fatal(err)
				}
				x := h.Exchange(attempt)
				err = talk(t.Context(), x, scramClient(t, u.Name, password).NewConversationWithChannelBinding(binding))
				if why(err) != c.want || (err == nil) != x.Principal().TLS {
					t.Errorf("TLS %x, %s: %v, want %q", version, name, err, c.want)
				}
			}
		}
	}
}

// Who could bind, and was made to believe that the server can't, is told so
// (RFC 5802 §6); who can't bind is let in without.
func TestScramDowngradeIsRefused(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	server, client, _ := session(t, tls.VersionTLS13)
	c := scramClient(t, u.Name, password)
	if err := talk(t.Context(), h.Exchange(ScramAttempt{TLS: &server, Client: here}), c.NewConversationAdvertisingChannelBinding()); why(err) != Unbound {
		t.Errorf("over TLS: %v", err)
	}
	if err := talk(t.Context(), h.Exchange(ScramAttempt{Client: here}), c.NewConversationAdvertisingChannelBinding()); err != nil {
		t.Errorf("in clear, where there is no -PLUS: %v", err)
	}
	if err := talk(t.Context(), h.Exchange(ScramAttempt{TLS: &server, Client: here}), c.NewConversation()); err != nil {
		t.Errorf("a client that can't bind: %v", err)
	}
	if err := talk(t.Context(), h.Exchange(ScramAttempt{Plus: true, TLS: &server, Client: here}), c.NewConversation()); !errors.Is(err, ErrExchange) {
		t.Errorf("-PLUS without a binding: %v", err)
	}
	if err := talk(t.Context(), h.Exchange(ScramAttempt{Plus: true, Client: here}), c.NewConversation()); !errors.Is(err, ErrExchange) {
		t.Errorf("-PLUS in clear: %v", err)
	}
	endPoint, err := scram.NewTLSServerEndpointBinding(&client)
	if err != nil {
		t.Fatal(err)
	}
	for name, binding := range map[string]scram.ChannelBinding{
		"a certificate that is not known": endPoint,
		"tls-unique":                      scram.NewTLSUniqueBinding([]byte("x")),
	} {
		x := h.Exchange(ScramAttempt{Plus: true, TLS: &server, Client: here})
		if err := talk(t.Context(), x, c.NewConversationWithChannelBinding(binding)); !errors.Is(err, ErrExchange) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The vector of RFC 7677 §3.
func TestScramKeys(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	keys := deriveScram(salt, "pencil")
	const message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
		"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	if got := base64.StdEncoding.EncodeToString(sum(keys.server[:], message)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server signature %s", got)
	}
}
