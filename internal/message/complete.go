package message

import (
	"time"

	"mittente/internal/mail"
)

// Completion is what the relay knows of a message when it takes it.
type Completion struct {
	Received  Trace
	From      mail.ReversePath // put in From where there is no From field; null: none is put
	Hostname  string           // of the relay
	Now       time.Time
	MessageID string        // with angle brackets; used where there is no Message-ID field
	Priority  mail.Priority // of the SMTP+ user; 0 is as 3
}

// Complete returns the header section as it goes to the spool: every line ends
// in CRLF, the empty line is not part of it. A Received field comes first (RFC
// 5321 §4.4); Date, Message-ID and From are put at the end where they are missing
// (RFC 6409 §8); Bcc is taken out (RFC 5322 §3.6.3), Resent-Bcc too; the three
// priority fields are replaced by those of the user where hers is higher
// (requirement S14). All other bytes stay, in their order.
func (h Header) Complete(c Completion) []byte {
	own := h.replacesPriority(c.Priority)
	out := make([]byte, 0, len(h.raw)+768)
	out = c.Received.appendTo(out, c.Hostname, c.Now)
	var has [kindMSPriority + 1]bool
	for _, s := range h.fields {
		has[s.kind] = true
		if s.kind == kindBcc || own && s.kind.isPriority() {
			continue
		}
		out = append(out, h.raw[s.start:s.end]...)
	}
	if !has[kindDate] {
		out = append(c.Now.AppendFormat(append(out, "Date: "...), dateLayout), "\r\n"...)
	}
	if !has[kindMessageID] && c.MessageID != "" {
		out = append(append(append(out, "Message-ID: "...), c.MessageID...), "\r\n"...)
	}
	if !has[kindFrom] && !c.From.IsNull() {
		out = append(append(append(out, "From: "...), c.From.String()...), "\r\n"...)
	}
	if own {
		out = append(out, priorityFields(c.Priority)...)
	}
	return out
}
