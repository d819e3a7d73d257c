package message

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mittente/internal/mail"
)

func completion() Completion {
	from, err := mail.ParseReversePath("anna@firma.example")
	if err != nil {
		panic(err)
	}
	return Completion{
		Received:  Trace{Helo: "php.firma.example", Authenticated: true, TLS: "TLS1.3 TLS_AES_128_GCM_SHA256", ID: "msg_x"},
		From:      from,
		Hostname:  "relay.example",
		Now:       time.Date(2026, 11, 2, 10, 0, 0, 0, time.FixedZone("", 3600)),
		MessageID: "<msg_x@relay.example>",
	}
}

const wantTrace = "Received: from php.firma.example\r\n\tby relay.example with ESMTPSA id msg_x\r\n" +
	"\t(TLS1.3 TLS_AES_128_GCM_SHA256);\r\n\tMon, 2 Nov 2026 10:00:00 +0100\r\n"

func section(lines ...string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// TestComplete: what is added, what is taken out, and that the rest stays.
func TestComplete(t *testing.T) {
	const (
		date = "Date: Mon, 2 Nov 2026 10:00:00 +0100"
		mid  = "Message-ID: <msg_x@relay.example>"
		from = "From: anna@firma.example"
	)
	for name, c := range map[string]struct{ in, want []string }{
		"no header":          {nil, []string{date, mid, from}},
		"complete already":   {[]string{"date: x", "MESSAGE-ID: y", "fRom: a@b.example"}, []string{"date: x", "MESSAGE-ID: y", "fRom: a@b.example"}},
		"no Date":            {[]string{"From: a@b.example", "Message-ID: <1@b>"}, []string{"From: a@b.example", "Message-ID: <1@b>", date}},
		"no Message-ID":      {[]string{"From: a@b.example", "Date: x"}, []string{"From: a@b.example", "Date: x", mid}},
		"no From":            {[]string{"Date: x", "Message-ID: <1@b>"}, []string{"Date: x", "Message-ID: <1@b>", from}},
		"Resent is not it":   {[]string{"Resent-Date: x", "Resent-Message-ID: y", "Resent-From: z"}, []string{"Resent-Date: x", "Resent-Message-ID: y", "Resent-From: z", date, mid, from}},
		"empty ones stay":    {[]string{"From: a@b.example", "Date:", "Message-ID:"}, []string{"From: a@b.example", "Date:", "Message-ID:"}},
		"older trace":        {[]string{"Received: x", "Date: x", "From: y", "Message-ID: z"}, []string{"Received: x", "Date: x", "From: y", "Message-ID: z"}},
		"Bcc":                {[]string{"Bcc: a@b.example,", "\tc@d.example", "Date: x", "bCC:", "Resent-Bcc: e@f.example", "From: y", "Message-ID: z"}, []string{"Date: x", "From: y", "Message-ID: z"}},
		"odd bytes":          {[]string{"X:\t a  \xff", " \t", "  b ", "Date:x", "From:y", "Message-ID:z"}, []string{"X:\t a  \xff", " \t", "  b ", "Date:x", "From:y", "Message-ID:z"}},
		"priority untouched": {[]string{"Importance: high", "Date: x", "From: y", "Message-ID: z"}, []string{"Importance: high", "Date: x", "From: y", "Message-ID: z"}},
	} {
		h := header(t, c.in...)
		if len(c.in) == 0 {
			h = Header{}
		}
		if got, want := string(h.Complete(completion())), wantTrace+section(c.want...); got != want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", name, got, want)
		}
	}
}

// TestComplete_NullPath: without From and reverse-path none is made up.
func TestComplete_NullPath(t *testing.T) {
	c := completion()
	c.From, c.MessageID = mail.ReversePath{}, ""
	if got := string(header(t, "Subject: x").Complete(c)); strings.Contains(got, "\r\nFrom:") || strings.Contains(got, "Message-ID:") {
		t.Errorf("got\n%s", got)
	}
}

// TestComplete_From: the address goes as it goes on the wire.
func TestComplete_From(t *testing.T) {
	for path, want := range map[string]string{
		"a@bücher.example":    "From: a@xn--bcher-kva.example\r\n",
		`"a b"@firma.example`: "From: \"a b\"@firma.example\r\n",
		"ñ@firma.example":     "From: ñ@firma.example\r\n",
	} {
		c := completion()
		var err error
		if c.From, err = mail.ParseReversePath(path); err != nil {
			t.Fatal(err)
		}
		got := string(header(t, "Subject: x").Complete(c))
		if !strings.HasSuffix(got, want) {
			t.Errorf("%s: got\n%s", path, got)
		}
		h, _, err := ReadHeader(strings.NewReader(got), 0)
		if from, _, err2 := h.Senders(); err != nil || err2 != nil || from[0] != c.From.Address {
			t.Errorf("%s: read back %v, %v, %v", path, from, err, err2)
		}
	}
}

// TestS14_Priority: the higher of the user's and the message's own is what recipients see.
func TestS14_Priority(t *testing.T) {
	const (
		highest = "X-Priority: 1 (Highest)\r\nImportance: high\r\nX-MSMail-Priority: High\r\n"
		high    = "X-Priority: 2 (High)\r\nImportance: high\r\nX-MSMail-Priority: High\r\n"
		low     = "X-Priority: 4 (Low)\r\nImportance: low\r\nX-MSMail-Priority: Low\r\n"
		lowest  = "X-Priority: 5 (Lowest)\r\nImportance: low\r\nX-MSMail-Priority: Low\r\n"
		kept    = "kept"
	)
	for _, c := range []struct {
		own  string // the message's fields, separated by |
		user mail.Priority
		want string
	}{
		{"", 1, highest},
		{"", 2, high},
		{"", 3, ""},
		{"", 4, low},
		{"", 5, lowest},
		{"", 0, ""},
		{"", 6, ""},
		{"X-Priority: 1", 1, kept},
		{"X-Priority: 1", 5, kept},
		{"X-Priority: 2", 1, highest},
		{"X-Priority: 3", 3, kept},
		{"X-Priority: 3", 2, high},
		{"X-Priority: 3", 4, kept},
		{"X-Priority: 5", 4, low},
		{"X-Priority: 5 (Lowest)", 3, kept},
		{"x-priority:1 (Highest)", 2, kept},
		{"X-PRIORITY: 5", 1, highest},
		{"Importance: high", 1, highest},
		{"Importance: High", 2, kept},
		{"Importance: normal", 2, high},
		{"Importance: normal", 4, kept},
		{"Importance: low", 4, kept},
		{"Importance: low", 5, kept},
		{"Importance: low", 2, high},
		{"X-MSMail-Priority: High", 2, kept},
		{"X-MSMail-Priority: Low", 1, highest},
		{"X-Priority: 5|Importance: high", 2, kept},
		{"X-Priority: 5|Importance: low|X-MSMail-Priority: Low", 2, high},
		{"X-Priority: 4|x-priority: 1", 1, kept},
		{"X-Priority: 1 (Highest)|X-MSMail-Priority: High|Importance: High", 4, kept},
		{"X-Priority: urgent", 4, low},
		{"X-Priority: 0", 5, lowest},
		{"X-Priority: 6", 5, lowest},
		{"X-Priority: 11", 5, lowest},
		{"X-Priority:", 2, high},
		{"Importance: very", 2, high},
		{"X-Priority:|Importance: low", 3, kept},
		{"Priority: urgent", 2, "Priority: urgent\r\n" + high},
		{"Priority: urgent", 3, kept},
	} {
		var lines []string
		if c.own != "" {
			lines = strings.Split(c.own, "|")
		}
		want := c.want
		if want == kept {
			want = section(lines...)
		}
		base := section("From: y", "Date: x", "Message-ID: z")
		in := append(lines, "From: y", "Date: x", "Message-ID: z")
		done := completion()
		done.Priority = c.user
		got := strings.TrimPrefix(string(header(t, in...).Complete(done)), wantTrace)
		if got = strings.Replace(got, base, "", 1); got != want {
			t.Errorf("own %q, user %d:\ngot\n%s\nwant\n%s", c.own, c.user, got, want)
		}
	}
}

// TestTrace: RFC 5321 §4.4, with the words of RFC 3848 and RFC 6531.
func TestTrace(t *testing.T) {
	for _, c := range []struct {
		trace Trace
		want  string
	}{
		{Trace{Helo: "h.example", ID: "msg_x"}, "from h.example by relay.example with ESMTP id msg_x; DATE"},
		{Trace{Helo: "h.example", ID: "msg_x", Authenticated: true}, "from h.example by relay.example with ESMTPA id msg_x; DATE"},
		{Trace{Helo: "h.example", ID: "msg_x", TLS: "TLS1.2 X"}, "from h.example by relay.example with ESMTPS id msg_x (TLS1.2 X); DATE"},
		{Trace{Helo: "h", ID: "i", TLS: "T", Authenticated: true, SMTPUTF8: true}, "from h by relay.example with UTF8SMTPSA id i (T); DATE"},
		{Trace{Helo: "h", ID: "i", SMTPUTF8: true}, "from h by relay.example with UTF8SMTP id i; DATE"},
		{Trace{Helo: "", ID: "i"}, "from unknown by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "x\r\nFrom: boss@bank.example", ID: "i"}, "from unknown by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "a b", ID: "i"}, "from unknown by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "a;b", ID: "i"}, "from unknown by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "büro", ID: "i"}, "from unknown by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: strings.Repeat("a", 256), ID: "i"}, "from unknown by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "[192.0.2.1]", ID: "i"}, "from unknown by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "192.0.2.1", ID: "i"}, "from unknown by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "DESKTOP_1", ID: "i"}, "from DESKTOP_1 by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "h", ID: "i", Client: netip.MustParseAddr("192.0.2.1")}, "from h ([192.0.2.1]) by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "h", ID: "i", Client: netip.MustParseAddr("::ffff:192.0.2.1")}, "from h ([192.0.2.1]) by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "h", ID: "i", Client: netip.MustParseAddr("fe80::1%eth0")}, "from h ([IPv6:fe80::1]) by relay.example with ESMTP id i; DATE"},
		{Trace{Helo: "h", ID: "i", TLS: "a)\r\n(b\\é"}, "from h by relay.example with ESMTPS id i (ab); DATE"},
	} {
		done := completion()
		done.Received = c.trace
		out := string((Header{}).Complete(done))
		h, _, err := ReadHeader(strings.NewReader(out), 0)
		if err != nil {
			t.Fatalf("%+v: %v", c.trace, err)
		}
		got, _ := h.Get("Received")
		got = strings.ReplaceAll(got, "Mon, 2 Nov 2026 10:00:00 +0100", "DATE")
		if got = regexp.MustCompile(`\s+`).ReplaceAllString(got, " "); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// TestComplete_DisturbsNothing: whatever the header, its other fields stay, in their order.
func TestComplete_DisturbsNothing(t *testing.T) {
	names := rapid.SampledFrom([]string{"X-One", "Subject", "Bcc", "RESENT-BCC", "Received", "Date", "To", "X-Priority", "importance", "X-MSMail-Priority", "From"})
	pieces := rapid.SampledFrom([]string{" ", "\t", "a", "1", "high", "\r\n ", "\r\n\t", "\xff", "è", ":", "5"})
	rapid.Check(t, func(t *rapid.T) {
		var in, kept strings.Builder
		user := mail.Priority(rapid.IntRange(1, 5).Draw(t, "user"))
		fields := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [2]string {
			return [2]string{names.Draw(t, "name"), strings.Join(rapid.SliceOfN(pieces, 0, 6).Draw(t, "value"), "")}
		}), 0, 12).Draw(t, "fields")
		for _, f := range fields {
			in.WriteString(f[0] + ":" + f[1] + "\r\n")
		}
		h, _, err := ReadHeader(strings.NewReader(in.String()), 0)
		if err != nil {
			t.Fatal(err)
		}
		own, ok := h.Priority()
		replaced := user != 3 && (!ok || user < own)
		for f := range h.Fields() {
			name := strings.ToLower(f.Name())
			priority := strings.Contains(name, "priority") || name == "importance"
			if !strings.HasSuffix(name, "bcc") && (!priority || !replaced) {
				kept.Write(f.Raw())
			}
		}
		c := completion()
		c.Priority = user
		if got := string(h.Complete(c)); !strings.HasPrefix(got, wantTrace+kept.String()) {
			t.Fatalf("got\n%q\nwithout\n%q", got, kept.String())
		}
	})
}

func typicalContent() string {
	return section("Date: Mon, 2 Nov 2026 10:00:00 +0100", `From: "Rossi, Anna" <anna@firma.example>`, "To: Cliente <c@altra.example>",
		"Reply-To: visitatore@altra.example", "Subject: =?utf-8?q?Il_suo_ordine_=C3=A8_in_viaggio?=", "Message-ID: <4711@firma.example>",
		"MIME-Version: 1.0", `Content-Type: multipart/alternative;`, ` boundary="b1_abc"`, "X-Mailer: PHPMailer 6.9",
		"List-Unsubscribe: <https://firma.example/u/1>,", " <mailto:u@firma.example>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
		"X-Campaign: "+strings.Repeat("0123456789abcdef", 20), "X-Entity: "+strings.Repeat("0123456789abcdef", 20), "Bcc: archivio@firma.example") + "\r\n"
}

// BenchmarkHeader is what acceptance does with a header of some 1.3 KB.
func BenchmarkHeader(b *testing.B) {
	content := typicalContent()
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	c := completion()
	r := strings.NewReader(content)
	for b.Loop() {
		r.Reset(content)
		h, _, err := ReadHeader(r, 0)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := h.Senders(); err != nil {
			b.Fatal(err)
		}
		h.Subject()
		h.Complete(c)
	}
}
