package letter

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
)

// house is the room over a fresh database, with an account that asks.
type house struct {
	*Letters
	dir   string
	owner id.Account
}

func open(t *testing.T) *house {
	t.Helper()
	h := &house{dir: filepath.Join(t.TempDir(), "data"), owner: id.New[id.Account]()}
	d, err := db.Open(t.Context(), db.Config{DataDir: h.dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.Migrate(t.Context(), Schema()); err != nil {
		t.Fatal(err)
	}
	if h.Letters, err = New(d, [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) do(t *testing.T, do func(*db.Tx) error) {
	t.Helper()
	if err := h.db.Batch(t.Context(), do); err != nil {
		t.Fatal(err)
	}
}

func address(t *testing.T, text string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask asks the owner of an address, for it or for a domain.
func (h *house) ask(t *testing.T, to string, domain ...mail.Domain) error {
	t.Helper()
	q := Question{To: address(t, to)}
	if len(domain) > 0 {
		q.Domain = domain[0]
	}
	return h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.Ask(tx, h.owner, q, Asking{By: "Marta", Lang: "it"}) })
}

func (h *house) mustAsk(t *testing.T, to string, domain ...mail.Domain) {
	t.Helper()
	if err := h.ask(t, to, domain...); err != nil {
		t.Fatal(err)
	}
}

func (h *house) due(t *testing.T) (letters []Letter) {
	t.Helper()
	h.do(t, func(tx *db.Tx) (err error) { letters, err = h.Due(tx, Letter{}, 100); return err })
	return letters
}

// send takes the only letter that is due and says that it left.
func (h *house) send(t *testing.T) Letter {
	t.Helper()
	letters := h.due(t)
	if len(letters) != 1 {
		t.Fatalf("%d letters are due: %+v", len(letters), letters)
	}
	h.do(t, func(tx *db.Tx) error { return h.Sent(tx, letters[0]) })
	return letters[0]
}

// answerable is what a link says to who opens it.
func (h *house) answerable(t *testing.T, token string) error {
	t.Helper()
	link, err := h.Genuine(token)
	if err != nil {
		return err
	}
	return h.db.View(t.Context(), func(tx *db.Tx) error {
		l, err := h.ByLink(tx, link)
		if err != nil {
			return err
		}
		return l.Answerable()
	})
}

func (h *house) standing(t *testing.T, a string) (s Standing) {
	t.Helper()
	h.do(t, func(tx *db.Tx) error {
		one, err := h.Standings(tx, h.owner, address(t, a).Key())
		if err != nil {
			return err
		}
		all, err := h.Standings(tx, h.owner, "")
		if s = one[address(t, a).Key()]; s != all[address(t, a).Key()] {
			t.Errorf("%s alone: %+v, among all: %+v", a, s, all)
		}
		return err
	})
	return s
}

// A room without a key could give out links that anybody can make.
func TestNewWantsAKey(t *testing.T) {
	if _, err := New(nil, [32]byte{}); err == nil {
		t.Error("no key, no error")
	}
}

// A letter is sent once, and its link is nobody's before.
func TestLetterIsSentOnce(t *testing.T) {
	h := open(t)
	told := 0
	h.OnDue(func() { told++ })
	h.mustAsk(t, "a@studio.example")
	waiting := h.due(t)[0]
	if err := h.answerable(t, waiting.Token); !errors.Is(err, ErrUnknownToken) {
		t.Errorf("before it is sent: %v", err)
	}
	l := h.send(t)
	if l.Kind != Ask || l.Address.String() != "a@studio.example" || l.Lang != "it" || l.RequestedBy != "Marta" || l.Account != h.owner {
		t.Errorf("%+v", l)
	}
	if err := h.answerable(t, l.Token); err != nil {
		t.Error(err)
	}
	if err := h.db.Batch(t.Context(), func(tx *db.Tx) error { return h.Sent(tx, l) }); !errors.Is(err, account.ErrConflict) || len(h.due(t)) != 0 {
		t.Errorf("sent twice: %v", err)
	}
	h.Invalidate()
	if told != 2 {
		t.Errorf("told %d times", told)
	}
}

// Who asks sees how far that has come.
func TestStandings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		if s := h.standing(t, "a@studio.example"); s != (Standing{}) {
			t.Errorf("nobody asked: %+v", s)
		}
		h.mustAsk(t, "a@studio.example")
		if s := h.standing(t, "a@studio.example"); s != (Standing{Open: true}) {
			t.Errorf("before it is sent: %+v", s)
		}
		l := h.send(t)
		sent := db.Now()
		if s := h.standing(t, "A@studio.example"); s != (Standing{Open: true, AskedAt: sent, ExpiresAt: l.ExpiresAt}) {
			t.Errorf("sent: %+v", s)
		}
		time.Sleep(LinkLife)
		if s := h.standing(t, "a@studio.example"); s.Open || !s.ExpiresAt.Equal(l.ExpiresAt) {
			t.Errorf("expired: %+v", s)
		}
		h.mustAsk(t, "a@studio.example")
		if s := h.standing(t, "a@studio.example"); s != (Standing{Open: true, AskedAt: sent}) {
			t.Errorf("asked again: %+v", s)
		}
		l = h.send(t)
		h.do(t, func(tx *db.Tx) error { return h.Close(tx, l, OutcomeConfirmed) })
		if s := h.standing(t, "a@studio.example"); s.Open || !s.ExpiresAt.IsZero() || !s.AskedAt.Equal(db.Now()) {
			t.Errorf("answered: %+v", s)
		}
	})
}

// Letters of an account to one address are a minute apart, and five a day; a new
// one makes the link before it void.
func TestResendIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		begun := time.Now()
		h.mustAsk(t, "postmaster@studio.example")
		first := h.send(t)
		h.waits(t, begun.Add(askGap))
		for range askPerDay - 2 {
			time.Sleep(askGap)
			h.mustAsk(t, "Postmaster@studio.example")
		}
		time.Sleep(askGap)
		h.mustAsk(t, "postmaster@studio.example", "studio.example") // it is the same mailbox
		if err := h.answerable(t, first.Token); !errors.Is(err, ErrReplaced) || !errors.Is(err, ErrExpired) {
			t.Errorf("the first link: %v", err)
		}
		if letters := h.due(t); len(letters) != 2 {
			t.Errorf("due: %+v", letters)
		}
		time.Sleep(time.Hour)
		h.waits(t, begun.Add(askDay))
		h.mustAsk(t, "other@studio.example")
		time.Sleep(time.Until(begun.Add(askDay)))
		h.mustAsk(t, "postmaster@studio.example")
	})
}

// waits asks, and expects to have to wait.
func (h *house) waits(t *testing.T, until time.Time) {
	t.Helper()
	var wait *WaitError
	err := h.ask(t, "postmaster@studio.example")
	if !errors.As(err, &wait) || !errors.Is(err, account.ErrConflict) || wait.Refused || !wait.Until.Equal(until) || !strings.Contains(err.Error(), "not again before") {
		t.Errorf("%v, want until %v", err, until)
	}
}

// Who has refused is left alone for 90 days by that account, and by no other.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		a := address(t, "a@studio.example")
		h.do(t, func(tx *db.Tx) error { return h.Rest(tx, h.owner, a) })
		until := time.Now().Add(RestAfterNo)
		if s := h.standing(t, "a@studio.example"); !s.RestUntil.Equal(until) {
			t.Errorf("%+v", s)
		}
		other := &house{Letters: h.Letters, owner: id.New[id.Account]()}
		other.mustAsk(t, "a@studio.example")
		time.Sleep(RestAfterNo - time.Microsecond)
		if err := h.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wait *WaitError
		if err := h.ask(t, "A@studio.example"); !errors.As(err, &wait) || !wait.Refused || !wait.Until.Equal(until) || !strings.Contains(err.Error(), "has refused") {
			t.Errorf("just before: %v", err)
		}
		time.Sleep(time.Microsecond)
		h.mustAsk(t, "a@studio.example")
		if s := h.standing(t, "a@studio.example"); !s.RestUntil.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// What was withdrawn has no link any more; the rest stays.
func TestWithdrawing(t *testing.T) {
	h := open(t)
	tokens := map[string]string{}
	for _, to := range []string{"a@x.example", "b@x.example", "admin@x.example"} {
		var domain []mail.Domain
		if strings.HasPrefix(to, "admin") {
			domain = append(domain, "x.example")
		}
		h.mustAsk(t, to, domain...)
		tokens[to] = h.send(t).Token
	}
	h.mustAsk(t, "c@x.example") // does not leave
	h.mustAsk(t, "c@y.example")
	expect := func(step string, open ...string) {
		t.Helper()
		for to, token := range tokens {
			err := h.answerable(t, token)
			if want := strings.Contains(strings.Join(open, " "), to); want != (err == nil) || !want && !errors.Is(err, ErrUnknownToken) {
				t.Errorf("%s: %s: %v", step, to, err)
			}
		}
	}
	h.do(t, func(tx *db.Tx) error { return h.WithdrawUnsent(tx, h.owner, "x.example") })
	expect("unsent", "a@x.example", "b@x.example", "admin@x.example")
	if l := h.send(t); l.Address.String() != "c@y.example" {
		t.Errorf("%+v", l)
	}
	h.do(t, func(tx *db.Tx) error { return h.WithdrawAddress(tx, h.owner, address(t, "A@x.example")) })
	expect("address", "b@x.example", "admin@x.example")
	h.do(t, func(tx *db.Tx) error { return h.WithdrawAddress(tx, h.owner, address(t, "admin@x.example")) })
	expect("address, while its domain is asked for", "b@x.example", "admin@x.example")
	h.do(t, func(tx *db.Tx) error { return h.WithdrawDomain(tx, id.New[id.Account](), "x.example") })
	expect("domain of another account", "b@x.example", "admin@x.example")
	h.do(t, func(tx *db.Tx) error { return h.WithdrawDomain(tx, h.owner, "x.example") })
	expect("domain", "b@x.example")
}

// Nobody without the secret makes a token, though he has the database; tokens
// are of one form only, and of this house.
func TestTokens(t *testing.T) {
	h := open(t)
	h.mustAsk(t, "a@studio.example")
	l := h.send(t)
	if len(l.Token) != 40 || strings.Trim(l.Token, "0123456789abcdefghijklmnopqrstuv") != "" {
		t.Errorf("token %q", l.Token)
	}
	if err := h.answerable(t, strings.ToUpper(l.Token)); err != nil {
		t.Errorf("in capitals: %v", err)
	}
	other := links{[32]byte{2}}
	swapped := "0" + l.Token[1:]
	if l.Token[0] == '0' {
		swapped = "1" + l.Token[1:]
	}
	for name, token := range map[string]string{
		"another secret": other.token(l.ID),
		"no such letter": h.links.token(LinkID{1}),
		"another letter": swapped,
		"cut":            l.Token[:39], "longer": l.Token + "0", "none": "", "NUL": strings.Repeat("\x00", 40),
		"padding": l.Token[:39] + "=", "outside ASCII": l.Token[:38] + "é", "newline": l.Token[:20] + "\n" + l.Token[20:39],
	} {
		if err := h.answerable(t, token); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.expectNotStored(t, []byte(l.Token), h.links.mac(l.ID))
}

// expectNotStored looks for secrets in all files of the data folder.
func (h *house) expectNotStored(t *testing.T, secrets ...[]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if bytes.Contains(content, secret) {
				t.Errorf("%s has the token", name)
			}
		}
	}
}

// Letters are forgotten after half a year, but for links that can still revoke.
func TestOldLettersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		h.mustAsk(t, "a@studio.example")
		used := h.send(t)
		h.do(t, func(tx *db.Tx) error {
			q := Question{To: used.Address}
			return errors.Join(h.Close(tx, used, OutcomeConfirmed), h.Post(tx, h.owner, Confirmed, q, Asking{}))
		})
		revokes := h.send(t)
		time.Sleep(letterLife - time.Hour)
		if err := h.answerable(t, used.Token); !errors.Is(err, ErrUsed) {
			t.Errorf("just before: %v", err)
		}
		time.Sleep(3 * time.Hour)
		if err := h.answerable(t, used.Token); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("after it: %v", err)
		}
		time.Sleep(900 * 24 * time.Hour)
		if err := h.answerable(t, revokes.Token); err != nil {
			t.Errorf("the link that revokes: %v", err)
		}
	})
}

// Whatever comes in a URL is a token or not, and nothing else.
func FuzzToken(f *testing.F) {
	l := links{[32]byte{1}}
	for _, s := range []string{"", l.token(LinkID{}), l.token(LinkID{9}), "v/../x", strings.Repeat("0", 40)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		link, err := l.open(token)
		if err == nil && l.token(link) != strings.ToLower(token) {
			t.Errorf("%q opens, and is written %q", token, l.token(link))
		}
	})
}
