package mail

import (
	"fmt"
	"strings"
)

// Rcpt is what RCPT said: a forward-path, with what the client wants to be told of it.
type Rcpt struct {
	To       ForwardPath
	Notify   Notify // RFC 3461 §4.1; zero: not given, which is "on failure"
	Original string // ORCPT (RFC 3461 §4.2), "type;address" with xtext decoded, at most 500 octets; empty: not given
}

// Notify is when the sender is to be told about a recipient (RFC 3461 §4.1): a
// set, in which NotifyNever stands alone.
type Notify uint8

// The members of Notify.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// notifyWord is a member with its word on the wire.
type notifyWord struct {
	flag Notify
	word string
}

func notifyWords() [4]notifyWord {
	return [...]notifyWord{{NotifyNever, "NEVER"}, {NotifySuccess, "SUCCESS"}, {NotifyFailure, "FAILURE"}, {NotifyDelay, "DELAY"}}
}

// ParseNotify reads "NEVER", or a list of "SUCCESS", "FAILURE" and "DELAY", in
// any case. An empty text is "not given".
func ParseNotify(s string) (Notify, error) {
	var n Notify
	if s == "" {
		return 0, nil
	}
	for word := range strings.SplitSeq(s, ",") {
		flag := notifyFlag(word)
		if flag == 0 {
			return 0, fmt.Errorf("NOTIFY=%.40q: want NEVER, or SUCCESS, FAILURE, DELAY", s)
		}
		n |= flag
	}
	if n&NotifyNever != 0 && n != NotifyNever {
		return 0, fmt.Errorf("NOTIFY=%.40q: NEVER stands alone", s)
	}
	return n, nil
}

func notifyFlag(word string) Notify {
	for _, w := range notifyWords() {
		if strings.EqualFold(word, w.word) {
			return w.flag
		}
	}
	return 0
}

// String returns the form of the wire, such as "SUCCESS,DELAY"; empty: not given.
func (n Notify) String() string {
	var words []string
	for _, w := range notifyWords() {
		if n&w.flag != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ",")
}

// OnFailure reports whether a failure is to be told: also where nothing was asked.
func (n Notify) OnFailure() bool { return n == 0 || n&NotifyFailure != 0 }

// OnDelay reports whether a delay is to be told.
func (n Notify) OnDelay() bool { return n&NotifyDelay != 0 }

// OnSuccess reports whether a delivery is to be told.
func (n Notify) OnSuccess() bool { return n&NotifySuccess != 0 }

// Return is how much of a message comes back with a failure DSN (RFC 3461 §4.3).
type Return string

// The values of Return; the zero value is "not given".
const (
	ReturnFull   Return = "FULL"
	ReturnHeader Return = "HDRS"
)

// ParseReturn reads "FULL" or "HDRS", in any case; an empty text is "not given".
func ParseReturn(s string) (Return, error) {
	switch r := Return(strings.ToUpper(s)); r {
	case "", ReturnFull, ReturnHeader:
		return r, nil
	default:
		return "", fmt.Errorf("RET=%.40q: want FULL or HDRS", s)
	}
}
