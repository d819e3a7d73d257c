package delivery

import (
	"testing"
	"time"

	"mittente/internal/mail"
	"mittente/internal/smtpclient"
)

// TestRetryAfter: texts of servers in use, as they stand in their sources, their
// documentation or the logs of postmasters.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]time.Duration{
		// Greylisting.
		"450 4.2.0 <a@example.net>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/example.net.html": 5 * time.Minute,    // Postgrey
		"450 4.7.1 <a@example.net>: Recipient address rejected: Greylisted for 300 seconds (see http://isg.ee.ethz.ch/)":             5 * time.Minute,    // Postgrey, older
		"450 4.7.1 <a@example.net>: Recipient address rejected: Greylisted for 5 minutes":                                            5 * time.Minute,    // SQLgrey
		"451 4.7.1 Greylisting in action, please come back in 00:29:55":                                                              1795 * time.Second, // milter-greylist
		"451 Greylisting in action, please come back later":                                                                          5 * time.Minute,    // Exim
		"451 4.7.1 Greylisted, please try again in 180 seconds":                                                                      3 * time.Minute,
		"451 Temporarily greylisted, please try again later.":                                                                        5 * time.Minute, // cPanel
		"451 4.7.1 Greylisted":                          5 * time.Minute, // Rspamd
		"451 4.7.1 Grey listed, retry in 1 minute":      time.Minute,
		"450 4.7.1 Graylisted. Try again after 10 min.": 10 * time.Minute,
		// What is asked for in words.
		"450 4.7.1 Too many messages; try again in 5 minutes":              5 * time.Minute,
		"450 4.7.1 over quota: try again in 17 minutes.":                   17 * time.Minute, // our own door
		"421 4.7.0 Try again in 1 hour":                                    time.Hour,
		"421 4.7.0 Please wait 2 hours and 30 minutes before trying again": 150 * time.Minute,
		"421 Too many concurrent connections. Please retry after 60 secs":  time.Minute,
		"450 4.3.2 Retry-After: 120 s":                                     2 * time.Minute,
		"450 please try sending again in about 15 minutes":                 15 * time.Minute,
		"450 4.7.0 deferred for 3 h":                                       3 * time.Hour,
		"450 4.2.1 riprovare tra 20 minuti":                                20 * time.Minute,
		"450 4.2.1 Bitte versuchen Sie es später erneut in 2 Stunden":      2 * time.Hour,
		"450 4.2.1 réessayez dans 30 minutes":                              30 * time.Minute,
		"450 4.7.1 try again in 2 seconds":                                 10 * time.Second, // bounded
		"450 4.7.1 try again in 30 days":                                   24 * time.Hour,
		// Providers that say no time.
		"451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)":                                                       15 * time.Minute, // Microsoft 365
		"451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)":                           15 * time.Minute,
		"421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address.":                              10 * time.Minute,
		"450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered.": 10 * time.Minute, // Gmail
		"450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message at a later time.":          10 * time.Minute,
		// What is no wish.
		"421 4.7.0 Try again later, closing connection.":                           0, // Gmail: the schedule knows better
		"451 4.3.0 Temporary failure, please try again later":                      0,
		"450 4.3.2 Service currently unavailable":                                  0, // postscreen
		"450 4.7.1 limit of 100 messages per 60 minutes exceeded, try again later": 0,
		"451 4.4.2 Timed out after 300 seconds":                                    0,
		"450 4.7.1 retry later: 3 per 1 hour allowed":                              0,
		"452 4.2.2 mailbox full":                                                   0,
		"450 4.7.1 try again in 0 minutes":                                         0,
		"450 4.7.1 try again in 5 parsecs":                                         0,
		"451 4.0.0 id 5 minutes":                                                   0,
	} {
		r, err := readReply(t, reply+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := retryAfter(r); got != want {
			t.Errorf("%s: %v, want %v", reply, got, want)
		}
		if o := judge(smtpclient.AtRcpt, r); o.Action != mail.Deferred || o.RetryAfter != want {
			t.Errorf("%s: %+v", reply, o)
		}
	}
	// Whoever is refused for good waits for nothing.
	r, err := readReply(t, "550 5.7.1 not before 2030, try again in 5 minutes\r\n")
	if o := judge(smtpclient.AtRcpt, r); err != nil || o.Action != mail.Failed || o.RetryAfter != 0 {
		t.Error(o, err)
	}
}
