package delivery

import (
	"net/netip"
	"slices"
	"strings"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// A phrase is one way in which servers refuse our address or our name, whatever
// the mail: one of the first, then, no more than so many octets later, one of the
// second, if there are any. The test has the evidence. Text is in lower case,
// spaces around it, and "#" stands for an IP address.
type phrase struct {
	first  []string
	within int
	second []string
}

// phrases are what is looked for; one is enough.
func phrases() []phrase {
	refused := []string{
		"block", "blacklist", "black list", "denylist", "deny list", " listed", "banned", " rbl", "reputation", "denied",
		"deferred", "rejected", "refused", "not accepted", "weren't sent", "rate limited",
	}
	return []phrase{
		{first: []string{"client host"}, within: 80, second: refused}, // Postfix
		{first: []string{"#"}, within: 40, second: refused},           // Exim, Outlook.com, Yahoo
		{first: []string{
			"your ip", "your host", "your server", "your mail server", "your mailserver", "your network", "your mta", "your connection",
			"sending ip", "sending mta", "sending host", "sending server", "client ip", "source ip", "connecting ip", "connecting host", "server ip",
		}, within: 80, second: refused},
		{first: []string{" ip "}, within: 30, second: []string{"blacklist", "blocked", "banned", " listed"}}, // Libero
		{first: []string{" no ", "missing ", " bad ", "without ", "not have a", "lacks ", "valid "}, within: 30, second: []string{" ptr", " reverse dns", " rdns", "dns ptr"}},
		{first: []string{
			"helo command rejected", "cannot find your hostname", "cannot find your reverse hostname", " no rdns", // Postfix
			"banned sending ip", "ip reputation", // Microsoft 365
			"reputation of the sending ip", "ip you're using to send", "from your ip address", // Gmail
			"connections will not be accepted from", "ip=#", // Yahoo, T-Online
			"zen.spamhaus.org", "spamhaus.org/query/ip", "spamhaus.org/sbl", "spamhaus.org/pbl", "bl.spamcop.net", "barracudacentral.org", "cbl.abuseat.org",
			" dnsbl", "_is_blocked", // Proofpoint, AT&T
		}},
	}
}

// notSource are words of replies that speak of content or of a domain, though an
// address or a list occurs in them.
func notSource() []string {
	return []string{" url", " uri", "hyperlink", "surbl", "uribl", " dbl", "domain", "attachment", "virus", " header"}
}

// aboutSource reports whether a refusal is one of the address we come from or
// the name we give, which no recipient and no message can help.
func aboutSource(r smtp.Reply) bool {
	if r.Status == (mail.Status{Class: r.Class(), Subject: 7, Detail: 25}) { // RFC 7372 §3.3: reverse DNS
		return true
	}
	text := withoutAddresses(head(r.Text()))
	if containsAny(text, notSource()) {
		return false
	}
	for _, p := range phrases() {
		if p.in(text) {
			return true
		}
	}
	return false
}

func (p phrase) in(text string) bool {
	if p.second == nil {
		return containsAny(text, p.first)
	}
	for _, s := range p.first {
		for rest := text; ; {
			_, after, ok := strings.Cut(rest, s)
			if !ok {
				break
			}
			if containsAny(after[:min(len(after), p.within)], p.second) {
				return true
			}
			rest = after
		}
	}
	return false
}

func containsAny(text string, words []string) bool {
	return slices.ContainsFunc(words, func(s string) bool { return strings.Contains(text, s) })
}

// head is what is looked at of a reply: what matters stands in front.
func head(text string) string { return text[:min(len(text), 1000)] }

// withoutAddresses puts text into lower case, spaces around it, and "#" for each
// IP address.
func withoutAddresses(text string) string {
	var b strings.Builder
	b.Grow(len(text) + 2)
	b.WriteByte(' ')
	text = strings.ToLower(text)
	for text != "" {
		n := strings.IndexFunc(text, func(c rune) bool { return !inAddress(c) })
		if n < 0 {
			n = len(text)
		}
		word := strings.TrimRight(text[:n], ".:")
		if _, err := netip.ParseAddr(word); len(word) > 2 && err == nil {
			b.WriteByte('#')
		} else {
			word = text[:n]
			b.WriteString(word)
		}
		text = text[len(word):]
		for text != "" && (!inAddress(rune(text[0])) || text[0] == '.' || text[0] == ':') {
			b.WriteByte(text[0])
			text = text[1:]
		}
	}
	b.WriteByte(' ')
	return b.String()
}

func inAddress(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c == '.' || c == ':'
}
