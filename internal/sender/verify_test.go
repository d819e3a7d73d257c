package sender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"mittente/internal/account"
	"mittente/internal/record"
)

// The records to publish, in the form that other tools rely on.
func TestRecords(t *testing.T) {
	h := open(t)
	d := h.addDomain(t, "müller.example")
	records := h.records(t, d.Name)
	text, err := json.Marshal(records[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"purpose":"ownership","type":"TXT","name":"_mittente.xn--mller-kva.example","value":"mittente-verify=` + d.Token + `"}`
	if string(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
	patterns := []string{
		`^ownership TXT _mittente\.xn--mller-kva\.example mittente-verify=[0-9a-v]{26}$`,
		`^dkim TXT m[0-9a-z]+\._domainkey\.xn--mller-kva\.example v=DKIM1; k=rsa; p=[A-Za-z0-9+/]+=*$`,
		`^dkim TXT m[0-9a-z]+\._domainkey\.xn--mller-kva\.example v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=$`,
		`^spf TXT xn--mller-kva\.example v=spf1 a:relay\.example\.net ~all$`,
		`^dmarc TXT _dmarc\.xn--mller-kva\.example v=DMARC1; p=none$`,
	}
	if len(records) != len(patterns) {
		t.Fatalf("%d records", len(records))
	}
	for i, r := range records {
		if line := fmt.Sprint(r.Purpose, " ", r.Type, " ", r.Name, " ", r.Value); !regexp.MustCompile(patterns[i]).MatchString(line) {
			t.Errorf("record %d: %s", i, line)
		}
	}
}

// S22: what is found in the DNS, and what it makes of a domain.
func TestS22_VerifyDomain(t *testing.T) {
	type zoneText = map[string][]string
	everything := zoneText{
		"own": {"OWN"}, "rsa": {"RSA"}, "ed": {"ED"},
		"spf": {"v=spf1 mx +a:RELAY.example.net -all"}, "dmarc": {"v=DMARC1; p=reject"},
	}
	cases := []struct {
		name   string
		zone   zoneText // by short name of the record; a name that is missing does not exist
		broken string   // names that are answered SERVFAIL
		state  State    // before
		want   State    // after
		ok     string   // purposes whose check is fine
		error  string   // in LastError
	}{
		{"nothing", nil, "", StatePending, StatePending, "", "no TXT record at _mittente.case"},
		{"no records at the name", zoneText{"own": {}}, "", StatePending, StatePending, "", "no TXT record at _mittente.case"},
		{"ownership", zoneText{"own": {"OWN"}}, "", StatePending, StateVerified, "own", ""},
		{"one of several", zoneText{"own": {"x", "OWN", "y"}}, "", StatePending, StateVerified, "own", ""},
		{"space around", zoneText{"own": {" OWN "}}, "", StatePending, StateVerified, "own", ""},
		{"another token", zoneText{"own": {"mittente-verify=0123456789abcdefghijklmnop"}}, "", StatePending, StatePending, "", "as expected"},
		{"the token and more", zoneText{"own": {"OWNx"}}, "", StatePending, StatePending, "", "as expected"},
		{"the token inside", zoneText{"own": {"say OWN"}}, "", StatePending, StatePending, "", "as expected"},
		{"in capitals", zoneText{"own": {"UPPER"}}, "", StatePending, StatePending, "", "as expected"},
		{"at the domain itself", zoneText{"spf": {"OWN"}}, "", StatePending, StatePending, "", "no TXT record"},

		{"both keys", zoneText{"rsa": {"RSA"}, "ed": {"ED"}}, "", StatePending, StateVerified, "rsa ed", ""},
		{"one key", zoneText{"rsa": {"RSA"}}, "", StatePending, StatePending, "rsa", "no TXT record at _mittente"},
		{"keys exchanged", zoneText{"rsa": {"ED"}, "ed": {"RSA"}}, "", StatePending, StatePending, "", "no TXT record at _mittente"},
		{"everything", everything, "", StatePending, StateVerified, "own rsa ed spf dmarc", ""},

		{"no answer", nil, "own", StatePending, StatePending, "", "does not answer"},
		{"no answer, keys there", zoneText{"rsa": {"RSA"}, "ed": {"ED"}}, "own", StatePending, StateVerified, "rsa ed", ""},
		{"no answer for the keys", zoneText{"own": {"OWN"}}, "rsa ed spf dmarc", StatePending, StateVerified, "own", ""},

		{"verified, gone", nil, "", StateVerified, StateVerified, "", "no TXT record"},
		{"verified, no answer", nil, "own rsa ed spf dmarc", StateVerified, StateVerified, "", "does not answer"},
		{"verified, keys do not answer", nil, "rsa ed", StateVerified, StateVerified, "", "does not answer"},
		{"verified, one key does not answer", zoneText{"rsa": {"RSA"}}, "ed", StateVerified, StateVerified, "rsa", "does not answer"},
		{"verified, one key gone", nil, "ed", StateVerified, StateVerified, "", "no TXT record at _mittente"},
		{"revoked, back", zoneText{"own": {"OWN"}}, "", StateRevoked, StateVerified, "own", ""},
		{"revoked, still gone", nil, "", StateRevoked, StateRevoked, "", "no TXT record"},
		{"failed, no answer", nil, "own", StateFailed, StateFailed, "", "does not answer"},
		{"failed, there at last", zoneText{"own": {"OWN"}}, "", StateFailed, StateVerified, "own", ""},
	}
	h := open(t)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			name := mustDomain(t, fmt.Sprintf("case%d.example.com", i))
			h.force(t, name, c.state)
			records := h.records(t, name)
			h.publish(records, c.zone)
			for i, r := range records {
				h.zone.fail(r.Name, strings.Contains(c.broken, keyed[i]))
			}
			d, checks, err := h.VerifyDomain(t.Context(), h.user.Account, name)
			if err != nil || d.State != c.want || d.CheckedAt.IsZero() {
				t.Errorf("%+v, %v, want %s", d, err, c.want)
			}
			if (d.LastError == "") != (c.error == "") || !strings.Contains(d.LastError, c.error) {
				t.Errorf("last error %q, want %q", d.LastError, c.error)
			}
			if becomes := c.state != StateVerified && c.want == StateVerified; becomes == d.VerifiedAt.IsZero() {
				t.Errorf("verified at %v", d.VerifiedAt)
			}
			expectChecks(t, checks, records, c.ok)
		})
	}
}

// keyed are short names for the five records of a domain.
var keyed = []string{"own", "rsa", "ed", "spf", "dmarc"}

// publish puts records in the name server; OWN, RSA, ED and UPPER in them stand
// for expected values.
func (h *house) publish(records []record.Record, zone map[string][]string) {
	expected := strings.NewReplacer("OWN", records[0].Value, "RSA", records[1].Value, "ED", records[2].Value, "UPPER", strings.ToUpper(records[0].Value))
	for i, r := range records {
		var published []string
		for _, text := range zone[keyed[i]] {
			published = append(published, expected.Replace(text))
		}
		if _, exists := zone[keyed[i]]; exists {
			h.zone.set(r.Name, published...)
		}
	}
}

func expectChecks(t *testing.T, checks []record.Check, records []record.Record, ok string) {
	t.Helper()
	var fine []string
	for i, c := range checks {
		if c.OK {
			fine = append(fine, keyed[i])
		}
		if c.OK != (c.Problem == "") || c.Required != (i < 3) || c.Record != records[i] || c.Found == nil || c.OK && len(c.Found) == 0 {
			t.Errorf("check %+v", c)
		}
	}
	if got := strings.Join(fine, " "); got != ok {
		t.Errorf("fine: %q, want %q", got, ok)
	}
}

// Only a domain of the account can be verified, and a look that was cancelled changes nothing.
func TestVerifyDomainOfNobody(t *testing.T) {
	h := open(t)
	if _, _, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	h.addDomain(t, "example.com")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := h.VerifyDomain(ctx, h.user.Account, "example.com"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A name server can't fill memory or terminal.
func TestFoundIsBounded(t *testing.T) {
	h := open(t)
	h.addDomain(t, "example.com")
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprint(i, strings.Repeat("\xff", 900)))
	}
	h.zone.set("_mittente.example.com", many...)
	_, checks, err := h.VerifyDomain(t.Context(), h.user.Account, "example.com")
	if err != nil || len(checks[0].Found) != 10 {
		t.Fatalf("%d records shown, %v", len(checks[0].Found), err)
	}
	for _, text := range checks[0].Found {
		if len(text) > 600+2 {
			t.Errorf("%d octets shown", len(text))
		}
	}
}

// RFC 7208 §3.2: a name has one SPF record, so one that is there is amended and
// never joined by a second.
func TestSPFAdvice(t *testing.T) {
	cases := []struct {
		name   string
		texts  []string
		ok     bool
		advice string // what it contains
	}{
		{"none", nil, false, ""},
		{"other texts", []string{"google-site-verification=x", "v=spf10 mx"}, false, ""},
		{"another", []string{"x", "v=spf1 include:x.example -all"}, false, "add a:relay.example.net to the SPF record that is there"},
		{"an empty one", []string{"V=SPF1"}, false, "add a:relay.example.net"},
		{"has it already", []string{"v=spf1 mx a:relay.example.net -all"}, true, ""},
		{"denies it", []string{"v=spf1 -a:relay.example.net ~all"}, false, "without a qualifier"},
		{"has it too late", []string{"v=spf1 -all a:relay.example.net"}, false, `before its "all"`},
		{"two", []string{"v=spf1 mx -all", "v=spf1 a:relay.example.net ~all"}, false, "2 SPF records, and a name has one only"},
	}
	h := open(t)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			name := mustDomain(t, fmt.Sprintf("spf%d.example.com", i))
			h.addDomain(t, string(name))
			if c.texts != nil {
				h.zone.set(string(name), c.texts...)
			}
			_, checks, err := h.VerifyDomain(t.Context(), h.user.Account, name)
			if err != nil {
				t.Fatal(err)
			}
			spf := checks[3]
			if spf.OK != c.ok || (spf.Advice == "") != (c.advice == "") || !strings.Contains(spf.Advice, c.advice) {
				t.Errorf("ok %t, advice %q", spf.OK, spf.Advice)
			}
		})
	}
}
