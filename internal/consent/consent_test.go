package consent

import (
	"bytes"
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/emersion/go-message/charset" // of the texts
	gomail "github.com/emersion/go-message/mail"
	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/dkim"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/mail"
	"mittente/internal/notify"
	"mittente/internal/queue"
	"mittente/internal/report"
	"mittente/internal/sender"
	"mittente/internal/signer"
	"mittente/internal/spool"
)

// house is the room over real ones.
type house struct {
	*Consent
	t       testing.TB
	account account.Account
	sent    []queue.Item
	web     http.Handler
}

const marta = "Marta Riva <marta@officinelario.example>"

func newHouse(tb testing.TB) *house {
	tb.Helper()
	h := &house{t: tb}
	d, err := db.Open(tb.Context(), db.Config{DataDir: tb.TempDir(), ReserveBytes: 1}, nil)
	h.must(err)
	tb.Cleanup(func() { _ = d.Close() })
	h.must(d.Migrate(tb.Context(), account.Schema(), event.Schema(), alert.Schema(), spool.Schema(), signer.Schema(), letter.Schema(), sender.Schema(), queue.Schema()))
	keys, err := signer.New(signer.Deps{DB: d, Secret: signer.Secret{1}, Hostname: "smtp.officinelario.example", NewKeys: func(of mail.Domain) ([]dkim.Key, error) {
		key, err := dkim.NewEd25519(of, "s")
		return []dkim.Key{key}, err
	}}, nil)
	h.must(err)
	letters, err := letter.New(d, [32]byte{2})
	h.must(err)
	senders, err := sender.New(sender.Deps{DB: d, Signer: keys, Letters: letters, Hostname: "smtp.officinelario.example"}, nil)
	h.must(err)
	content := spool.New(d, spool.Config{}, nil)
	q := queue.New(queue.Deps{DB: d, Spool: content}, nil)
	h.must(q.Start(tb.Context(), "here"))
	rome, err := time.LoadLocation("Europe/Rome")
	h.must(err)
	zone := report.Zone{Location: rome}
	notifier := notify.New(notify.Config{Hostname: "smtp.officinelario.example", From: address("postmaster@smtp.officinelario.example"), Zone: zone},
		notify.Deps{DB: d, Spool: content, Queue: q, Ready: func(items []queue.Item) { h.sent = append(h.sent, items...) }}, nil)
	accounts := account.New(d, account.Deps{}, nil)
	h.Consent, err = New(Config{Hostname: "smtp.officinelario.example", PublicURL: "https://smtp.officinelario.example/", Zone: zone},
		Deps{DB: d, Letters: letters, Senders: senders, Accounts: accounts, Notifier: notifier}, prometheus.NewRegistry())
	h.must(err)
	h.batch(func(tx *db.Tx) (err error) {
		h.must(accounts.Bootstrap(tx))
		if h.account, err = accounts.AddAccount(tx, "Officine Lario"); err == nil {
			_, err = accounts.AddList(tx, h.account.Number, "shop")
		}
		return err
	})
	h.web = h.Handler()
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) batch(do func(tx *db.Tx) error) {
	h.t.Helper()
	h.must(h.deps.DB.Batch(h.t.Context(), do))
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// ask has an account ask for an address.
func (h *house) ask(owner id.Account, a string, by letter.Asking) {
	h.t.Helper()
	h.batch(func(tx *db.Tx) error {
		_, err := h.deps.Senders.AddAddress(tx, owner, address(a), by)
		return err
	})
}

// letters sends what is due.
func (h *house) letters() []queue.Item {
	h.t.Helper()
	h.sent = nil
	h.must(h.send(h.t.Context()))
	return h.sent
}

// read takes a letter apart with emersion/go-message.
func (h *house) read(item queue.Item) (head gomail.Header, plain, rich string) {
	h.t.Helper()
	r, err := gomail.CreateReader(bytes.NewReader(item.Bytes))
	h.must(err)
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return r.Header, plain, rich
		}
		h.must(err)
		body, err := io.ReadAll(p.Body)
		h.must(err)
		kind, _, err := p.Header.(*gomail.InlineHeader).ContentType()
		h.must(err)
		if kind == "text/html" {
			rich = string(body)
		} else {
			plain = string(body)
		}
	}
}

// link finds the path of the link of a letter.
func (h *house) link(item queue.Item) string {
	h.t.Helper()
	_, plain, rich := h.read(item)
	found := regexp.MustCompile(`https://smtp\.officinelario\.example(/v/[0-9a-v]{40})\?lang=`).FindStringSubmatch(plain)
	if found == nil || !strings.Contains(rich, found[0]) {
		h.t.Fatalf("no link in both parts:\n%s", plain)
	}
	return found[1]
}

// visit asks the page; answer is empty for a GET.
func (h *house) visit(path, answer, language string) *httptest.ResponseRecorder {
	h.t.Helper()
	method, body := http.MethodGet, ""
	if answer != "" {
		method, body = http.MethodPost, url.Values{"answer": {answer}}.Encode()
	}
	r := httptest.NewRequestWithContext(h.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	h.web.ServeHTTP(w, r)
	return w
}

// state is that of an address of the account.
func (h *house) state(a string) (s sender.State) {
	h.t.Helper()
	h.must(h.deps.DB.View(h.t.Context(), func(tx *db.Tx) error {
		found, err := h.deps.Senders.AddressOf(tx, h.account.ID, address(a))
		s = found.State
		return err
	}))
	return s
}

// text is what a reader sees of a page.
func text(w *httptest.ResponseRecorder) string {
	body := regexp.MustCompile(`(?s)<(style|svg).*?</(style|svg)>`).ReplaceAllString(w.Body.String(), "")
	body = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(strings.NewReplacer("<dt>", " ", "<dd>", " ", "<br>", " ", "</button>", " ").Replace(body), "")
	return strings.Join(strings.Fields(html.UnescapeString(body)), " ")
}

func want(tb testing.TB, text string, all ...string) {
	tb.Helper()
	for _, s := range all {
		if !strings.Contains(text, s) {
			tb.Errorf("no %q in %s", s, text)
		}
	}
}

func TestS22_LetterAsks(t *testing.T) {
	t.Parallel()
	for lang, says := range map[string][]string{
		"it": {"Officine Lario vuole inviare da fatture@studioconti.example: confermi?", "Chi lo chiede   Marta Riva\r\n                marta@officinelario.example", "Per conto di    Officine Lario, account 2\r\n",
			"Aprire la pagina non conferma nulla:", "(ora di Roma), cioè 48 ore", "CHE COSA PERMETTI", "90 giorni", "Le risposte vanno a Marta Riva."},
		"en": {"Officine Lario asks to send from fatture@studioconti.example: do you\r\nagree?", "Asked by        Marta Riva\r\n", "On behalf of    Officine Lario, account 2\r\n",
			"Opening the page confirms nothing:", "(Rome time), that is 48", "WHAT YOU ALLOW", "90 days"},
	} {
		h := newHouse(t)
		h.ask(h.account.ID, "fatture@studioconti.example", letter.Asking{By: marta, Lang: lang})
		sent := h.letters()
		if len(sent) != 1 || len(h.letters()) != 0 {
			t.Fatalf("%d letters", len(sent))
		}
		m := sent[0].Message
		if sent[0].Recipient.To.String() != "fatture@studioconti.example" || m.From.String() != "postmaster@smtp.officinelario.example" ||
			m.Account != h.account.ID || m.UserName != "" || m.EightBit || m.SMTPUTF8 {
			t.Errorf("%+v", m)
		}
		for line := range bytes.SplitSeq(sent[0].Bytes, []byte("\r\n")) {
			if len(line) > 998 || bytes.ContainsAny(line, "\r\n") {
				t.Errorf("line %q", line)
			}
		}
		head, plain, rich := h.read(sent[0])
		want(t, plain, says...)
		subject, err := head.Subject()
		from, ferr := head.AddressList("From")
		reply, rerr := head.AddressList("Reply-To")
		if err := errors.Join(err, ferr, rerr); err != nil || from[0].Address != "postmaster@smtp.officinelario.example" || !strings.HasSuffix(from[0].Name, " Officine Lario") ||
			reply[0].Name != "Marta Riva" || reply[0].Address != "marta@officinelario.example" || !strings.HasPrefix(subject, "Officine Lario ") {
			t.Errorf("%s, %v, %v, %v", subject, from, reply, err)
		}
		if head.Get("Auto-Submitted") != "auto-generated" || head.Get("Content-Language") != lang || m.Subject != subject {
			t.Errorf("header %v, subject %s", head, m.Subject)
		}
		if strings.Contains(rich, "<img") || strings.Contains(rich, "{{") || strings.Contains(rich, "ZgotmplZ") || strings.Contains(plain, "{") || strings.Contains(rich, "{w") {
			t.Errorf("%s", rich)
		}
		for line := range strings.SplitSeq(plain, "\r\n") {
			if len([]rune(line)) > textWidth && !strings.HasPrefix(line, "https://") {
				t.Errorf("long line %q", line)
			}
		}
		h.link(sent[0])
	}
}

// S22: a GET changes nothing, whoever does it; POST of a button does.
func TestS22_OnlyTheButtonConfirms(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.ask(h.account.ID, "x@b.example", letter.Asking{By: marta, Lang: "it"})
	link := h.link(h.letters()[0])
	for range 3 {
		w := h.visit(link+"?answer=confirm", "", "it")
		if w.Code != http.StatusOK {
			t.Fatalf("%d", w.Code)
		}
		want(t, text(w), "Officine Lario può inviare da x@b.example?", "Confermo", "Non autorizzo", "Chi lo chiede Marta Riva, marta@officinelario.example", "Officine Lario, account 2", "(ora di Roma)")
		r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, link, nil)
		h.web.ServeHTTP(httptest.NewRecorder(), r)
		h.visit(link, "perhaps", "it")
	}
	if s := h.state("x@b.example"); s != sender.StatePending {
		t.Fatalf("%s before anybody pressed a button", s)
	}
	w := h.visit(link, "confirm", "it")
	want(t, text(w), "Confermato", "Officine Lario può inviare da x@b.example", "link per revocare")
	if s := h.state("x@b.example"); s != sender.StateVerified || w.Code != http.StatusOK {
		t.Fatalf("%s, %d", s, w.Code)
	}
	for _, answer := range []string{"", "confirm", "refuse"} {
		want(t, text(h.visit(link, answer, "it")), "già stato usato", "x@b.example è stato confermato il", "Usa il link nell’email")
	}
	if s := h.state("x@b.example"); s != sender.StateVerified {
		t.Errorf("%s by a link that was used", s)
	}
}

// Who has agreed gets the means to take it back, and they work at any time.
func TestS22_Revoke(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.ask(h.account.ID, "x@b.example", letter.Asking{By: "root", Lang: "en"})
		first := h.link(h.letters()[0])
		h.visit(first, "confirm", "en")
		sent := h.letters()
		if len(sent) != 1 {
			t.Fatalf("%d letters", len(sent))
		}
		head, plain, _ := h.read(sent[0])
		want(t, plain, "You agreed", "Confirmed on", "Holds           until you take it back", "Asked by        root, operator of smtp.officinelario.example")
		if s, err := head.Subject(); err != nil || s != "You agreed: Officine Lario may send from x@b.example" || head.Has("Reply-To") {
			t.Errorf("%s, %v", s, err)
		}
		link := h.link(sent[0])
		time.Sleep(60 * 24 * time.Hour)
		want(t, text(h.visit(link, "", "en")), "Shall Officine Lario no longer send from x@b.example?", "I take it back", "Confirmed on")
		want(t, text(h.visit(link, "confirm", "en")), "There is no such link") // it is not for that
		want(t, text(h.visit(link, "revoke", "en")), "Taken back", "may no longer send")
		if s := h.state("x@b.example"); s != sender.StateRevoked {
			t.Errorf("%s", s)
		}
		want(t, text(h.visit(link, "", "en")), "has been used", "was taken back on")
		want(t, text(h.visit(first, "", "en")), "has been used", "taken away already")
		h.must(h.deps.DB.Close())
	})
}

func TestS22_Refuse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.ask(h.account.ID, "x@b.example", letter.Asking{By: marta, Lang: "it"})
	link := h.link(h.letters()[0])
	want(t, text(h.visit(link, "refuse", "it")), "Non autorizzato", "(90 giorni)")
	if s := h.state("x@b.example"); s == sender.StateVerified || s == sender.StatePending {
		t.Errorf("%s", s)
	}
	want(t, text(h.visit(link, "confirm", "it")), "già stato usato", "hai risposto che Officine Lario non può inviare")
	err := h.deps.DB.Batch(t.Context(), func(tx *db.Tx) error {
		return h.deps.Senders.Resend(tx, h.account.ID, address("x@b.example"), letter.Asking{By: marta})
	})
	if wait, ok := errors.AsType[*letter.WaitError](err); !ok || !wait.Refused {
		t.Errorf("asked again: %v", err)
	}
	if sent := h.letters(); len(sent) != 0 {
		t.Errorf("%d letters", len(sent))
	}
}

func TestLinksThatEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.ask(h.account.ID, "x@b.example", letter.Asking{By: marta, Lang: "en"})
		first := h.link(h.letters()[0])
		time.Sleep(2 * time.Minute)
		h.batch(func(tx *db.Tx) error {
			return h.deps.Senders.Resend(tx, h.account.ID, address("x@b.example"), letter.Asking{By: marta, Lang: "en"})
		})
		second := h.link(h.letters()[0])
		for _, answer := range []string{"", "confirm"} {
			w := h.visit(first, answer, "en")
			want(t, text(w), "There is a newer mail")
			if w.Code != http.StatusGone {
				t.Errorf("replaced: %d", w.Code)
			}
		}
		time.Sleep(letter.LinkLife)
		for _, answer := range []string{"", "confirm"} {
			w := h.visit(second, answer, "en")
			want(t, text(w), "This link has expired", "It was open until", "ask Marta Riva (marta@officinelario.example)")
			if w.Code != http.StatusGone {
				t.Errorf("expired: %d", w.Code)
			}
		}
		if s := h.state("x@b.example"); s != sender.StatePending {
			t.Errorf("%s", s)
		}
		h.must(h.deps.DB.Close())
	})
}

func TestUnknownLinks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, path := range []string{"/v/x", "/v/" + strings.Repeat("0", 40), "/v/%00", "/v/" + strings.Repeat("é", 40), "/v/" + strings.Repeat("x", 5000)} {
		for _, answer := range []string{"", "confirm", "refuse", "revoke"} {
			w := h.visit(path, answer, "en")
			if w.Code != http.StatusNotFound {
				t.Errorf("%.20s: %d", path, w.Code)
			}
			h.guests = newGuests()
		}
	}
	want(t, text(h.visit("/v/x", "", "it")), "Questo link non esiste", "Nulla è stato confermato", "40 lettere e cifre dopo /v/")
	if w := h.visit("/v/-/nothing.css", "", ""); w.Code != http.StatusNotFound {
		t.Errorf("%d", w.Code)
	}
	if w := h.visit("/v/-/page.html", "", ""); w.Code != http.StatusNotFound {
		t.Errorf("%d", w.Code)
	}
}

// S22: somebody at the domain may speak for all of it.
func TestS22_DomainByMail(t *testing.T) {
	t.Parallel()
	for lang, says := range map[string][]string{
		"it": {"vuole inviare da tutto bücher.example", "postmaster@bücher.example risponde per questo dominio", "qualunque indirizzo di bücher.example"},
		"en": {"asks to send from all of bücher.example", "postmaster@bücher.example speaks for this domain", "any address at bücher.example"},
	} {
		h := newHouse(t)
		prepared, err := h.deps.Senders.NewDomain("bücher.example")
		h.must(err)
		domain := prepared.Name()
		h.batch(func(tx *db.Tx) error {
			_, err := h.deps.Senders.AddDomain(tx, h.account.ID, prepared)
			return errors.Join(err, h.deps.Senders.AskByMail(tx, h.account.ID, domain, "postmaster", letter.Asking{By: marta, Lang: lang}))
		})
		sent := h.letters()
		if len(sent) != 1 || sent[0].Recipient.To.String() != "postmaster@xn--bcher-kva.example" {
			t.Fatalf("%+v", sent)
		}
		_, plain, rich := h.read(sent[0])
		flat := strings.Join(strings.Fields(plain), " ")
		want(t, flat, says...)
		want(t, rich, says[1])
		link := h.link(sent[0])
		w := h.visit(link, "", lang)
		want(t, text(w), "bücher.example?")
		h.visit(link, "confirm", lang)
		var state sender.State
		h.must(h.deps.DB.View(t.Context(), func(tx *db.Tx) error {
			d, err := h.deps.Senders.DomainByName(tx, h.account.ID, domain)
			state = d.State
			return err
		}))
		if state != sender.StateVerified {
			t.Errorf("%s", state)
		}
		if sent = h.letters(); len(sent) != 1 {
			t.Fatalf("%d letters", len(sent))
		}
		h.visit(h.link(sent[0]), "revoke", lang)
	}
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.ask(h.account.ID, "x@b.example", letter.Asking{By: marta, Lang: "it"})
	link := h.link(h.letters()[0])
	for _, c := range []struct{ query, accept, want string }{
		{"", "", "it"}, {"", "de", "it"}, {"", "en", "en"}, {"", "en-GB,en;q=0.9,it;q=0.8", "en"}, {"", "de, it;q=0.5, en;q=0.7", "en"}, {"", "it;q=0", "it"},
		{"", "en;q=x, it", "it"}, {"?lang=en", "it", "en"}, {"?lang=it", "en", "it"}, {"?lang=xx", "en", "en"}, {"", strings.Repeat("en;q=0.1,", 10_000), "en"},
	} {
		w := h.visit(link+c.query, "", c.accept)
		if got := w.Header().Get("Content-Language"); got != c.want || !strings.Contains(w.Body.String(), `<html lang="`+c.want+`">`) {
			t.Errorf("%+.40v: %s", c, got)
		}
		h.guests = newGuests()
	}
}

// Without a language of its own, a letter has that of the account's list.
func TestLanguageOfTheList(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	it := "it"
	h.batch(func(tx *db.Tx) error {
		lists, err := h.deps.Accounts.Lists(tx, h.account.Number)
		h.must(err)
		_, err = h.deps.Accounts.EditList(tx, lists[0].Number, account.EditList{Lang: &it})
		return err
	})
	h.ask(h.account.ID, "x@b.example", letter.Asking{By: "root"})
	_, plain, _ := h.read(h.letters()[0])
	want(t, plain, "vuole inviare", "root, gestore di smtp.officinelario.example")
}

// An account that nobody has named writes in the name of the relay.
func TestAccountWithoutAName(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.must(h.deps.DB.View(t.Context(), func(tx *db.Tx) (err error) {
		h.account, err = h.deps.Accounts.Account(tx, 1)
		return err
	}))
	h.ask(h.account.ID, "x@b.example", letter.Asking{By: "o@b.example"})
	_, plain, _ := h.read(h.letters()[0])
	want(t, plain, "smtp.officinelario.example asks to send from x@b.example", "On behalf of    account 1\r\n                smtp.officinelario.example", "Asked by        o@b.example\r\n")
}

// What others chose is text, and nothing else.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.batch(func(tx *db.Tx) (err error) {
		h.account, err = h.deps.Accounts.AddAccount(tx, `<b>{asker}, "Bad" Inc.`)
		return err
	})
	h.ask(h.account.ID, `"<i>x</i>"@b.example`, letter.Asking{By: "Eve\r\nBcc: v@c.example\u202e {what} <eve@c.example>", Lang: "it"})
	sent := h.letters()
	head, plain, rich := h.read(sent[0])
	if head.Has("Bcc") || strings.Contains(rich, "<b>{asker}") || strings.Contains(rich, "<i>x") || strings.Contains(rich, "\u202e") || strings.Contains(plain, "\u202e") {
		t.Errorf("%v\n%s", head, rich)
	}
	from, err := head.AddressList("From")
	if err != nil || len(from) != 1 || from[0].Name != `mittente per <b>{asker}, "Bad" Inc.` {
		t.Errorf("%v, %v", from, err)
	}
	body := h.visit(h.link(sent[0]), "", "it").Body.String()
	if strings.Contains(body, "<i>x") || strings.Contains(body, "<b>") || strings.Contains(body, "\u202e") {
		t.Error(body)
	}
}

func TestPageIsGuarded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.ask(h.account.ID, "x@b.example", letter.Asking{By: marta})
	w := h.visit(h.link(h.letters()[0]), "", "en")
	for name, value := range map[string]string{
		"Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow",
		"X-Content-Type-Options": "nosniff", "Vary": "Accept-Language", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s: %q", name, got)
		}
	}
	body := w.Body.String()
	for _, no := range []string{"<script", "style=", "http://", "https://", "onclick"} {
		if strings.Contains(body, no) {
			t.Errorf("the page has %q", no)
		}
	}
	for _, found := range regexp.MustCompile(`(?:href|src)="(/v/-/[^"]*)"`).FindAllStringSubmatch(body, -1) {
		if a := h.visit(found[1], "", ""); a.Code != http.StatusOK || a.Body.Len() == 0 {
			t.Errorf("%s: %d", found[1], a.Code)
		}
	}
	style := h.visit("/v/-/tokens.css", "", "").Body.String()
	for _, found := range regexp.MustCompile(`url\("(fonts/[^"]*)"\)`).FindAllStringSubmatch(style, -1) {
		if a := h.visit("/v/-/"+found[1], "", ""); a.Code != http.StatusOK || a.Header().Get("Content-Type") != "font/woff2" {
			t.Errorf("%s: %d", found[1], a.Code)
		}
	}
}

func TestTooManyVisits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		codes := []int{}
		for range 30 {
			codes = append(codes, h.visit("/v/x", "", "en").Code)
		}
		if n := slices.Index(codes, http.StatusTooManyRequests); n != 20 {
			t.Errorf("codes %v", codes)
		}
		w := h.visit("/v/x", "", "it")
		want(t, text(w), "Troppe richieste")
		if w.Header().Get("Retry-After") != "1" {
			t.Errorf("%v", w.Header())
		}
		if w := h.visit("/v/-/page.css", "", ""); w.Code != http.StatusOK {
			t.Errorf("style: %d", w.Code)
		}
		time.Sleep(time.Second)
		if w := h.visit("/v/x", "", "en"); w.Code != http.StatusNotFound {
			t.Errorf("a second later: %d", w.Code)
		}
		h.must(h.deps.DB.Close())
	})
}

// A letter leaves as soon as it is asked for, and what can't be sent is tried again.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		time.Sleep(time.Second)
		for _, a := range []string{"x@b.example", "y@b.example"} {
			h.ask(h.account.ID, a, letter.Asking{By: marta})
		}
		synctest.Wait()
		if len(h.sent) != 2 {
			t.Errorf("%d letters", len(h.sent))
		}
		cancel()
		h.must(<-ended)
		h.must(h.deps.DB.Close())
	})
}

func TestShutDatabase(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.ask(h.account.ID, "x@b.example", letter.Asking{By: marta})
	link := h.link(h.letters()[0])
	h.must(h.deps.DB.Close())
	w := h.visit(link, "confirm", "en")
	want(t, text(w), "We can’t answer now", "Nothing has changed")
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d", w.Code)
	}
}

func TestAskedBy(t *testing.T) {
	t.Parallel()
	for in, wanted := range map[string]person{
		"root": {name: "root"}, marta: {"Marta Riva", address("marta@officinelario.example")}, "m@b.example": {"", address("m@b.example")},
		`"Riva, Marta" <m@b.example>`: {"Riva, Marta", address("m@b.example")}, "<m@b.example>": {"", address("m@b.example")},
		"x <no>": {name: "x <no>"}, "": {}, strings.Repeat("x", 100): {name: strings.Repeat("x", 59) + "…"},
	} {
		if got := askedBy(in); got != wanted {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func FuzzPreferred(f *testing.F) {
	f.Add("it;q=0.5, en")
	f.Fuzz(func(t *testing.T, header string) {
		if got := preferred(header); got != "" && got != italian && got != english {
			t.Errorf("%q: %q", header, got)
		}
	})
}
