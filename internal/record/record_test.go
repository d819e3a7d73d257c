package record

import "testing"

// What counts as a record that is as expected.
func TestSatisfied(t *testing.T) {
	dkim := Record{Purpose: PurposeDKIM, Value: "v=DKIM1; k=ed25519; p=AbC+/="}
	viaRSA := Record{Purpose: PurposeDKIM, Value: "v=DKIM1; k=rsa; p=AbC+/="}
	spf := Record{Purpose: PurposeSPF, Value: "v=spf1 a:relay.example.net ~all"}
	dmarc := Record{Purpose: PurposeDMARC}
	cases := []struct {
		name string
		r    Record
		text string
		want bool
	}{
		{"the same", dkim, dkim.Value, true},
		{"other spacing", dkim, "v=DKIM1;k=ed25519;p= AbC\t+/= ;", true},
		{"other order and tags", dkim, "t=s; p=AbC+/=; n=x; k=ed25519", true},
		{"case of the key", dkim, "v=DKIM1; k=ed25519; p=abc+/=", false},
		{"revoked", dkim, "v=DKIM1; k=ed25519; p=", false},
		{"no key", dkim, "v=DKIM1; k=ed25519", false},
		{"cut off", dkim, "v=DKIM1; k=ed25519; p=AbC+", false},
		{"another type", dkim, "v=DKIM1; p=AbC+/=", false},
		{"the type that is meant when missing", viaRSA, "p=AbC+/=", true},
		{"empty", dkim, "", false},
		{"SPF as proposed", spf, spf.Value, true},
		{"SPF with others", spf, "v=spf1 mx include:x.example A:Relay.Example.NET -all", true},
		{"SPF that denies us", spf, "v=spf1 -a:relay.example.net", false},
		{"SPF of a longer name", spf, "v=spf1 a:relay.example.net.evil ~all", false},
		{"SPF of another version", spf, "v=spf10 a:relay.example.net", false},
		{"no SPF", spf, "a:relay.example.net", false},
		{"SPF after all", spf, "v=spf1 -all a:relay.example.net", false},
		{"DMARC", dmarc, "v=DMARC1;p=none", true},
		{"no DMARC", dmarc, "p=none", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.r.satisfied([]string{"something else", c.text}); got != c.want {
				t.Errorf("%q: %t", c.text, got)
			}
		})
	}
}

// What the DNS has is written by strangers.
// S22: temporary DNS errors never count, not even those of one of several records.
// Each letter is a record: + is there, - is not, ? did not answer.
func TestS22_WhatALookProves(t *testing.T) {
	for looks, want := range map[string]Finding{
		"+ --": Found, "+ ??": Found, "- ++": Found, "? ++": Found, "+ ": Found,
		"- --": Absent, "- +-": Absent, "- ?-": Absent, "- ": Absent,
		"? --": Unknown, "? +?": Unknown, "? ": Unknown,
		"- ??": Unknown, "- +?": Unknown, "- ?+": Unknown,
	} {
		look := func(r rune, purpose string) Check {
			return Check{Record: Record{Purpose: purpose, KeyState: KeySigns}, OK: r == '+', unknown: r == '?'}
		}
		checks := []Check{look(rune(looks[0]), PurposeOwnership)}
		for _, r := range looks[2:] {
			checks = append(checks, look(r, PurposeDKIM))
		}
		if got, _ := Judge(checks); got != want {
			t.Errorf("%q: %v, want %v", looks, got, want)
		}
	}
}

func FuzzSatisfied(f *testing.F) {
	for _, s := range []string{"", ";", "v=DKIM1; k=rsa; p=AA", "v=spf1", "=;=", "p=\xff;p", "v=DMARC1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, purpose := range []string{PurposeOwnership, PurposeDKIM, PurposeSPF, PurposeDMARC} {
			r := Record{Purpose: purpose, Value: "v=DKIM1 p; p=QUJD; k=rsa"}
			if r.satisfied([]string{text}) && text == "" {
				t.Fatal("nothing satisfies", purpose)
			}
		}
	})
}
