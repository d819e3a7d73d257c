package delivery

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"mittente/internal/smtp"
)

// How long a reply asks to wait: what it says, else what is known of those who
// say the same (defaults of the software, or our choice where nothing is published).
//
//	in 5 minutes, after 300 seconds, greylisted for 5 minutes, in 00:05:00   as said
//	greylisting without a time     5 min, Postgrey's default (RFC 6647 on the practice)
//	Microsoft 4.7.500 to 4.7.699   15 min: the address is throttled, for a time that is not said
//	Gmail 4.7.28, 4.2.1, and other texts of a rate that is exceeded   10 min
const (
	greylistWait = 5 * time.Minute
	throttleWait = 15 * time.Minute
	rateWait     = 10 * time.Minute

	minWait, maxWait = 10 * time.Second, 24 * time.Hour // mail.Outcome.RetryAfter
)

// spoken is a wish to be left alone, then how long: "please try again in about
// 5 minutes", "greylisted for 300 seconds", "wait 1 hour". Between the two only
// small words may stand, so that no limit ("100 messages per hour") is taken for it.
var spoken = regexp.MustCompile(`(?i)\b(?:` + strings.Join([]string{
	`try(?:ing)?(?: it| this| sending| delivery| your message)?(?: again| later)*`, `retry(?:ing)?`, `re-?send(?:ing)?`, `resubmit`,
	`come back`, `again`, `later`, `gr[ae]y-?list\w*`, `wait(?:ing)?`, `deferred`, `delayed`, `postponed`, `blocked`, `reconnect`, `return`, `back off`,
	`riprova(?:re|te)?`, `erneut`, `nochmals?`, `réessay\w*`, `renouvel\w*`, `intent\w*`,
}, "|") + `)[\s,:;(=-]*(?:(?:again|later|sending|delivery|it|in|for|after|at|least|about|approximately|another|the|next|a|minimum|of|within|not|before|until|please|tra|fra|dopo|dans|en|nach|von)[\s,:;(=~-]+)*` +
	`(?:(\d{1,2}):(\d{2}):(\d{2})\b|(\d{1,6})[\s-]*(s|secs?|seconds?|secondi|sekunden|secondes|m|mins?|minutes?|minuti|minuten|minutos|h|hrs?|hours?|or[ae]|stunden?|heures?|horas?|d|days?)\b(?:[\s,]*(?:and\s+)?(\d{1,2})\s*(s|secs?|seconds?|m|mins?|minutes?)\b)?)`)

var (
	greylisting = regexp.MustCompile(`(?i)gr[ae]y-?\s?list`)
	rate        = regexp.MustCompile(`(?i)unusual rate|at a rate that|too quickly|rate limit|rate-limit|too many (?:messages|mails|emails|connections)|throttl`)
)

// retryAfter returns how long the server asks to wait; 0 when it does not say.
func retryAfter(r smtp.Reply) time.Duration {
	text := head(r.Text())
	if d := spokenWait(text); d > 0 {
		return min(max(d, minWait), maxWait)
	}
	s := r.Status
	switch {
	case r.Class() != 4:
		return 0
	case greylisting.MatchString(text):
		return greylistWait
	case s.Subject == 7 && s.Detail >= 500 && s.Detail <= 699:
		return throttleWait
	case rate.MatchString(text):
		return rateWait
	}
	return 0
}

// spokenWait reads a time from the text of a reply.
func spokenWait(text string) time.Duration {
	m := spoken.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	if m[1] != "" {
		return times(m[1], time.Hour) + times(m[2], time.Minute) + times(m[3], time.Second)
	}
	d := times(m[4], unit(m[5]))
	if m[6] != "" {
		d += times(m[6], unit(m[7]))
	}
	return d
}

// times reads a number of at most six digits, of a unit.
func times(digits string, unit time.Duration) time.Duration {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return time.Duration(n) * unit
}

// unit is the time that a word names, by its first letter.
func unit(word string) time.Duration {
	switch strings.ToLower(word)[0] {
	case 's':
		if strings.HasPrefix(strings.ToLower(word), "stunde") {
			return time.Hour
		}
		return time.Second
	case 'm':
		return time.Minute
	case 'd':
		return 24 * time.Hour
	}
	return time.Hour
}
