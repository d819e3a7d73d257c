package dkim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// TestKey_Record: the record that verifiers look up.
func TestKey_Record(t *testing.T) {
	for _, k := range testKeys() {
		name, value := k.Record()
		if want := k.Selector + "._domainkey.firma.example"; name != want {
			t.Errorf("name %s, want %s", name, want)
		}
		kind, _, _ := strings.Cut(k.Algorithm(), "-")
		text, ok := strings.CutPrefix(value, "v=DKIM1; k="+kind+"; p=")
		public, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil {
			t.Fatalf("value %s: %v", value, err)
		}
		switch want := k.Signer.Public().(type) {
		case ed25519.PublicKey:
			if !bytes.Equal(public, want) { // RFC 8463 §4: 32 octets, no DER around them
				t.Errorf("%x, want %x", public, want)
			}
		case *rsa.PublicKey:
			got, err := x509.ParsePKIXPublicKey(public)
			if err != nil || !want.Equal(got) || want.N.BitLen() != 2048 {
				t.Errorf("%v, %v", got, err)
			}
		}
	}
}

// TestKey_PrivateAndBack: a key that was kept signs as before.
func TestKey_PrivateAndBack(t *testing.T) {
	for _, k := range testKeys() {
		der, err := k.MarshalPrivate()
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ParsePrivate(der)
		if err != nil {
			t.Fatalf("%s: %v", k.Algorithm(), err)
		}
		back := Key{Domain: k.Domain, Selector: k.Selector, Signer: signer}
		wantVerified(t, signed(t, typicalHeader(), "Ciao\r\n", []Key{back}), []Key{k})
	}
}

// TestKey_Refused: other kinds and sizes of keys.
func TestKey_Refused(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"nothing": nil, "noise": []byte("noise"), "ECDSA": pkcs8(t, curve), "RSA of 1,024 bits": pkcs8(t, small),
	} {
		if _, err := ParsePrivate(der); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, k := range map[string]Key{"no signer": {Selector: "s"}, "ECDSA": {Selector: "s", Signer: curve}} {
		record, value := k.Record()
		_, err := k.MarshalPrivate()
		if k.Algorithm() != "" || record != "" || value != "" || !errors.Is(err, ErrKey) {
			t.Errorf("%s: %q, %q, %q, %v", name, k.Algorithm(), record, value, err)
		}
	}
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
