package consent

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mittente/internal/letter"
	"mittente/internal/sender"
)

// policy lets the page do what it needs and nothing else: no script runs, nothing
// comes from elsewhere, nobody frames it.
const policy = "default-src 'none'; style-src 'self'; font-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const assets = "/v/-/"

// Handler serves the page of a link, /v/{token}, and what it is made of, /v/-/.
// GET and HEAD change nothing (requirement S22: link scanners follow links); POST
// answers, with no sign-in: who has the token has read the letter.
func (c *Consent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+assets+"{file...}", asset)
	mux.HandleFunc("GET /v/{token}", c.show)
	mux.HandleFunc("POST /v/{token}", c.answer)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // the address of the page is the token
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("X-Robots-Tag", "noindex, nofollow")
		mux.ServeHTTP(w, r)
	})
}

// asset serves style, fonts and the mark.
func asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	text, err := fs.ReadFile(files, "page/"+name)
	kind := ""
	for suffix, k := range map[string]string{".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8"} {
		if strings.HasSuffix(name, suffix) {
			kind = k
		}
	}
	if err != nil || kind == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=86400")
	_, _ = w.Write(text) //nolint:gosec // a file that is compiled in
}

// show serves the page as the link stands now.
func (c *Consent) show(w http.ResponseWriter, r *http.Request) {
	if c.welcome(w, r) {
		c.standingOf(w, r)
	}
}

func (c *Consent) standingOf(w http.ResponseWriter, r *http.Request) {
	asked, err := c.deps.Senders.Ask(r.Context(), r.PathValue("token"))
	c.render(w, r, c.standing(r.Context(), asked, err), asked)
}

// answer takes what the owner of the address wants.
func (c *Consent) answer(w http.ResponseWriter, r *http.Request) {
	if !c.welcome(w, r) {
		return
	}
	var do func(context.Context, string, netip.Addr) (sender.Asked, error)
	done := map[string]sheet{"confirm": sheetOK, "refuse": sheetNo, "revoke": sheetRevoked}
	answer := r.PostFormValue("answer")
	switch answer {
	case "confirm":
		do = c.deps.Senders.Confirm
	case "refuse":
		do = c.deps.Senders.Refuse
	case "revoke":
		do = c.deps.Senders.Revoke
	default:
		c.standingOf(w, r)
		return
	}
	asked, err := do(r.Context(), r.PathValue("token"), client(r))
	s := c.standing(r.Context(), asked, err)
	if err == nil {
		s = done[answer]
		c.metrics.answers.WithLabelValues(answer).Inc()
	}
	c.render(w, r, s, asked)
}

// sheet is what the page shows.
type sheet int

const (
	sheetAsk sheet = iota
	sheetRevoke
	sheetOK
	sheetNo
	sheetRevoked
	sheetUsed
	sheetGone // there is nothing to be taken back
	sheetExpired
	sheetReplaced
	sheetUnknown
	sheetTrouble
	sheetMany
)

// code is the HTTP status of a sheet.
func (s sheet) code() int {
	switch s {
	case sheetExpired, sheetReplaced:
		return http.StatusGone
	case sheetUnknown:
		return http.StatusNotFound
	case sheetTrouble:
		return http.StatusServiceUnavailable
	case sheetMany:
		return http.StatusTooManyRequests
	case sheetAsk, sheetRevoke, sheetOK, sheetNo, sheetRevoked, sheetUsed, sheetGone:
	}
	return http.StatusOK
}

// standing says how a link stands, by what Senders said of it.
func (c *Consent) standing(ctx context.Context, asked sender.Asked, err error) sheet {
	switch {
	case err == nil && asked.Kind != letter.Confirmed:
		return sheetAsk
	case err == nil && asked.State != sender.StateVerified:
		return sheetGone
	case err == nil:
		return sheetRevoke
	case errors.Is(err, letter.ErrReplaced):
		return sheetReplaced
	case errors.Is(err, letter.ErrExpired):
		return sheetExpired
	case errors.Is(err, letter.ErrUsed):
		return sheetUsed
	case errors.Is(err, letter.ErrUnknownToken):
		return sheetUnknown
	}
	c.deps.Log.LogAttrs(ctx, slog.LevelError, "a link could not be answered", slog.Any("error", err))
	return sheetTrouble
}

// welcome turns away who comes too often.
func (c *Consent) welcome(w http.ResponseWriter, r *http.Request) bool {
	wait, ok := c.guests.welcome(client(r), time.Now())
	if ok {
		return true
	}
	c.metrics.answers.WithLabelValues("limited").Inc()
	w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	c.render(w, r, sheetMany, sender.Asked{})
	return false
}

// client is the address of the connection: headers can be forged.
func client(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr) // of a test, or a socket without one: all are one
	return at.Addr()
}

func (c *Consent) render(w http.ResponseWriter, r *http.Request, s sheet, asked sender.Asked) {
	lang := langOf(r, asked.Lang)
	var b bytes.Buffer
	if err := c.page.ExecuteTemplate(&b, "page.html", c.fillIn(r.Context(), s, asked, lang)); err != nil {
		c.deps.Log.LogAttrs(r.Context(), slog.LevelError, "the page of a link is broken", slog.Any("error", err))
		http.Error(w, "the page is broken", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang)
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Language")
	w.WriteHeader(s.code())
	_, _ = w.Write(b.Bytes())
}

// langOf is the language that the visitor chose, or the browser wants, or the
// letter had.
func langOf(r *http.Request, letter string) string {
	switch lang := r.URL.Query().Get("lang"); lang {
	case italian, english:
		return lang
	}
	if lang := preferred(r.Header.Get("Accept-Language")); lang != "" {
		return lang
	}
	if letter == italian {
		return italian
	}
	return english
}

// preferred reads Accept-Language (RFC 9110 §12.5.4): the language of ours with
// the greatest weight, the first of equals; empty: none is wanted.
func preferred(header string) string {
	best, weight := "", 0.0
	for i, item := range strings.Split(header[:min(len(header), 1000)], ",") {
		if i == 20 {
			break
		}
		tag, parameter, weighted := strings.Cut(strings.TrimSpace(item), ";")
		q := 1.0
		if weighted {
			text, _ := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
			var err error
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		if (primary == italian || primary == english) && q > weight {
			best, weight = primary, q
		}
	}
	return best
}
