package delivery

import (
	"regexp"
	"strings"

	"mittente/internal/mail"
	"mittente/internal/smtp"
)

// address is an IP address as replies show it.
const address = `[\[(<]?\b(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{1,4}:[0-9a-f:]{2,})\b[^\s\])>]{0,4}[\])>]?`

// listed is what is done to an address.
const listed = `(?:block|(?:black|deny|block)[ -]?list|\blisted\b|banned|\brbl\b|reputation|denied|deferred|rejected|refused|not accepted)`

// sourceBlocked are the texts by which servers refuse our address or our name,
// whatever the mail; the evidence is in the test.
var sourceBlocked = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`client host\b.{0,80}?` + listed,                             // Postfix
	`helo command rejected`,                                      // Postfix
	`\bhosts?\b.{0,60}?\bis (?:in|on) .{0,20}(?:rbl|black|list)`, // Exim
	`(?:mail|messages?|connections?) from ` + address + `.{0,60}?(?:` + listed + `|weren't sent)`,                // Outlook.com, Yahoo
	`(?:^|\bip\b|\bhost\b|\bbecause\b|\bsource\b|\bclient\b|\baddress\b)\W{0,4}` + address + `.{0,40}?` + listed, // Exim, many
	`banned send(?:ing ip|er ip)`,                               // Microsoft 365
	`(?:connections|mail) will not be accepted from`,            // Yahoo
	`ip=` + address + ` - a problem occurred`,                   // T-Online
	`\bip\b.{0,30}?(?:black-?listed|blocked|banned|\blisted\b)`, // Libero
	`\byour (?:ip|host|server|mail ?server|network|mta|connection)\b.{0,80}?` + listed,
	`(?:sending|client|source|server'?s?|connecting) (?:ip|mta|host|server)\b.{0,80}?` + listed,
	`reputation of (?:the|your) (?:sending|connecting)? ?(?:ip|mta|server)`, // Gmail, Cisco
	`ip you're using to send mail is not authori`,                           // Gmail
	`from your ip address`,                                                  // Gmail 4.7.28
	`(?:zen|sbl|xbl|pbl|css)\.spamhaus\.org|spamhaus\.org/(?:query/ip|query/bl|sbl|pbl|css)|bl\.spamcop\.net|barracudacentral\.org|cbl\.abuseat\.org`,
	`\bdnsbl\b|_is_blocked`, // Proofpoint, AT&T
	`(?:\bno|missing|\bbad|without|valid|lacks?|not have an?|have an?|dns) .{0,20}?(?:\bptr\b|reverse dns|\brdns\b)`,
	`cannot find your (?:reverse )?hostname`, // Postfix
}, "|"))

// notSource are words of replies that speak of content or of a domain, though an
// address list or an address occurs in them.
var notSource = regexp.MustCompile(`(?i)\b(?:ur[li]s?|hyperlink|surbl|uribl|uridnsbl|dbl|domain|attachment|virus|(?:reply-to|from) header)\b`)

// aboutSource reports whether a refusal is one of the address we come from or
// the name we give, which no recipient and no message can help.
func aboutSource(r smtp.Reply) bool {
	if r.Status == (mail.Status{Class: r.Class(), Subject: 7, Detail: 25}) { // RFC 7372 §3.3: reverse DNS
		return true
	}
	text := r.Text()
	if len(text) > 2000 {
		text = text[:2000]
	}
	return sourceBlocked.MatchString(text) && !notSource.MatchString(text)
}
