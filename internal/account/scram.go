package account

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xdg-go/scram"
)

// scramIterations is what RFC 7677 §4 asks for; clients refuse fewer. More would
// protect nothing: the passwords are generated.
const scramIterations = 4096

// ErrExchange says that a client's message is none of SCRAM (RFC 5802 §7), or not
// the one whose turn it is.
var ErrExchange = errors.New("not a message of SCRAM-SHA-256")

// scramKeys is what a client's proof can be checked against (RFC 5802 §3).
type scramKeys struct{ stored, server [hashSize]byte }

// deriveScram takes some 0.9 ms. Generated passwords are ASCII, so SASLprep
// (RFC 4013) leaves them as they are.
func deriveScram(salt []byte, password string) scramKeys {
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		panic("account: " + err.Error()) // only for a key that is too long, or in a FIPS mode with a short salt
	}
	return scramKeys{
		stored: sha256.Sum256(sum(salted, "Client Key")),
		server: [hashSize]byte(sum(salted, "Server Key")),
	}
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text)) // never fails, as every hash.Hash
	return h.Sum(nil)
}

// scramSalt is the same for all passwords of a user, so that two can overlap, and
// there is one for a user that does not exist.
func (a *Accounts) scramSalt(name string) []byte { return sum(a.deps.ScramKey[:], name) }

// ScramAttempt is the session in which a client begins SCRAM-SHA-256.
type ScramAttempt struct {
	Plus        bool                 // by the name with -PLUS: the client binds to the TLS session
	TLS         *tls.ConnectionState // nil: in clear. Else SCRAM-SHA-256-PLUS was offered
	Certificate *x509.Certificate    // the server's own, for tls-server-end-point (RFC 5929 §4); nil: not known
	Client      netip.Addr
}

// Exchange is one authentication by SCRAM-SHA-256 (RFC 5802, RFC 7677). It is for
// one goroutine.
//
//	client-first ─▶ server-first ─▶ client-final ─▶ server-final ─▶ "" ─▶ done
type Exchange struct {
	accounts  *Accounts
	attempt   ScramAttempt
	step      int
	nonce     string
	name      string
	first     string
	binding   scram.ChannelBinding
	principal Principal
}

// Exchange begins an authentication.
func (a *Accounts) Exchange(s ScramAttempt) *Exchange {
	return &Exchange{accounts: a, attempt: s, nonce: rand.Text()}
}

// Step takes a message of the client, decoded from base64, and returns the one
// that answers it. The client is authenticated when done is true, which is after
// its answer to the server's last message: that has to be empty.
//
// Errors are ErrExchange, an *AuthError by the table of Authenticate, or any other
// when the database did not answer. After an error the exchange is over. A user
// that is not there is led through all of it, to the error of a wrong password.
func (x *Exchange) Step(ctx context.Context, client string) (server string, done bool, err error) {
	until := time.Now().Add(refusalTime)
	x.step++
	switch x.step {
	case 1:
		server, err = x.greet(client)
	case 2:
		server, err = x.prove(ctx, client)
	case 3:
		if client != "" {
			return "", false, ErrExchange
		}
		return "", true, nil
	default:
		return "", false, ErrExchange
	}
	if err != nil {
		x.step = 3 // whatever comes now is out of turn
	}
	if _, refused := errors.AsType[*AuthError](err); refused || x.step == 2 && err == nil {
		x.accounts.authenticated(x.principal, err)
	}
	return server, false, withhold(ctx, err, until)
}

// Principal returns who was authenticated; it is the zero one before Step said done.
func (x *Exchange) Principal() Principal {
	if x.step != 3 {
		return Principal{}
	}
	return x.principal
}

// greet answers client-first. Nobody is looked up for it, so it can't tell whom there is.
func (x *Exchange) greet(first string) (string, error) {
	binds := strings.HasPrefix(first, "p=")
	if binds != x.attempt.Plus || !utf8.ValidString(first) {
		return "", ErrExchange
	}
	x.first = first
	if err := x.bind(); err != nil {
		return "", err
	}
	conversation := x.conversation(scramKeys{})
	answer, err := conversation.Step(first)
	x.name = conversation.Username()
	switch {
	case err != nil && answer == scram.ErrServerDoesSupportChannelBinding:
		return "", x.refuse(Unbound) // RFC 5802 §6: it was made to believe that there is no -PLUS
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrExchange, err)
	case conversation.AuthzID() != "" && conversation.AuthzID() != x.name:
		return "", x.refuse(BadCredentials) // nobody may act as another user
	}
	if wait := x.accounts.guard.wait(x.who()); wait > 0 {
		return "", &AuthError{Reason: TooMany, Name: shortName(x.name), Wait: wait}
	}
	return answer, nil
}

// prove answers client-final.
func (x *Exchange) prove(ctx context.Context, final string) (string, error) {
	guard := x.accounts.guard
	if wait := guard.wait(x.who()); wait > 0 { // others of the same client have failed meanwhile
		return "", &AuthError{Reason: TooMany, Name: shortName(x.name), Wait: wait}
	}
	var answer string
	var fault error
	r, found, err := x.accounts.find(ctx, x.name, func(r *record) verifier {
		var v verifier
		v, answer, fault = x.match(r, final)
		return v
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("authenticate: %w", err)
	case fault != nil:
		return "", fault
	case found.credential.IsZero():
		return "", guard.failed(x.who(), 0, proven)
	}
	guard.passed(x.who())
	p := Principal{User: r.user, Credential: found.credential, TLS: x.attempt.TLS != nil}
	if refused := p.admit(x.attempt.Client); refused != nil {
		return "", refused
	}
	x.principal = p
	return answer, nil
}

// match checks client-final against as many verifiers whether there is such a
// user or not, and returns the one that fits with server-final. A fault is an
// error that does not depend on the password.
func (x *Exchange) match(r *record, final string) (found verifier, answer string, fault error) {
	var candidates [lastingSlots]verifier
	if r != nil {
		copy(candidates[:], r.lasting)
	}
	now := time.Now()
	for _, v := range candidates {
		var keys scramKeys // which nothing hashes to
		if v.scram != nil {
			keys = *v.scram
		}
		conversation := x.conversation(keys)
		_, _ = conversation.Step(x.first) // it has been through that already
		said, err := conversation.Step(final)
		switch {
		case err == nil && v.scram != nil && v.live(now):
			found, answer = v, said
		case err == nil, said == scram.ErrInvalidProof:
		case said == scram.ErrChannelBindingsDontMatch:
			fault = x.refuse(Unbound)
		default:
			fault = fmt.Errorf("%w: %w", ErrExchange, err)
		}
	}
	return found, answer, fault
}

// conversation is one in which the same messages get the same answers, but for keys.
func (x *Exchange) conversation(keys scramKeys) *scram.ServerConversation {
	server, err := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		return scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(x.accounts.scramSalt(name)), Iters: scramIterations},
			StoredKey:  keys.stored[:],
			ServerKey:  keys.server[:],
		}, nil
	})
	if err != nil {
		panic("account: " + err.Error()) // it has none to give
	}
	server.WithNonceGenerator(func() string { return x.nonce })
	if x.attempt.Plus {
		return server.NewConversationWithChannelBindingRequired(x.binding)
	}
	return server.NewConversationWithChannelBinding(x.binding)
}

// bind finds what the client says it binds to. Without -PLUS the binding only
// lets the library see that we have one, and so know a downgrade.
func (x *Exchange) bind() error {
	session := x.attempt.TLS
	if session == nil {
		if x.attempt.Plus {
			return ErrExchange
		}
		return nil
	}
	if !x.attempt.Plus {
		x.binding = scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: []byte("offered")}
		return nil
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(x.first, "p="), ",")
	switch scram.ChannelBindingType(kind) {
	case scram.ChannelBindingTLSExporter: // RFC 9266
		binding, err := scram.NewTLSExporterBinding(session)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrExchange, err)
		}
		x.binding = binding
		return nil
	case scram.ChannelBindingTLSServerEndpoint:
		if data := endPoint(x.attempt.Certificate); data != nil {
			x.binding = scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: data}
			return nil
		}
	case scram.ChannelBindingNone, scram.ChannelBindingTLSUnique: // RFC 9266 §3: the latter is not for TLS 1.3, and weak before
	}
	return fmt.Errorf("%w: binding to %.40q is not offered", ErrExchange, kind)
}

// endPoint is the hash of a certificate by RFC 5929 §4.1: by the hash of its own
// signature, SHA-256 instead of weaker ones; nil where the RFC says none.
func endPoint(c *x509.Certificate) []byte {
	if c == nil {
		return nil
	}
	switch c.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h := sha512.Sum384(c.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h := sha512.Sum512(c.Raw)
		return h[:]
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		h := sha256.Sum256(c.Raw)
		return h[:]
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.PureEd25519:
	}
	return nil
}

func (x *Exchange) who() guessed { return guessed{x.attempt.Client, shortName(x.name)} }

func (x *Exchange) refuse(why Reason) *AuthError {
	return &AuthError{Reason: why, Name: shortName(x.name)}
}
