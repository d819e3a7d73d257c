package submission_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/sender"
	"mittente/internal/submission"
)

// alerts returns what an operator would see, the newest first.
func (h *house) alerts(t *testing.T, kind alert.Kind) (all []alert.Alert) {
	t.Helper()
	check(t, h.db.View(t.Context(), func(tx *db.Tx) (err error) {
		all, err = alert.List(tx, alert.Filter{Kind: kind})
		return err
	}))
	return all
}

func (h *house) refusals(t *testing.T) (all []event.Event) {
	t.Helper()
	check(t, h.db.View(t.Context(), func(tx *db.Tx) (err error) {
		all, err = event.Refusals(tx, h.session.Principal.User.Account, event.Page{})
		return err
	}))
	return all
}

func (h *house) say(t *testing.T, from, header string, to ...string) error {
	t.Helper()
	_, err := h.submit(t, envelope(t, from, to...), strings.NewReader(header+"\r\n\r\nx\r\n"))
	return err
}

// TestS18_RefusalIsRecordedAndRaised: user, address, place, client, reverse-path
// and recipients, in the event and in the alert that the next of its kind joins.
func TestS18_RefusalIsRecordedAndRaised(t *testing.T) {
	h := open(t, db.Config{})
	h.session.Transcript = func() string { return strings.Repeat("C: NOOP\n", 2000) + "C: DATA\n" }
	const header = "From: shop@verified.example\r\nSender: v@elsewhere.example"
	for range 3 {
		if got := reason(t, h.say(t, "boss@verified.example", header, "a@there.example", "b@there.example")); got != submission.NotAuthorised {
			t.Fatal(got)
		}
	}
	recorded := h.refusals(t)
	if len(recorded) != 3 {
		t.Fatalf("%d events", len(recorded))
	}
	r := recorded[0].Detail.Refusal
	if len(r.Transcript) > 4<<10 || !strings.HasSuffix(r.Transcript, "C: DATA\n") {
		t.Errorf("transcript of %d octets", len(r.Transcript))
	}
	r.Transcript = ""
	want := event.Refusal{
		User: "s1_1", Address: "v@elsewhere.example", Place: "sender", Client: "127.0.0.1",
		Reason: "not_authorised", ReversePath: "boss@verified.example", Recipients: 2,
	}
	if *r != want {
		t.Errorf("got %+v\nwant %+v", *r, want)
	}
	raised := h.alerts(t, "")
	if len(raised) != 1 || raised[0].Count != 3 || raised[0].Kind != alert.SenderDomain || raised[0].Event != recorded[0].ID {
		t.Fatalf("%+v", raised)
	}
	user := h.session.Principal.User
	if raised[0].Account != user.Account || raised[0].List != user.List {
		t.Errorf("it belongs to %s, %s", raised[0].Account, raised[0].List)
	}
	for name, value := range map[string]string{
		"user": "s1_1", "address": "v@elsewhere.example", "place": "sender", "recipients": "2", "client": "127.0.0.1", "reverse_path": "boss@verified.example",
	} {
		if raised[0].Facts[name] != value {
			t.Errorf("%s is %q, want %q", name, raised[0].Facts[name], value)
		}
	}
}

// TestS18_PlacesAndAddressesAreApart: by user, place and address, in any case.
func TestS18_PlacesAndAddressesAreApart(t *testing.T) {
	h := open(t, db.Config{})
	for _, from := range []string{"v@elsewhere.example", "V@ELSEWHERE.example", "w@elsewhere.example", "a@waiting.example"} {
		if _, err := h.gate.Mail(t.Context(), h.session, reverse(t, from)); reason(t, err) == "" {
			t.Fatal(from)
		}
	}
	if got := reason(t, h.say(t, "", "From: v@elsewhere.example", "a@there.example")); got != submission.NotAuthorised {
		t.Fatal(got)
	}
	var keys []string
	for _, a := range h.alerts(t, alert.SenderDomain) {
		keys = append(keys, fmt.Sprint(a.Count, " ", a.Key))
	}
	want := []string{
		"1 s1_1 from v@elsewhere.example", "1 s1_1 reverse-path a@waiting.example",
		"1 s1_1 reverse-path w@elsewhere.example", "2 s1_1 reverse-path v@elsewhere.example",
	}
	if !slices.Equal(keys, want) {
		t.Errorf("got %q\nwant %q", keys, want)
	}
}

// TestS18_OnlineForm: three different From under one valid MAIL FROM are one
// entry that says what it is (S24).
func TestS18_OnlineForm(t *testing.T) {
	h := open(t, db.Config{})
	for i := range 5 {
		err := h.say(t, "shop@verified.example", fmt.Sprintf("From: visitor%d@elsewhere.example", i), "a@there.example")
		if got := reason(t, err); got != submission.FormVisitor {
			t.Fatal(got)
		}
		if n, want := len(h.alerts(t, "")), []int{1, 2, 1, 1, 1}[i]; n != want {
			t.Errorf("%d entries after %d visitors, want %d", n, i+1, want)
		}
	}
	form := h.alerts(t, "")[0]
	if form.Count != 5 || form.Facts["pattern"] != "online_form" || form.Facts["reverse_path"] != "shop@verified.example" || form.Facts["user"] != "s1_1" {
		t.Errorf("%+v", form)
	}
	if got := strings.Fields(form.Facts[alert.FactExamples]); len(got) != 5 || got[0] != "visitor4@elsewhere.example" {
		t.Errorf("examples %q", got)
	}
}

// TestManyAddressesAreOneEntry: whoever sends as everybody fills no table.
func TestManyAddressesAreOneEntry(t *testing.T) {
	h := open(t, db.Config{})
	for i := range 50 {
		if _, err := h.gate.Mail(t.Context(), h.session, reverse(t, fmt.Sprintf("x%d@elsewhere%d.example", i, i))); reason(t, err) != submission.NotAuthorised {
			t.Fatal(err)
		}
	}
	got := h.alerts(t, "")
	if len(got) != 1 || got[0].Count != 50 || got[0].Facts["pattern"] != "many_addresses" {
		t.Errorf("%d entries, the first %+v", len(got), got[0])
	}
}

// TestRefusedInALoop: a program that goes on and on does not fill the disk; that
// it does is counted to the last.
func TestRefusedInALoop(t *testing.T) {
	h := open(t, db.Config{})
	zero := 0
	for range 400 {
		_, err := h.gate.Mail(t.Context(), h.session, reverse(t, "v@elsewhere.example"))
		r, _ := errors.AsType[*submission.Rejection](err)
		if r == nil || r.Reason != submission.NotAuthorised {
			t.Fatal(err)
		}
		if r.Event.IsZero() {
			zero++
		}
	}
	got, most := h.alerts(t, ""), h.count(t, `SELECT COUNT(*) FROM event`)
	if most+zero != 400 || most < 120 || most > 240 { // the minute may have turned
		t.Errorf("%d events, %d refusals without", most, zero)
	}
	if len(got) != 1 || got[0].Count != 400 || got[0].Event.IsZero() {
		t.Errorf("%+v", got)
	}
}

// TestPendingSaysWhatIsMissing: the door tells to answer a letter, or to publish a record.
func TestPendingSaysWhatIsMissing(t *testing.T) {
	h := open(t, db.Config{})
	_, err := h.gate.Mail(t.Context(), h.session, reverse(t, "a@waiting.example"))
	r, _ := errors.AsType[*submission.Rejection](err)
	if r == nil || r.Reason != submission.Pending || r.Kind != "domain" || r.Entry != "waiting.example" {
		t.Errorf("%+v", r)
	}
	h.matrix(t, "pending")
	for from, want := range map[string]string{
		"boss@address.example": "address boss@address.example", "x@domain.example": "domain domain.example",
		"x@a.wildcard.example": "wildcard *.wildcard.example",
	} {
		_, err := h.gate.Mail(t.Context(), h.session, reverse(t, from))
		r, _ := errors.AsType[*submission.Rejection](err)
		if r == nil || string(r.Kind)+" "+r.Entry != want || r.State != sender.StatePending {
			t.Errorf("%s: %+v, want %s", from, r, want)
		}
	}
}

// auth tries a password as a door does, and tells the gate what came of it.
func (h *house) auth(t *testing.T, attempt account.AuthAttempt) account.Reason {
	t.Helper()
	_, err := h.accounts.Authenticate(t.Context(), attempt)
	why, _ := errors.AsType[*account.AuthError](err)
	if why == nil {
		t.Fatal(err)
	}
	client := netip.AddrPortFrom(attempt.Client, 4000)
	h.gate.AuthRefused(t.Context(), why, submission.Session{Client: client, Helo: "cron.example"})
	return why.Reason
}

// TestAuthRefused: what an operator hears of passwords, right ones that did not
// help and wrong ones that are too many.
func TestAuthRefused(t *testing.T) {
	h := open(t, db.Config{})
	yes, no := true, false
	var password string
	h.batch(t, func(tx *db.Tx) (err error) {
		password, err = h.accounts.SetPassword(tx, "s1_1", 0)
		return err
	})
	edit := func(change account.Edit) {
		h.batch(t, func(tx *db.Tx) error { _, err := h.accounts.EditUser(tx, "s1_1", change); return err })
	}
	right := account.AuthAttempt{Name: "s1_1", Password: password, Client: netip.MustParseAddr("203.0.113.9")}
	overTLS := right
	overTLS.TLS = true

	edit(account.Edit{RequireTLS: &yes})
	for range 2 {
		if got := h.auth(t, right); got != account.TLSRequired {
			t.Fatal(got)
		}
	}
	user := h.session.Principal.User
	readable := h.alerts(t, alert.PasswordInClear)
	if len(readable) != 1 || readable[0].Count != 2 || readable[0].Account != user.Account || readable[0].List != user.List || readable[0].Facts["client"] != "203.0.113.9" {
		t.Errorf("password in clear: %+v", readable)
	}
	edit(account.Edit{RequireTLS: &no, Active: &no})
	if got := h.auth(t, overTLS); got != account.Inactive {
		t.Fatal(got)
	}
	if got := h.alerts(t, alert.SendingProblem); len(got) != 1 || got[0].Facts["reason"] != "inactive" {
		t.Errorf("inactive: %+v", got)
	}
	networks, err := account.ParseNetworks("192.0.2.0/24")
	check(t, err)
	edit(account.Edit{Active: &yes, Networks: &networks})
	if got := h.auth(t, overTLS); got != account.NotFromHere {
		t.Fatal(got)
	}
	if got := h.alerts(t, alert.Security); len(got) != 1 || got[0].Facts["user"] != "s1_1" {
		t.Errorf("from elsewhere: %+v", got)
	}
	if n := len(h.refusals(t)); n != 4 {
		t.Errorf("%d events, want 4", n)
	}
}

// TestGuessingIsRaisedOnce, as one alert of the house: whose password it was
// after nobody knows.
func TestGuessingIsRaisedOnce(t *testing.T) {
	h := open(t, db.Config{})
	for i := range 30 {
		h.auth(t, account.AuthAttempt{
			Name: fmt.Sprintf("s1_%d", i), Password: fmt.Sprintf("guess-%d", i), Client: netip.MustParseAddr("198.51.100.1"),
		})
	}
	got := h.alerts(t, alert.Security)
	if len(got) != 1 || got[0].Count != 1 || !got[0].Account.IsZero() || got[0].Facts["client"] != "198.51.100.1" {
		t.Errorf("%+v", got)
	}
	if n := len(h.alerts(t, "")); n != 1 {
		t.Errorf("%d alerts in all", n)
	}
}

// TestGuessersFillNoTable: a network of clients is one entry, and what is no
// user name, for it may be a password, is in none.
func TestGuessersFillNoTable(t *testing.T) {
	h := open(t, db.Config{})
	client := netip.MustParseAddr("2001:db8::1")
	for i := range 60 {
		h.gate.AuthRefused(t.Context(), &account.AuthError{Reason: account.BadCredentials, Name: "pa55word" + fmt.Sprint(i), Crossed: true},
			submission.Session{Client: netip.AddrPortFrom(client, 4000)})
		h.gate.AuthRefused(t.Context(), &account.AuthError{Reason: account.NotFromHere, Name: "s1_1"},
			submission.Session{Client: netip.AddrPortFrom(client, 4000)})
		client = client.Next()
	}
	got := h.alerts(t, alert.Security)
	if len(got) != 2 || got[0].Count != 60 || got[1].Count != 60 || len(strings.Fields(got[0].Facts[alert.FactExamples])) != 5 {
		t.Errorf("%d entries, the first %+v", len(got), got[0])
	}
	for _, a := range got {
		if strings.Contains(fmt.Sprint(a), "pa55word") {
			t.Errorf("a password is in %+v", a)
		}
	}
}

// TestEndedCredentialsAreRecorded: the session's user sees why its MAIL was refused.
func TestEndedCredentialsAreRecorded(t *testing.T) {
	h := open(t, db.Config{})
	h.batch(t, func(tx *db.Tx) error { return h.accounts.RemoveUser(tx, "s1_1") })
	if _, err := h.gate.Mail(t.Context(), h.session, reverse(t, "shop@verified.example")); err == nil {
		t.Fatal("let in")
	}
	got := h.refusals(t)
	if len(got) != 1 || got[0].Detail.Refusal.Reason != "removed" || got[0].Detail.Refusal.User != "s1_1" {
		t.Errorf("%+v", got)
	}
}

// TestS15_NoteIsInNoRecord: whatever is refused, for whatever reason, the note
// stands with the user alone.
func TestS15_NoteIsInNoRecord(t *testing.T) {
	h := open(t, db.Config{})
	_, _ = h.gate.Mail(t.Context(), h.session, reverse(t, "v@elsewhere.example"))
	for i := range 4 {
		_ = h.say(t, "shop@verified.example", fmt.Sprintf("From: v%d@elsewhere.example", i), "a@there.example")
	}
	_ = h.say(t, "shop@verified.example", "From: x@y@z", "a@there.example")
	h.limit(t, 1)
	_, _ = h.rcpts(t, 2)
	no := false
	h.batch(t, func(tx *db.Tx) error {
		_, err := h.accounts.EditUser(tx, "s1_1", account.Edit{Active: &no})
		return err
	})
	_, _ = h.gate.Mail(t.Context(), h.session, reverse(t, "shop@verified.example"))

	const shown db.SQL = `SELECT (SELECT count(*) FROM alert WHERE facts LIKE $1 OR key LIKE $1) + (SELECT count(*) FROM event WHERE detail LIKE $1)`
	var n int
	check(t, h.db.View(t.Context(), func(tx *db.Tx) error { return tx.Row(shown, "%"+noteMarker+"%").Scan(&n) }))
	if n != 0 {
		t.Errorf("the note is in %d records", n)
	}
	if len(h.alerts(t, "")) < 4 || len(h.refusals(t)) < 8 {
		t.Errorf("%d alerts, %d events: the test refuses too little", len(h.alerts(t, "")), len(h.refusals(t)))
	}
}
