package message

import (
	"strings"

	"mittente/internal/mail"
)

// priorityFields returns the three fields that show p to recipients (requirement
// S14), CRLF and all. Mail programs read one or another of them.
//
//	p  X-Priority   Importance  X-MSMail-Priority
//	1  1 (Highest)  high        High
//	2  2 (High)     high        High
//	3  –            –           –
//	4  4 (Low)      low         Low
//	5  5 (Lowest)   low         Low
func priorityFields(p mail.Priority) string {
	const (
		high = "\r\nImportance: high\r\nX-MSMail-Priority: High\r\n"
		low  = "\r\nImportance: low\r\nX-MSMail-Priority: Low\r\n"
	)
	switch p {
	case mail.PriorityHighest:
		return "X-Priority: 1 (Highest)" + high
	case 2:
		return "X-Priority: 2 (High)" + high
	case 4:
		return "X-Priority: 4 (Low)" + low
	case mail.PriorityLowest:
		return "X-Priority: 5 (Lowest)" + low
	case mail.PriorityNormal:
	}
	return ""
}

// Priority returns the highest priority that the message itself asks for; ok is
// false when it asks for none that can be read.
func (h Header) Priority() (highest mail.Priority, ok bool) {
	highest = mail.PriorityLowest + 1
	for _, s := range h.fields {
		if !s.kind.isPriority() {
			continue
		}
		if p := parsePriority(s.kind, h.at(s).Value()); p != 0 {
			highest = min(highest, p)
		}
	}
	if highest > mail.PriorityLowest {
		return 0, false
	}
	return highest, true
}

func (k kind) isPriority() bool {
	return k == kindXPriority || k == kindImportance || k == kindMSPriority
}

// parsePriority reads one of the three fields; 0 when it can't be read. The two
// that know only three steps say 2, 3 or 4: an outermost step is X-Priority's alone.
func parsePriority(k kind, value string) mail.Priority {
	if k == kindXPriority {
		if value == "" || value[0] < '1' || value[0] > '5' {
			return 0
		}
		if len(value) > 1 && value[1] >= '0' && value[1] <= '9' {
			return 0
		}
		return mail.Priority(value[0] - '0')
	}
	switch {
	case strings.EqualFold(value, "high"):
		return 2
	case strings.EqualFold(value, "normal"):
		return mail.PriorityNormal
	case strings.EqualFold(value, "low"):
		return 4
	}
	return 0
}

// replacesPriority reports whether a user's priority takes the place of the message's own.
func (h Header) replacesPriority(p mail.Priority) bool {
	if p == mail.PriorityNormal || p.Validate() != nil {
		return false
	}
	own, ok := h.Priority()
	return !ok || p < own
}
