package consent

import (
	"bytes"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

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

// state is that of x@b.example in the account.
func (h *house) state() (s sender.State) {
	h.t.Helper()
	h.must(h.deps.DB.View(h.t.Context(), func(tx *db.Tx) error {
		found, err := h.deps.Senders.AddressOf(tx, h.account.ID, address("x@b.example"))
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
