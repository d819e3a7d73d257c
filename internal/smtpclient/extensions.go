package smtpclient

import (
	"strconv"
	"strings"

	"mittente/internal/smtp"
)

// Extensions are what EHLO offered (RFC 5321 §4.1.1.1).
type Extensions struct {
	Pipelining bool // RFC 2920
	StartTLS   bool // RFC 3207
	EightBit   bool // RFC 6152
	UTF8       bool // RFC 6531
	DSN        bool // RFC 3461
	Sizes      bool // RFC 1870: SIZE is understood
	// Size is the limit in octets; 0: none said.
	Size int64
	// Auth are the mechanisms, in upper case (RFC 4954).
	Auth []string
	// Transactions, Recipients and Domains bound what one connection, and in it
	// one transaction, may have (MAILMAX, RCPTMAX and RCPTDOMAINMAX of RFC 9422);
	// 0: not said.
	Transactions, Recipients, Domains int
}

// parseExtensions reads the lines after the first of a reply to EHLO.
func parseExtensions(r smtp.Reply) Extensions {
	var ext Extensions
	for _, line := range r.Lines[min(1, len(r.Lines)):] {
		if words := strings.Fields(strings.ToUpper(line)); len(words) > 0 {
			ext.add(words[0], words[1:])
		}
	}
	return ext
}

func (e *Extensions) add(keyword string, params []string) {
	switch keyword {
	case "PIPELINING":
		e.Pipelining = true
	case "STARTTLS":
		e.StartTLS = true
	case "8BITMIME":
		e.EightBit = true
	case "SMTPUTF8":
		e.UTF8 = true
	case "DSN":
		e.DSN = true
	case "AUTH":
		e.Auth = append(e.Auth, params...)
	case "LIMITS":
		e.limits(params)
	case "SIZE":
		e.Sizes = true
		if len(params) > 0 {
			// What is no number says no limit.
			if n, err := strconv.ParseInt(params[0], 10, 64); err == nil && n > 0 {
				e.Size = n
			}
		}
	default:
		// Older servers: "AUTH=LOGIN PLAIN".
		if mech, ok := strings.CutPrefix(keyword, "AUTH="); ok {
			e.Auth = append(append(e.Auth, mech), params...)
		}
	}
}

// limits reads the parameters of LIMITS (RFC 9422); what is not understood is passed over.
func (e *Extensions) limits(params []string) {
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 || len(value) > 6 { // at most six digits there
			continue
		}
		switch name {
		case "MAILMAX":
			e.Transactions = n
		case "RCPTMAX":
			e.Recipients = n
		case "RCPTDOMAINMAX":
			e.Domains = n
		}
	}
}
