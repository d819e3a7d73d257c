package report

import (
	"cmp"
	"strings"
	"unicode/utf8"
)

const (
	maxSubject = 120 // runes of a subject that are repeated
	textWidth  = 72  // of the text, in runes
)

// tongue is what a language says around the facts.
type tongue struct {
	code     string
	prefix   map[Kind]string // of the subject
	title    map[Kind]string
	end      map[Kind]string // what happens next
	subject  string
	sent     string
	until    string // of a delay
	answered string // after the name of the other server
	ours     string // where no server has answered
	expired  string // before the cause
	taken    string // of a success
	waits    string // of a delay
	signed   string
	cause    func(cause) words
	replies  bool // are repeated
}

func english() tongue {
	return tongue{
		code:   "en",
		prefix: map[Kind]string{Failure: "Not delivered", Delay: "Not delivered yet", Success: "Handed on"},
		title: map[Kind]string{
			Failure: "Your message could not be delivered.",
			Delay:   "Your message has not been delivered yet.",
			Success: "Your message has been handed on.",
		},
		end: map[Kind]string{
			Failure: "It will not be tried again. Recipients who are not named here are not concerned.",
			Delay:   "We go on trying by ourselves: you need not send it again. You will hear from us if it fails for good.",
			Success: "The servers named here do not tell what becomes of it afterwards. If they can't deliver it, they will say so.",
		},
		subject: "Subject:", sent: "Sent:", until: "We try until ", answered: "answered:", ours: "What happened:",
		expired: "It was tried until its time was over.",
		taken:   "The recipient's server has taken it.", waits: "The last attempt did not succeed.",
		signed: "This is an automatic mail of ",
		cause:  cause.english,
	}
}

func italian() tongue {
	return tongue{
		code:   "it",
		prefix: map[Kind]string{Failure: "Non consegnato", Delay: "Non ancora consegnato", Success: "Affidato"},
		title: map[Kind]string{
			Failure: "Il tuo messaggio non è stato consegnato.",
			Delay:   "Il tuo messaggio non è ancora stato consegnato.",
			Success: "Il tuo messaggio è stato affidato al server del destinatario.",
		},
		end: map[Kind]string{
			Failure: "Non si proverà più. I destinatari che qui non compaiono non c'entrano.",
			Delay:   "Continuiamo a provare da soli: non serve rispedirlo. Se non riesce, te lo diciamo.",
			Success: "I server nominati qui non dicono che cosa ne è dopo. Se non riescono a consegnarlo, saranno loro ad avvisarti.",
		},
		subject: "Oggetto:", sent: "Inviato:", until: "Proviamo fino al ", answered: "ha risposto:", ours: "Che cosa è successo:",
		expired: "Si è provato finché il tempo è scaduto.",
		taken:   "Il server del destinatario l'ha preso in carico.", waits: "L'ultimo tentativo non è riuscito.",
		signed: "Questa è una email automatica di ",
		cause:  cause.italian,
	}
}

// tongues are the languages of the part for people, the wanted one first.
func (d *DSN) tongues() [2]tongue {
	if d.Lang == "it" {
		return [2]tongue{italian(), english()}
	}
	return [2]tongue{english(), italian()}
}

// subject is that of the DSN.
func (d *DSN) subject() string {
	prefix := d.tongues()[0].prefix[d.Kind]
	if s := d.about(); s != "" {
		return prefix + ": " + s
	}
	return prefix + ": " + printable(d.Recipients[0].display())
}

// about is the subject of the message, short.
func (d *DSN) about() string {
	s := []rune(printable(d.Subject))
	if len(s) > maxSubject {
		return string(s[:maxSubject]) + "…"
	}
	return string(s)
}

// people is the part for people: all in the language wanted, then in the other,
// where the replies are not repeated.
func (d *DSN) people() part {
	var w writer
	for i, t := range d.tongues() {
		if i > 0 {
			w.line("")
			w.line(strings.Repeat("-", textWidth))
			w.line("")
		}
		t.replies = i == 0
		d.tell(&w, t)
	}
	return part{
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n",
		quotedPrintable([]byte(w.String())),
	}
}

// tell writes it all in one language.
func (d *DSN) tell(w *writer, t tongue) {
	w.text("", "", t.title[d.Kind])
	w.line("")
	width := max(utf8.RuneCountInString(t.subject), utf8.RuneCountInString(t.sent)) + 1
	pad := func(label string) string { return label + strings.Repeat(" ", width-utf8.RuneCountInString(label)) }
	if s := d.about(); s != "" {
		w.text("  "+pad(t.subject), strings.Repeat(" ", width+2), s)
	}
	w.line("  " + pad(t.sent) + d.Zone.Format(d.Arrival, t.code))
	for _, r := range d.Recipients {
		w.line("")
		w.line(printable(r.display()))
		w.text("  ", "  ", d.why(t, r))
		if t.replies {
			d.quote(w, t, r)
		}
	}
	w.line("")
	w.text("", "", t.end[d.Kind])
	w.line("")
	w.text("", "", t.signed+printable(d.Reporter)+".")
}

// why says in a sentence or two how it stands with a recipient, and what to do.
func (d *DSN) why(t tongue, r Recipient) string {
	said := t.cause(causeOf(r))
	switch d.Kind {
	case Success:
		return t.taken
	case Delay:
		if r.RetryUntil.IsZero() {
			return t.waits
		}
		return t.waits + " " + t.until + d.Zone.Format(r.RetryUntil, t.code) + "."
	case Failure:
	}
	if r.Expired {
		return t.expired + " " + said.why + " " + said.step
	}
	return said.why + " " + said.step
}

// quote repeats what the other server said, word by word.
func (d *DSN) quote(w *writer, t tongue, r Recipient) {
	reply := printable(r.Outcome.Reply())
	if reply == "" {
		return
	}
	label := t.ours
	if mta := printable(r.Outcome.RemoteMTA); mta != "" && r.Outcome.Code != 0 {
		label = mta + " " + t.answered
	}
	w.line("")
	w.line("  " + label)
	w.text("  > ", "  > ", reply)
}

func (r Recipient) display() string { return cmp.Or(r.Display, r.To) }

// writer writes lines for people.
type writer struct{ strings.Builder }

func (w *writer) line(s string) { _, _ = w.WriteString(s + "\r\n") } // never fails

// text writes a paragraph; its first line begins with first, the others with
// rest. A word too long for a line has one of its own.
func (w *writer) text(first, rest, s string) {
	line, width, empty := first, utf8.RuneCountInString(first), true
	for word := range strings.FieldsSeq(s) {
		n := utf8.RuneCountInString(word)
		if !empty && width+1+n > textWidth {
			w.line(line)
			line, width, empty = rest, utf8.RuneCountInString(rest), true
		}
		if !empty {
			line, width = line+" ", width+1
		}
		line, width, empty = line+word, width+n, false
	}
	w.line(line)
}
