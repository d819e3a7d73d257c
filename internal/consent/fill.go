package consent

import (
	"context"
	"strconv"
	"strings"
	"time"

	"mittente/internal/letter"
	"mittente/internal/sender"
)

// span is a piece of text in one style: "", "code", "muted", or "break", a line's end.
type span struct{ Style, Text string }

// fact is a line of facts on the page.
type fact struct {
	Label string
	Value []span
}

// button answers.
type button struct {
	Answer, Label   string
	Primary, Danger bool
}

// leaf is what the template of the page shows.
type leaf struct {
	Lang, Title, Kicker string
	Languages, Assets   string
	Done                bool // the headline is good news
	Head                []span
	Says, Hints         [][]span
	Rows                []fact
	Buttons             []button

	Foot, OtherLang, Other, OtherRead string
}

// pen writes the page in one language, with what stands for the words in braces.
type pen struct {
	says
	lang string
	held map[string][]span
}

// write makes spans of text.
func (p pen) write(text string) []span {
	var all []span
	for text != "" {
		before, rest, open := strings.Cut(text, "{")
		if before != "" {
			all = append(all, span{Text: before})
		}
		if !open {
			break
		}
		name, after, _ := strings.Cut(rest, "}")
		all = append(all, p.held[name]...)
		text = after
	}
	return all
}

// plain is write without styles.
func (p pen) plain(text string) string {
	var b strings.Builder
	for _, s := range p.write(text) {
		b.WriteString(s.Text)
	}
	return b.String()
}

// fillIn makes the page of a sheet.
func (c *Consent) fillIn(ctx context.Context, s sheet, asked sender.Asked, lang string) leaf {
	p := c.pen(ctx, asked, lang)
	l := leaf{Lang: lang, Languages: p.Languages, Assets: assets, Kicker: p.Kicker, OtherLang: english, OtherRead: p.Read}
	if lang == english {
		l.OtherLang = italian
	}
	if s == sheetAsk {
		l.Other = p.plain(p.Other)
	}
	p.sheet(&l, s, asked)
	if l.Head == nil {
		l.Head = p.write(l.Title)
	}
	return l
}

// sheet writes what differs from sheet to sheet.
func (p pen) sheet(l *leaf, s sheet, asked sender.Asked) {
	say := func(title string, texts ...string) {
		l.Title = p.plain(title)
		for _, t := range texts {
			l.Says = append(l.Says, p.write(t))
		}
	}
	hint := func(text string) { l.Hints = append(l.Hints, p.write(text)) }
	switch s {
	case sheetAsk:
		say(p.AskTitle, p.AskSays)
		l.Head, l.Foot = p.write(p.AskHead), p.plain(p.AskFoot)
		l.Rows = append(p.facts(), fact{p.Until, p.held["until"]})
		l.Buttons = []button{{Answer: "confirm", Label: p.Yes, Primary: true}, {Answer: "refuse", Label: p.No}}
		hint(p.AskHint)
	case sheetRevoke:
		say(p.RevokeTitle, p.RevokeSays)
		l.Head = p.write(p.RevokeHead)
		l.Rows = append(p.facts(), fact{p.Dated, p.held["asked"]})
		l.Buttons = []button{{Answer: "revoke", Label: p.Revoke, Danger: true}}
		hint(p.RevokeHint)
	case sheetOK:
		say(p.OKTitle, p.OKSays)
		l.Done = true
	case sheetNo:
		say(p.NoTitle, p.NoSays)
	case sheetRevoked:
		say(p.RevokedTitle, p.RevokedSays)
	case sheetUsed:
		p.used(say, hint, asked)
	case sheetGone:
		say(p.RevokedTitle, p.UsedGone)
	case sheetExpired:
		say(p.ExpiredTitle, p.ExpiredSays)
		hint(p.ExpiredHint)
	case sheetReplaced:
		say(p.ReplacedTitle, p.ReplacedSays)
	case sheetUnknown:
		say(p.UnknownTitle, p.UnknownSays)
		hint(p.UnknownHint)
	case sheetTrouble:
		say(p.TroubleTitle, p.TroubleSays)
	case sheetMany:
		say(p.ManyTitle, p.ManySays)
	}
}

// used says what became of a link.
func (p pen) used(say func(title string, texts ...string), hint func(text string), asked sender.Asked) {
	switch asked.Outcome {
	case letter.OutcomeConfirmed:
		if asked.State != sender.StateVerified {
			say(p.UsedTitle, p.UsedGone)
			return
		}
		say(p.UsedTitle, p.UsedYes)
		hint(p.UsedHint)
	case letter.OutcomeRefused:
		say(p.UsedTitle, p.UsedNo)
	case letter.OutcomeRevoked, letter.OutcomeReplaced, letter.OutcomeWithdrawn:
		say(p.UsedTitle, p.UsedRevoked)
	}
}

// facts say who asks.
func (p pen) facts() []fact {
	f := frameOf(p.lang)
	return []fact{{f.Asker, p.held["who asks"]}, {f.Behalf, p.held["behalf"]}}
}

// pen has what a link is about.
func (c *Consent) pen(ctx context.Context, asked sender.Asked, lang string) pen {
	p := pen{says: saysOf(lang, about{domain: asked.Domain != ""}), lang: lang}
	what := asked.Address.Display()
	if asked.Domain != "" {
		what = asked.Domain.Unicode()
	}
	p.held = map[string][]span{
		"host": {{Text: c.cfg.Hostname}}, "path": {{Style: "code", Text: "/v/"}}, "what": {{Style: "code", Text: what}},
		"until": c.moment(asked.ExpiresAt, lang), "decided": c.moment(asked.DecidedAt, lang), "asked": c.moment(asked.RequestedAt, lang),
		"rest": {{Text: c.cfg.Zone.Day(asked.RestUntil, lang)}},
	}
	if asked.Address.IsZero() { // nothing is known of the link
		return p
	}
	acc, who := c.who(ctx, asked.Account)
	p.held["who"] = []span{{Text: who}}
	number := frameOf(lang).Account + " " + strconv.FormatInt(acc.Number, 10)
	if who != c.cfg.Hostname {
		number = who + ", " + number
	}
	p.held["behalf"] = []span{{Text: number}, {Style: "break"}, {Style: "code", Text: c.cfg.Hostname}}
	asker := askedBy(asked.RequestedBy)
	p.held["asker"] = []span{{Text: asker.name}}
	switch {
	case asker == person{}:
		p.held["asker"] = p.write(frameOf(lang).Somebody)
		p.held["who asks"] = p.held["asker"]
	case asker.address.IsZero():
		p.held["who asks"] = []span{{Text: asker.name + ", " + p.plain(frameOf(lang).Operator)}}
	case asker.name == "":
		p.held["asker"] = []span{{Style: "code", Text: asker.address.Display()}}
		p.held["who asks"] = p.held["asker"]
	default:
		mailbox := span{Style: "code", Text: asker.address.Display()}
		p.held["who asks"] = []span{{Text: asker.name + ", "}, mailbox}
		p.held["asker"] = []span{{Text: asker.name + " ("}, mailbox, {Text: ")"}}
	}
	return p
}

// moment is a time with its zone in the background.
func (c *Consent) moment(t time.Time, lang string) []span {
	if t.IsZero() {
		return nil
	}
	return []span{{Text: c.cfg.Zone.Time(t, lang) + " "}, {Style: "muted", Text: "(" + c.cfg.Zone.Name(t, lang) + ")"}}
}
