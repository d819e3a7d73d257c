package msa

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"mittente/internal/account"
	"mittente/internal/mail"
	"mittente/internal/sender"
	"mittente/internal/smtp"
	"mittente/internal/smtpserver"
	"mittente/internal/submission"
)

// say makes a reply of one line.
func say(code int, status mail.Status, text string) smtp.Reply {
	return smtp.Reply{Code: code, Status: status, Lines: []string{text}}
}

// status makes an enhanced status code (RFC 3463).
func status(class, subject, detail int) mail.Status {
	return mail.Status{Class: class, Subject: subject, Detail: detail}
}

// authRefused answers AUTH. Whoever did not know the password learns nothing.
func authRefused(err error, client netip.Addr) smtp.Reply {
	if errors.Is(err, account.ErrExchange) {
		return say(501, status(5, 5, 2), "Not a message of SCRAM-SHA-256, or out of turn")
	}
	why, ok := errors.AsType[*account.AuthError](err)
	if !ok {
		return say(454, status(4, 7, 0), "Temporary authentication failure, try again later") // RFC 4954 §6
	}
	switch why.Reason {
	case account.TLSRequired:
		return say(538, status(5, 7, 11), "Encryption required: "+why.Name+" must use STARTTLS before AUTH")
	case account.NotFromHere:
		return say(535, status(5, 7, 8), fmt.Sprintf("%s may not be used from %s", why.Name, client))
	case account.Inactive:
		return say(535, status(5, 7, 8), fmt.Sprintf("%s is not active: activate it by mittente user edit %s --active", why.Name, why.Name))
	case account.TooMany:
		return say(421, status(4, 7, 0), "Too many wrong passwords from your address: try again in "+duration(why.Wait))
	case account.Unbound:
		return say(535, status(5, 7, 8), "The channel binding does not fit this TLS session")
	case account.BadCredentials, account.Removed, account.PasswordChanged, account.Spent:
	}
	return say(535, status(5, 7, 8), "User name or password is wrong")
}

// duration is a wait in whole seconds below a minute, else in whole minutes.
func duration(d time.Duration) string {
	n, unit := int64((d+time.Minute-1)/time.Minute), "minute"
	if d < time.Minute {
		n, unit = int64((d+time.Second-1)/time.Second), "second"
	}
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// authEnded answers MAIL in a session whose credentials have ended: 535 answers
// AUTH only, and there is no second AUTH (RFC 4954 §4).
func authEnded(why *account.AuthError) smtp.Reply {
	cause := "authenticate again"
	switch why.Reason {
	case account.Removed, account.BadCredentials:
		cause = "user " + why.Name + " was removed"
	case account.PasswordChanged:
		cause = "the password of " + why.Name + " was changed"
	case account.Inactive:
		cause = why.Name + " is not active any more"
	case account.TLSRequired:
		cause = why.Name + " must use STARTTLS before AUTH"
	case account.Spent:
		cause = "the one-time password of " + why.Name + " is used up"
	case account.NotFromHere:
		cause = why.Name + " may not be used from here"
	case account.TooMany, account.Unbound: // of AUTH only
	}
	return say(530, status(5, 7, 0), "Authentication required: "+cause)
}

// gateRefused is the table of the gate's refusals. ok is false for an error
// that is no refusal, which the client is told nothing of.
func gateRefused(err error, publicURL string) (reply smtp.Reply, ok bool) {
	if ended, ok := errors.AsType[*account.AuthError](err); ok {
		return authEnded(ended), true
	}
	var why *submission.Rejection
	if !errors.As(err, &why) {
		return say(451, status(4, 3, 0), "Temporary failure, try again later"), false
	}
	address := shown(why.Address)
	switch why.Reason {
	case submission.NotAuthorised:
		return say(550, status(5, 7, 1), fmt.Sprintf("Sender <%s> is not authorised for %s: see %s", address, why.User, link(publicURL, why))), true
	case submission.Pending:
		return say(550, status(5, 7, 1), fmt.Sprintf("Sender <%s> %s, or see %s", address, unproven(why), link(publicURL, why))), true
	case submission.FormVisitor:
		return say(550, status(5, 7, 1), fmt.Sprintf("From <%s> is not authorised for %s; put visitors of a form in Reply-To", address, why.User)), true
	case submission.Malformed:
		return say(550, status(5, 6, 0), smtpserver.Clip("The header can't be accepted: "+cause(why))), true
	case submission.Loop:
		return say(554, status(5, 4, 6), "Too many Received fields: the message goes round in a loop"), true // RFC 5321 §6.3
	case submission.StorageFull:
		return say(452, status(4, 3, 1), "No room for messages, try again later"), true
	case submission.StorageDown:
		return say(451, status(4, 3, 0), "Messages can't be stored now, try again later"), true
	case submission.Busy:
		return say(451, status(4, 3, 2), "Too many messages at once, try again later"), true
	case submission.OverQuota:
		return say(450, status(4, 7, 1), fmt.Sprintf("%s has used up its %d recipients of this hour: try again in %s", why.User, why.Limit, duration(why.Wait))), true
	case submission.CredentialSpent:
		return say(550, status(5, 7, 0), "The one-time password is used up"), true
	}
	return say(451, status(4, 3, 0), "Temporary failure, try again later"), false
}

// unproven says how far a sender has come that is listed and not verified, and
// what to do: answering a letter brings nothing once its link is void.
func unproven(why *submission.Rejection) string {
	switch {
	case why.State == sender.StateRevoked:
		return "was revoked for " + why.User + ": have it verified again"
	case why.State == sender.StateFailed && why.Kind == sender.KindAddress:
		return "was declined by its owner for " + why.User + ": use another sender"
	}
	return "is awaiting verification for " + why.User + ": " + todo(why.Kind)
}

// todo says how a sender is verified.
func todo(kind sender.Kind) string {
	if kind == sender.KindAddress {
		return "answer the email we sent"
	}
	return "publish the DNS records of its domain"
}

// link names the event, not a token: the page wants a sign-in.
func link(publicURL string, why *submission.Rejection) string {
	if why.Event.IsZero() {
		return publicURL
	}
	return publicURL + "/authorise/" + why.Event.String()
}

func cause(why *submission.Rejection) string {
	if why.Cause == nil {
		return "From or Sender is missing or malformed"
	}
	return why.Cause.Error()
}

// shown returns an address in its wire form if it is one, within bounds.
func shown(address string) string {
	if a, err := mail.ParseAddress(address); err == nil {
		address = a.String()
	}
	return smtpserver.Clip(address)
}
