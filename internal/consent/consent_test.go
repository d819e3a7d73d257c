package consent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/emersion/go-message/charset" // of the texts
	gomail "github.com/emersion/go-message/mail"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/letter"
	"mittente/internal/queue"
	"mittente/internal/sender"
)

func TestS22_LetterAsks(t *testing.T) {
	t.Parallel()
	for lang, says := range map[string][]string{
		"it": {
			"Officine Lario vuole inviare da fatture@studioconti.example: confermi?", "Chi lo chiede   Marta Riva\r\n                marta@officinelario.example",
			"Per conto di    Officine Lario, account 2\r\n", "Aprire la pagina non conferma nulla:", "(ora di Roma), cioè 48 ore", "CHE COSA PERMETTI", "90 giorni",
			"Le risposte vanno a Marta Riva.",
		},
		"en": {
			"Officine Lario asks to send from fatture@studioconti.example: do you\r\nagree?", "Asked by        Marta Riva\r\n",
			"On behalf of    Officine Lario, account 2\r\n", "Opening the page confirms nothing:", "(Rome time), that is 48", "WHAT YOU ALLOW", "90 days",
		},
	} {
		h := newHouse(t)
		h.ask(h.account.ID, "fatture@studioconti.example", letter.Asking{By: marta, Lang: lang})
		sent := h.letters()
		if len(sent) != 1 || len(h.letters()) != 0 {
			t.Fatalf("%d letters", len(sent))
		}
		h.queued(sent[0])
		head, plain, rich := h.read(sent[0])
		want(t, plain, says...)
		h.addressed(head)
		if subject, err := head.Subject(); err != nil || head.Get("Content-Language") != lang || sent[0].Message.Subject != subject {
			t.Errorf("header %v, subject %s", head, sent[0].Message.Subject)
		}
		for _, no := range []string{"<img", "{{", "ZgotmplZ", "{w", "http://"} {
			if strings.Contains(strings.ReplaceAll(rich, "http://www.w3.org/1999/xhtml", ""), no) || strings.Contains(plain, no) {
				t.Errorf("%s in %s", no, rich)
			}
		}
		h.link(sent[0])
	}
}

// queued checks how a letter is queued, and its lines.
func (h *house) queued(item queue.Item) {
	h.t.Helper()
	m := item.Message
	if item.Recipient.To.String() != "fatture@studioconti.example" || m.From.String() != "postmaster@smtp.officinelario.example" ||
		m.Account != h.account.ID || m.UserName != "" || m.EightBit || m.SMTPUTF8 {
		h.t.Errorf("%+v", m)
	}
	for line := range bytes.SplitSeq(item.Bytes, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n") {
			h.t.Errorf("line %q", line)
		}
	}
	_, plain, _ := h.read(item)
	for line := range strings.SplitSeq(plain, "\r\n") {
		if len([]rune(line)) > textWidth && !strings.HasPrefix(line, "https://") {
			h.t.Errorf("long line %q", line)
		}
	}
}

// addressed checks who writes, and who reads the answers.
func (h *house) addressed(head gomail.Header) {
	h.t.Helper()
	from, err := head.AddressList("From")
	h.must(err)
	reply, err := head.AddressList("Reply-To")
	h.must(err)
	if from[0].Address != "postmaster@smtp.officinelario.example" || !strings.HasSuffix(from[0].Name, " Officine Lario") {
		h.t.Errorf("from %v", from)
	}
	if reply[0].Name != "Marta Riva" || reply[0].Address != "marta@officinelario.example" || head.Get("Auto-Submitted") != "auto-generated" {
		h.t.Errorf("reply to %v, header %v", reply, head)
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
	if s := h.state(); s != sender.StatePending {
		t.Fatalf("%s before anybody pressed a button", s)
	}
	w := h.visit(link, "confirm", "it")
	want(t, text(w), "Confermato", "Officine Lario può inviare da x@b.example", "link per revocare")
	if s := h.state(); s != sender.StateVerified || w.Code != http.StatusOK {
		t.Fatalf("%s, %d", s, w.Code)
	}
	for _, answer := range []string{"", "confirm", "refuse"} {
		want(t, text(h.visit(link, answer, "it")), "già stato usato", "x@b.example è stato confermato il", "Usa il link nell’email")
	}
	if s := h.state(); s != sender.StateVerified {
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
		if s := h.state(); s != sender.StateRevoked {
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
	if s := h.state(); s == sender.StateVerified || s == sender.StatePending {
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
		if s := h.state(); s != sender.StatePending {
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
		{"", "", "it"},
		{"", "de", "it"},
		{"", "en", "en"},
		{"", "en-GB,en;q=0.9,it;q=0.8", "en"},
		{"", "de, it;q=0.5, en;q=0.7", "en"},
		{"", "it;q=0", "it"},
		{"", "en;q=x, it", "it"},
		{"?lang=en", "it", "en"},
		{"?lang=it", "en", "it"},
		{"?lang=xx", "en", "en"},
		{"", strings.Repeat("en;q=0.1,", 10_000), "en"},
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

// Nobody is named where nobody is known.
func TestNobodyIsNamed(t *testing.T) {
	t.Parallel()
	for lang, says := range map[string]string{"it": "Chi lo chiede chi gestisce smtp.officinelario.example", "en": "Asked by the operator of smtp.officinelario.example"} {
		h := newHouse(t)
		h.ask(h.account.ID, "x@b.example", letter.Asking{Lang: lang})
		sent := h.letters()[0]
		_, plain, _ := h.read(sent)
		want(t, strings.Join(strings.Fields(plain), " "), says)
		want(t, text(h.visit(h.link(sent), "", lang)), says)
	}
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

// Letters that can't be sent keep none of those behind them up, however many they are.
func TestLettersThatFailKeepNoOtherUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.batch(func(tx *db.Tx) error {
		_, err := tx.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON recipient WHEN NEW.forward_path LIKE 'bad%'
			BEGIN SELECT RAISE(ABORT, 'the test refuses it'); END`)
		return err
	})
	for n := range 2*lettersAtOnce + 3 {
		h.ask(h.account.ID, fmt.Sprintf("bad%d@b.example", n), letter.Asking{By: marta})
	}
	h.ask(h.account.ID, "good@b.example", letter.Asking{By: marta})
	if err := h.send(t.Context()); err == nil || !strings.Contains(err.Error(), "the test refuses it") {
		t.Errorf("%v", err)
	}
	if len(h.sent) != 1 {
		t.Errorf("%d letters left", len(h.sent))
	}
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

func TestPieces(t *testing.T) {
	t.Parallel()
	for in, wanted := range map[string]string{"a.b@c.example": "a|.b@|c|.example", "": "", "a@": "a@", ".": ".", "é.è": "é|.è"} {
		if got := strings.Join(pieces(in), "|"); got != wanted {
			t.Errorf("%q: %s", in, got)
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
