package dkim

import "testing"

// What counts as the record of a key.
func TestPublished(t *testing.T) {
	const ed, rsa = "v=DKIM1; k=ed25519; p=AbC+/=", "v=DKIM1; k=rsa; p=AbC+/="
	cases := []struct {
		name, wanted, text string
		want               bool
	}{
		{"the same", ed, ed, true},
		{"other spacing", ed, "v=DKIM1;k=ed25519;p= AbC\t+/= ;", true},
		{"other order and tags", ed, "t=s; p=AbC+/=; n=x; k=ed25519", true},
		{"case of the key", ed, "v=DKIM1; k=ed25519; p=abc+/=", false},
		{"revoked", ed, RevokedRecord, false},
		{"no key", ed, "v=DKIM1; k=ed25519", false},
		{"cut off", ed, "v=DKIM1; k=ed25519; p=AbC+", false},
		{"another type", ed, "v=DKIM1; p=AbC+/=", false},
		{"the type that is meant when missing", rsa, "p=AbC+/=", true},
		{"empty", ed, "", false},
		{"revoked, as wanted", RevokedRecord, "v=DKIM1;p=", true},
		{"not revoked, which was wanted", RevokedRecord, rsa, false},
		{"no key, which is not the same as revoked", RevokedRecord, "v=DKIM1", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Published([]string{"something else", c.text}, c.wanted); got != c.want {
				t.Errorf("%q: %t", c.text, got)
			}
		})
	}
}

// A key's own record is found as published.
func TestOwnRecordIsPublished(t *testing.T) {
	k, err := NewEd25519("example.com", "s")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewEd25519("example.com", "s")
	if err != nil {
		t.Fatal(err)
	}
	_, value := k.Record()
	_, others := other.Record()
	if !Published([]string{value}, value) || Published([]string{others}, value) {
		t.Error("keys are taken for one another")
	}
}
