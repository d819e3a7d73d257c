package delivery

import (
	"testing"

	"mittente/internal/smtpclient"
)

// BenchmarkJudge is every refusal of every delivery.
func BenchmarkJudge(b *testing.B) {
	for name, text := range map[string]string{
		"unknown user": "550 5.1.1 <a@example.net>: Recipient address rejected: User unknown in virtual mailbox table",
		"unsolicited":  "550-5.7.1 [192.0.2.1      19] Gmail has detected that this message is likely unsolicited mail.\r\n550-5.7.1 To reduce the amount of spam sent to Gmail, this message has been\r\n550 5.7.1 blocked. Please visit https://support.google.com/mail/?p=UnsolicitedMessageError",
		"greylisted":   "450 4.2.0 <a@example.net>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/example.net.html",
	} {
		r, err := readReply(b, text+"\r\n")
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				judge(smtpclient.AtRcpt, r)
			}
		})
	}
}
