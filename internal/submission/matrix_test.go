package submission_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/sender"
	"mittente/internal/submission"
)

// The matrix of S20: what is claimed, in which state what covers it is, and where
// the claim stands. All that is listed belongs to the user of the house.
//
// "own.example" is verified in all houses, for the other addresses that a case needs.
const (
	matrixOwn    = "own@own.example"
	matrixListed = "boss@address.example domain.example *.wildcard.example parent.example look.example münchen.example CASE.example Boss@Casebox.example"

	forceDomains   db.SQL = `UPDATE sender_domain SET state = $1 WHERE name <> 'own.example'`
	forceAddresses db.SQL = `UPDATE sender_address SET state = $1`
)

// matrixClaims are addresses, and whether what is listed covers them.
func matrixClaims() map[string]struct {
	address string
	covered bool
} {
	return map[string]struct {
		address string
		covered bool
	}{
		"address":                    {"boss@address.example", true},
		"another at its domain":      {"clerk@address.example", false},
		"tagged address":             {"boss+x@address.example", false},
		"domain":                     {"x@domain.example", true},
		"wildcard":                   {"x@a.wildcard.example", true},
		"deep below a wildcard":      {"x@a.b.c.wildcard.example", true},
		"the wildcard's own domain":  {"x@wildcard.example", false},
		"look-alike":                 {"x@l00k.example", false},
		"look-alike in Cyrillic":     {"x@lооk.example", false},
		"look-alike by suffix":       {"x@look.example.attacker.example", false},
		"look-alike by prefix":       {"x@notlook.example", false},
		"subdomain":                  {"x@sub.parent.example", false},
		"international":              {"x@münchen.example", true},
		"international in A-labels":  {"x@xn--mnchen-3ya.example", true},
		"international in capitals":  {"x@MÜNCHEN.example", true},
		"international, not the one": {"x@munchen.example", false},
		"domain in other case":       {"x@case.EXAMPLE", true},
		"address in other case":      {"bOSS@CASEBOX.example", true},
	}
}

// place is a header section with a claim, %s.
type place struct {
	header    string
	foreign   submission.Reason // for a claim that is listed nowhere
	named     bool              // it is a name there, which is nobody's to judge: the address beside it is the user's
	malformed bool              // whatever is claimed
}

func matrixPlaces() map[string]place {
	visitor := submission.FormVisitor
	return map[string]place{
		"From":                    {header: "From: %s", foreign: visitor},
		"From in brackets":        {header: "From: <%s>", foreign: visitor},
		"From with a name":        {header: "From: \"The boss\" <%s>", foreign: visitor},
		"Sender":                  {header: "From: " + matrixOwn + "\r\nSender: %s", foreign: submission.NotAuthorised},
		"several, last":           {header: "From: " + matrixOwn + ", %s", foreign: visitor},
		"several, first":          {header: "From: <%s>,\r\n\t" + matrixOwn + "\r\nSender: " + matrixOwn, foreign: visitor},
		"folded":                  {header: "From: The\r\n boss\r\n\t<%s>", foreign: visitor},
		"folded at once":          {header: "From:\r\n %s", foreign: visitor},
		"commented":               {header: "From: (to be read) %s (by all)", foreign: visitor},
		"encoded name":            {header: "From: =?utf-8?q?B=C3=B6ss?= <%s>", foreign: visitor},
		"field name in capitals":  {header: "FROM: %s", foreign: visitor},
		"as the name of ours":     {header: "From: \"%s\" <" + matrixOwn + ">", named: true},
		"brackets in our name":    {header: "From: \"<%s>\" <" + matrixOwn + ">", malformed: true},
		"in an encoded name":      {header: "From: =?us-ascii?q?%s?= <" + matrixOwn + ">", malformed: true},
		"in a comment":            {header: "From: " + matrixOwn + " (%s)", malformed: true},
		"duplicated":              {header: "From: " + matrixOwn + "\r\nFrom: %s", malformed: true},
		"duplicated, other order": {header: "From: %s\r\nSubject: x\r\nfrom: " + matrixOwn, malformed: true},
		"Sender duplicated":       {header: "From: " + matrixOwn + "\r\nSender: %s\r\nSender: %[1]s", malformed: true},
		"several in Sender":       {header: "From: " + matrixOwn + "\r\nSender: " + matrixOwn + ", %s", malformed: true},
		"bracket not closed":      {header: "From: <%s", malformed: true},
		"two addresses, no comma": {header: "From: " + matrixOwn + " %s", malformed: true},
		"group":                   {header: "From: friends: %s;", malformed: true},
		"source route":            {header: "From: <@relay.example:%s>", malformed: true},
		"semicolon for comma":     {header: "From: " + matrixOwn + "; %s", malformed: true},
		"space before the colon":  {header: "From : %s", malformed: true},
		"behind a NUL":            {header: "From: " + matrixOwn + ",\x00 %s", malformed: true},
		"first line continued":    {header: " From: %s\r\nFrom: " + matrixOwn, malformed: true},
		"empty From, claim below": {header: "From:\r\nX-From: %s", malformed: true},
		"encoded word around all": {header: "From: =?utf-8?q?%s?=", malformed: true},
		"quoted at our domain":    {header: "From: \"%s\"@own.example", malformed: true},
	}
}

// TestS20_AuthorisationMatrix: {what is claimed} × {verified, pending, revoked,
// absent} × {MAIL FROM, From, Sender and every way to write them}.
func TestS20_AuthorisationMatrix(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"verified", "pending", "revoked", "absent"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			h := open(t, db.Config{})
			h.matrix(t, state)
			for claimed, c := range matrixClaims() {
				h.judgeMail(t, claimed, c.address, verdicts(state, c.covered, submission.NotAuthorised))
				for place, p := range matrixPlaces() {
					want := verdicts(state, c.covered, p.foreign)
					switch {
					case p.malformed && state != "verified":
						continue // no state makes it better
					case p.malformed:
						want = []submission.Reason{submission.Malformed}
					case p.named:
						want = []submission.Reason{""}
					}
					h.judgeHeader(t, claimed+", "+place, fmt.Sprintf(p.header, c.address), want)
				}
			}
		})
	}
}

// verdicts are the reasons that a refusal may have; "" is acceptance. Of what is
// listed and revoked it matters only that it is refused.
func verdicts(state string, covered bool, foreign submission.Reason) []submission.Reason {
	switch {
	case !covered || state == "absent":
		return []submission.Reason{foreign}
	case state == "verified":
		return []submission.Reason{""}
	case state == "revoked":
		return []submission.Reason{submission.Pending, foreign}
	}
	return []submission.Reason{submission.Pending}
}

// matrix makes user s1_2 with its senders in a state, and signs in as it.
func (h *house) matrix(t *testing.T, state string) {
	t.Helper()
	listed := "own.example "
	if state != "absent" {
		listed += matrixListed
	}
	wanted, err := sender.ParseEntries(listed)
	check(t, err)
	request, err := h.senders.Prepare(t.Context(), h.owner(t), wanted)
	check(t, err)
	var password string
	h.batch(t, func(tx *db.Tx) error {
		user, secret, err := h.accounts.AddUser(tx, account.NewUser{List: 1, Active: true})
		if err != nil {
			return err
		}
		password = secret
		if err := h.senders.Authorise(tx, user, request); err != nil {
			return err
		}
		if _, err := h.senders.Override(tx, h.owner(t), "own.example", "test", "no DNS here"); err != nil {
			return err
		}
		if state == "absent" {
			return nil
		}
		if _, err := tx.Exec(forceDomains, state); err != nil {
			return err
		}
		_, err = tx.Exec(forceAddresses, state)
		return err
	})
	h.senders.Invalidate()
	h.signIn(t, "s1_2", password)
}

func (h *house) judgeMail(t *testing.T, name, address string, want []submission.Reason) {
	t.Helper()
	_, err := h.gate.Mail(t.Context(), h.session, reverse(t, address))
	if got := reason(t, err); !slices.Contains(want, got) {
		t.Errorf("%s, MAIL FROM: %q, want %q", name, got, want)
	}
}

// judgeHeader submits under the user's own reverse-path, and under the null one,
// where a foreign From is nobody's form.
func (h *house) judgeHeader(t *testing.T, name, header string, want []submission.Reason) {
	t.Helper()
	for _, from := range []string{matrixOwn, ""} {
		_, err := h.submit(t, envelope(t, from, "to@there.example"), strings.NewReader(header+"\r\n\r\nbody\r\n"))
		got := reason(t, err)
		expected := slices.Contains(want, got)
		if from == "" && got == submission.NotAuthorised {
			expected = slices.Contains(want, submission.FormVisitor) || slices.Contains(want, got)
		}
		if !expected || from == "" && got == submission.FormVisitor {
			t.Errorf("%s, reverse-path <%s>: %q (%v), want %q", name, from, got, err, want)
		}
	}
}
