package consent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mittente/internal/account"
	"mittente/internal/letter"
	"mittente/internal/mail"
	"mittente/internal/notify"
)

// row is a line of facts in a letter.
type row struct {
	Label  string
	Strong string
	Text   string
	Code   string
}

// view is what the templates of a letter show.
type view struct {
	words
	frame

	Lang          string
	What          string
	Before, After string // of the headline, around What
	Link          string
	OtherLink     string
	Rows          []row
}

// compose writes a letter.
func (c *Consent) compose(ctx context.Context, l letter.Letter) (notify.Letter, error) {
	acc, who := c.who(ctx, l.Account)
	lang := c.lang(ctx, l, acc)
	v := c.view(l, acc, who, lang)
	var page bytes.Buffer
	if err := c.letter.Execute(&page, v); err != nil {
		return notify.Letter{}, fmt.Errorf("letter to %s: %w", l.Address, err)
	}
	asker := askedBy(l.RequestedBy)
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	field("From", phrase("mittente "+v.For)+" <"+c.deps.Notifier.From().String()+">")
	if !asker.address.IsZero() && !asker.address.NeedsUTF8() {
		field("Reply-To", phrase(asker.call())+" <"+asker.address.String()+">")
	}
	field("To", "<"+l.Address.String()+">")
	field("Subject", encoded(v.Subject))
	field("Date", time.Now().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	field("Message-ID", c.deps.Notifier.MessageID())
	field("Auto-Submitted", "auto-generated") // RFC 3834 §5
	field("Content-Language", lang)
	field("MIME-Version", "1.0")
	plain, rich := quoted([]byte(v.text())), quoted(bytes.ReplaceAll(page.Bytes(), []byte("\n"), []byte("\r\n")))
	sum := sha256.Sum256(append(plain, rich...))
	mark := "=_" + hex.EncodeToString(sum[:12])
	field("Content-Type", `multipart/alternative; boundary="`+mark+`"`)
	for _, part := range []struct {
		kind string
		body []byte
	}{{"text/plain", plain}, {"text/html", rich}} {
		fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: %s; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%s", mark, part.kind, part.body)
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", mark)
	return notify.Letter{
		Account: l.Account, From: mail.ReversePath{Address: c.deps.Notifier.From()}, To: mail.ForwardPath{Address: l.Address}, Content: b.Bytes(),
	}, nil
}

// view fills in the words of a letter.
func (c *Consent) view(l letter.Letter, acc account.Account, who, lang string) view {
	a := about{domain: l.Domain != "", confirmed: l.Kind == letter.Confirmed}
	what := l.Address.Display()
	if a.domain {
		what = l.Domain.Unicode()
	}
	asker := askedBy(l.RequestedBy)
	until := ""
	if !l.ExpiresAt.IsZero() {
		until = c.cfg.Zone.Format(l.ExpiresAt, lang)
	}
	fill := strings.NewReplacer("{who}", who, "{what}", what, "{to}", l.Address.Display(), "{host}", c.cfg.Hostname,
		"{asker}", asker.call(), "{until}", until)
	v := view{words: wordsOf(lang, a), frame: frameOf(lang), Lang: lang, What: what}
	head, tail, _ := strings.Cut(v.Head, "{what}")
	v.Before, v.After = fill.Replace(head), fill.Replace(tail)
	v.Link = c.cfg.PublicURL + "/v/" + l.Token
	v.OtherLink = v.Link + "?lang=" + v.OtherLang
	v.Link += "?lang=" + lang
	v.Rows = c.rows(l, v, acc, who)
	for _, text := range []*string{
		&v.Subject, &v.Preview, &v.Intro, &v.Plus, &v.Minus, &v.Later, &v.Doubt, &v.Other, &v.For, &v.Footer, &v.Replies,
	} {
		*text = fill.Replace(*text)
	}
	if !asker.address.IsZero() {
		v.Footer += " " + v.Replies
	}
	return v
}

// rows are the facts of a letter.
func (c *Consent) rows(l letter.Letter, v view, acc account.Account, who string) []row {
	asker := askedBy(l.RequestedBy)
	first := row{Label: v.Asker, Text: asker.name, Code: asker.address.Display()}
	switch {
	case !asker.address.IsZero():
	case asker.name == "":
		first.Text = strings.ReplaceAll(v.Somebody, "{host}", c.cfg.Hostname)
	default:
		first.Text += ", " + strings.ReplaceAll(v.Operator, "{host}", c.cfg.Hostname)
	}
	behalf := row{Label: v.Behalf, Text: v.Account + " " + strconv.FormatInt(acc.Number, 10), Code: c.cfg.Hostname}
	if who != c.cfg.Hostname {
		behalf.Text = who + ", " + behalf.Text
	}
	rows := []row{first, behalf, {Label: v.Dated, Text: c.cfg.Zone.Format(l.RequestedAt, v.Lang)}}
	if l.ExpiresAt.IsZero() {
		return append(rows, row{Label: v.Until, Text: v.UntilText})
	}
	return append(rows, row{
		Label: v.Until, Strong: c.cfg.Zone.Time(l.ExpiresAt, v.Lang), Text: "(" + c.cfg.Zone.Name(l.ExpiresAt, v.Lang) + ")" + v.UntilText,
	})
}

const textWidth = 72 // runes

// plain writes a letter for programs that show no HTML.
type plain struct{ strings.Builder }

func (w *plain) lines(all ...string) {
	for _, s := range all {
		_, _ = w.WriteString(s + "\r\n") // never fails
	}
}

// para writes a paragraph.
func (w *plain) para(first, rest, s string) {
	wrap(&w.Builder, first, rest, strings.ReplaceAll(s, "’", "'"))
}

// text is the letter for programs that show no HTML.
func (v view) text() string {
	var w plain
	head := v.Before + v.What + v.After
	w.para("", "", head)
	w.lines(strings.Repeat("-", min(utf8.RuneCountInString(head), textWidth)), "")
	w.para("", "", v.Intro)
	w.lines("", v.Button+":", "", v.Link, "")
	w.para("", "", v.NoteBold+" "+v.Note)
	w.lines("")
	for _, r := range v.Rows {
		r.text(&w)
	}
	w.lines("", "", strings.ToUpper(v.Permits), "")
	w.para("+ ", "  ", v.Plus)
	w.para("- ", "  ", v.Minus)
	w.lines("")
	w.para("", "", v.Later)
	w.lines("", "")
	w.para("", "", strings.ToUpper(strings.TrimSuffix(v.DoubtBold, ".")))
	w.lines("")
	w.para("", "", v.Doubt)
	w.lines("", "-- ")
	w.para("", "", v.Footer)
	w.lines("")
	w.para("", "", v.Other+" "+v.OtherRead+":")
	w.lines(v.OtherLink)
	return w.String()
}

const labelWidth = 16 // runes

// text writes a line of facts.
func (r row) text(w *plain) {
	label := r.Label + strings.Repeat(" ", max(1, labelWidth-utf8.RuneCountInString(r.Label)))
	indent := strings.Repeat(" ", labelWidth)
	if first := strings.TrimSpace(r.Strong + " " + r.Text); first != "" {
		w.para(label, indent, first)
		label = indent
	}
	if r.Code != "" {
		w.lines(label + r.Code)
	}
}

// wrap writes a paragraph in lines of at most textWidth runes, if its words are
// not longer. The first line begins with first, the others with rest.
func wrap(w *strings.Builder, first, rest, s string) {
	line, width, empty := first, utf8.RuneCountInString(first), true
	for word := range strings.FieldsSeq(s) {
		n := utf8.RuneCountInString(word)
		if !empty && width+1+n > textWidth {
			w.WriteString(line + "\r\n")
			line, width, empty = rest, utf8.RuneCountInString(rest), true
		}
		if !empty {
			line, width = line+" ", width+1
		}
		line, width, empty = line+word, width+n, false
	}
	w.WriteString(line + "\r\n")
}

// quoted is text in quoted-printable (RFC 2045 §6.7).
func quoted(text []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write(text) // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// encoded is the body of an unstructured field: encoded words where they are
// needed, folded (RFC 2047 §2, §5).
func encoded(s string) string {
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", s), "?= =?", "?=\r\n =?")
}

// phrase is the display name of a mailbox (RFC 5322 §3.2.5).
func phrase(s string) string {
	switch e := encoded(s); {
	case e == s:
	case strings.ContainsAny(s, "\"#$%&'(),.:;<>@[]^`{|}~"): // RFC 2047 §5 (3)
		return strings.ReplaceAll(mime.BEncoding.Encode("utf-8", s), "?= =?", "?=\r\n =?")
	default:
		return e
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
