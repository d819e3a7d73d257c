package delivery

import (
	"testing"

	"mittente/internal/mail"
	"mittente/internal/smtpclient"
)

// TestBlockedSource: refusals of our address or name, in the words of servers in
// use. They fail nobody's mail, at whatever stage they come.
func TestBlockedSource(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		"554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.1",                                                       // Postfix
		"554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied",                                                                                                                      // Postfix
		"550 5.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",                                                                                                                  // Postfix
		"504 5.5.2 <relay>: Helo command rejected: need fully-qualified hostname",                                                                                                                  // Postfix
		"550 JunkMail rejected - relay.example.org [192.0.2.1]:41234 is in an RBL on rbl.example, see https://rbl.example/",                                                                        // cPanel
		"550 rejected because 192.0.2.1 is in a black list at dnsbl.example",                                                                                                                       // Exim
		"550 192.0.2.1 is listed at cbl.abuseat.org",                                                                                                                                               // Exim
		"550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please visit https://sender.office.com/",                                                      // Microsoft 365
		"550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140).",                 // Outlook.com
		"550-5.7.1 [192.0.2.1] The IP you're using to send mail is not authorized to send email directly to our servers.\r\n550 5.7.1 Please use the SMTP relay at your service provider instead.", // Gmail
		"550-5.7.25 [192.0.2.1] The IP address sending this message does not have a PTR\r\n550 5.7.25 record setup",                                                                                // Gmail
		"550 5.7.1 Our system has detected that this message is suspicious due to the very low reputation of the sending IP address.",                                                              // Gmail
		"553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list",                                                                                   // Yahoo
		"553 5.7.2 [TSS09] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.",                                                                                   // Yahoo
		"554 IP=192.0.2.1 - A problem occurred. (Ask your postmaster for help or to contact tosa@rx.t-online.de to clarify.)",                                                                      // T-Online
		"550 smtp-16.iol.local IP blacklisted by CSI. For remove please visit the page",                                                                                                            // Libero
		"554-gmx.net (mxgmx015) Nemesis ESMTP Service not available\r\n554-No SMTP service\r\n554 Bad DNS PTR resource record.",                                                                    // GMX
		"553 5.3.0 alph1 DNSBL:RBL 521< 192.0.2.1 >_is_blocked.For assistance forward this error to abuse_rbl@abuse-att.net",                                                                       // AT&T
		"554 Your access to this mail system has been rejected due to the sending MTA's poor reputation.",                                                                                          // Cisco
		"550 5.7.0 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1 - your IP is on our dnsbl",                                                                                           // Proofpoint
		"550 5.7.1 Your host [2001:db8::1] is blacklisted here",
		"550 No RDNS entry for 192.0.2.1, have a valid PTR record first",
	} {
		r, err := readReply(t, reply+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []smtpclient.Stage{smtpclient.AtGreeting, smtpclient.AtHello, smtpclient.AtMail, smtpclient.AtRcpt, smtpclient.AtData, smtpclient.AtEnd} {
			if o := judge(s, r); o.Action != mail.Deferred || o.Scope != mail.ScopeSite || !o.Ours {
				t.Errorf("%s %s: %+v", s, reply, o)
			}
		}
	}
}

// TestNotTheSource: refusals that speak of the message, of its sender or of the
// recipient, though addresses and lists occur in them.
func TestNotTheSource(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		"550 5.1.1 <a@example.net>: Recipient address rejected: User unknown in virtual mailbox table",
		"550-5.7.1 [192.0.2.1      19] Gmail has detected that this message is likely unsolicited mail.\r\n550-5.7.1 To reduce the amount of spam sent to Gmail, this message has been\r\n550 5.7.1 blocked. Please visit https://support.google.com/mail/?p=UnsolicitedMessageError",
		"550-5.7.26 Unauthenticated email from example.org is not accepted due to domain's DMARC policy.\r\n550 5.7.26 Please contact the administrator of example.org domain",
		"550 5.7.1 Our system has detected that this message is suspicious due to the very low reputation of the sending domain.",
		"550 5.7.1 Your email was rejected due to having a domain present in the Spamhaus DBL -- please visit https://www.spamhaus.org/lookup/", // iCloud
		"554 5.7.1 Message contains a URL listed by multi.surbl.org",
		"554 5.7.1 Message blocked: URL http://192.0.2.1/ is listed",
		"550 5.7.1 <sender@example.org>: Sender address rejected: Access denied",
		"550 5.7.1 Mail from this sender is blocked by the recipient's block list",
		"552 5.2.2 Mailbox full",
		"550 5.7.1 relaying denied",
		"554 5.7.1 <a@example.net>: Relay access denied",
		"550 5.4.1 Recipient address rejected: Access denied. [DB5EUR01FT011.eop-EUR01.prod.protection.outlook.com 2024-01-01T10:00:00.000Z 08DC0A]", // Microsoft 365: no such user
		"550 5.7.509 Access denied, sending domain example.org does not pass DMARC verification",
		"550 5.7.1 virus found in attachment, blocked",
		"550 5.1.0 your message was refused",
		"550 Administrative prohibition",
		"554 5.7.1 Spam detected by our content filter",
	} {
		r, err := readReply(t, reply+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []smtpclient.Stage{smtpclient.AtRcpt, smtpclient.AtEnd} {
			if o := judge(s, r); o.Action != mail.Failed || o.Ours {
				t.Errorf("%s %s: %+v", s, reply, o)
			}
		}
	}
}

// TestThrottledSource: the same, said for a while.
func TestThrottledSource(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]bool{
		"421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address.":    true,
		"451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)": true,
		"450 4.7.25 Client host rejected: cannot find your reverse hostname, [192.0.2.1]":                        true,
		"421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints - 4.16.55.1":      true,
		"451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)":                             false,
		"450 4.7.1 <a@example.net>: Recipient address rejected: Greylisted":                                      false,
		"421 4.3.2 too many connections from your IP":                                                            false,
		"450 4.1.8 <sender@example.org>: Sender address rejected: Domain not found":                              false,
	} {
		r, err := readReply(t, reply+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		if o := judge(smtpclient.AtMail, r); o.Action != mail.Deferred || o.Ours != want || want && o.Scope != mail.ScopeSite {
			t.Errorf("%s: %+v", reply, o)
		}
	}
}
