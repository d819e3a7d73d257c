package message

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"mittente/internal/mail"
)

func header(tb testing.TB, lines ...string) Header {
	tb.Helper()
	h, _, err := ReadHeader(strings.NewReader(strings.Join(lines, "\r\n")+"\r\n\r\n"), 0)
	if err != nil {
		tb.Fatalf("ReadHeader: %v", err)
	}
	return h
}

func texts(list []mail.Address) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

// TestS20_FromAccepted: what programs really write, and the mailboxes it names.
func TestS20_FromAccepted(t *testing.T) {
	for _, c := range []struct{ from, want string }{
		{"a@b.example", "a@b.example"},
		{"<a@b.example>", "a@b.example"},
		{"< a@b.example >", "a@b.example"},
		{"Anna <a@b.example>", "a@b.example"},
		{"Anna<a@b.example>", "a@b.example"},
		{"Anna  \t B. Rossi   <a@b.example>", "a@b.example"},
		{"Acme Inc. <a@b.example>", "a@b.example"},
		{`"Rossi, Anna" <a@b.example>`, "a@b.example"},
		{`"" <a@b.example>`, "a@b.example"},
		{`"Anna \"la bella\" Rossi" <a@b.example>`, "a@b.example"},
		{`"a@b.example" <a@b.example>`, "a@b.example"},
		{`"visitor@other.example" <a@b.example>`, "a@b.example"}, // a name is a name
		{`"Acme <a@b.example>" <A@B.example>`, "A@b.example"},
		{`"A <3 B" <a@b.example>`, "a@b.example"},
		{"\"Anna Maria\r\n Rossi\" <a@b.example>, (the\r\n shop) c@d.example", "a@b.example c@d.example"}, // folded where many fold
		{"a@b.example (Anna)", "a@b.example"},
		{"(Anna) a@b.example", "a@b.example"},
		{"Anna (Acme, Roma) <a@b.example> (ufficio)", "a@b.example"},
		{"a@b.example, c@d.example", "a@b.example c@d.example"},
		{"Anna <a@b.example>,\"C\" <c@d.example>\t,e@f.example", "a@b.example c@d.example e@f.example"},
		{"\r\n a@b.example", "a@b.example"},
		{"Anna\r\n\t<a@b.example>,\r\n c@d.example", "a@b.example c@d.example"},
		{"=?utf-8?q?Societ=C3=A0?= <a@b.example>", "a@b.example"},
		{"=?UTF-8?B?U29jaWV0w6A=?= =?iso-8859-1?q?=E0?= <a@b.example>", "a@b.example"},
		{"=?utf-8?Q?Mario Rossi?= <a@b.example>", "a@b.example"},
		{"=?windows-1252?q?L=92Aquila?= <a@b.example>", "a@b.example"},
		{"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?= <a@b.example>", "a@b.example"},
		{"=?x-unknown?q?caf=e9?= <a@b.example>", "a@b.example"},
		{"=?utf-8?q?visitor=40other.example?= <a@b.example>", "a@b.example"},
		{"=?utf-8?q?Acme=2C_a=40b.example?= <a@b.example>", "a@b.example"},
		{"Società <a@b.example>", "a@b.example"},
		{"a+tag@b.example", "a+tag@b.example"},
		{`"john doe"@b.example`, `"john doe"@b.example`},
		{`X <"john..doe."@b.example>`, `"john..doe."@b.example`},
		{"a@bücher.example", "a@xn--bcher-kva.example"},
		{"a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example"},
		{"ñandú@b.example", "ñandú@b.example"},
		{"o'brien@b.example", "o'brien@b.example"},
		{"a=?b@b.example", ""}, // begins like an encoded word
	} {
		h := header(t, "From: "+c.from)
		from, sender, err := h.Senders()
		if c.want == "" {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v %v", c.from, from, err)
			}
			continue
		}
		if got := strings.Join(texts(from), " "); err != nil || sender != nil || got != c.want {
			t.Errorf("From: %s\ngot  %s, %v\nwant %s", c.from, got, err, c.want)
		}
	}
}

// TestS20_FromRefused: whatever some mail program could show as another's From.
func TestS20_FromRefused(t *testing.T) {
	b64 := "PGJvc3NAYmFuay5leGFtcGxlPg==" // <boss@bank.example>
	for name, from := range map[string]string{
		"nothing":                      "",
		"white space":                  "  \t ",
		"name alone":                   "Anna",
		"no domain":                    "root (Cron Daemon)",
		"one label":                    "root@localhost",
		"empty brackets":               "Anna <>",
		"open bracket":                 "Anna <a@b.example",
		"closing bracket alone":        "Anna a@b.example>",
		"no brackets":                  "Anna a@b.example",
		"two without comma":            "boss@bank.example a@b.example",
		"address as bare name":         "boss@bank.example <a@b.example>",
		"two brackets":                 "<boss@bank.example> <a@b.example>",
		"brackets in brackets":         "<<a@b.example>>",
		"text after brackets":          "<a@b.example> Anna",
		"semicolon":                    "a@b.example; boss@bank.example",
		"semicolon at end":             "a@b.example;",
		"comma at end":                 "a@b.example,",
		"comma first":                  ",a@b.example",
		"two commas":                   "a@b.example,,c@d.example",
		"list in brackets":             "<a@b.example,boss@bank.example>",
		"group":                        "Bank: a@b.example;",
		"empty group":                  "undisclosed: ;",
		"group in quotes":              `"boss@bank.example": a@b.example;`,
		"route":                        "<@bank.example,@c.example:a@b.example>",
		"route of one":                 "<@bank.example:a@b.example>",
		"mailto":                       "<mailto:a@b.example>",
		"literal":                      "a@[192.0.2.1]",
		"literal of IPv6":              "a@[IPv6:2001:db8::1]",
		"address":                      "a@192.0.2.1",
		"comment before @":             "boss(@bank.example)@b.example",
		"comment after @":              "a@(boss)b.example",
		"comment in the domain":        "a@bank(.example).b.example",
		"comment in brackets":          "<(boss)a@b.example>",
		"comment with an address":      "(boss@bank.example) a@b.example",
		"comment with brackets":        "a@b.example (<boss>)",
		"comment with a quote":         `a@b.example (")`,
		"comment in comment":           "a@b.example (a (b))",
		"comment not closed":           "a@b.example (Anna",
		"comment closed twice":         "a@b.example (Anna))",
		"space before @":               "boss @b.example",
		"space after @":                "a@ b.example",
		"space in the domain":          "a@bank.example .b.example",
		"fold in the address":          "boss@bank\r\n .example",
		"two @":                        "boss@bank.example@b.example",
		"dot first":                    ".a@b.example",
		"two dots":                     "a..b@b.example",
		"dot at end":                   "a@b.example.",
		"dots in the domain":           "a@b..example",
		"bad domain":                   "a@-b.example",
		"@ in quotes":                  `"boss@bank.example"@b.example`,
		"bracket in quotes":            `"boss>"@b.example`,
		"comma in quotes":              `"boss,"@b.example`,
		"backslash in quotes":          `"bo\ss"@b.example`,
		"empty quotes":                 `""@b.example`,
		"quote and atom":               `"boss".x@b.example`,
		"quote not closed":             `"Anna <a@b.example>`,
		"backslash last":               `"Anna\`,
		"words run together":           `"boss""a"<a@b.example>`,
		"encoded local-part":           "=?utf-8?q?boss=40bank.example=3E?=@b.example",
		"encoded local-part in quotes": `"=?utf-8?q?boss?="@b.example`,
		"mailsploit":                   "=?utf-8?b?Ym9zc0BiYW5r?==?utf-8?Q?=00?==?utf-8?b?Ym9zcw==?=@b.example",
		"NUL in a name":                "=?utf-8?q?boss=40bank.example=00?= <a@b.example>",
		"LF in a name":                 "=?utf-8?q?boss=40bank.example=0A?= <a@b.example>",
		"encoded brackets":             "=?utf-8?b?" + b64 + "?= <a@b.example>",
		"encoded brackets in quotes":   `"=?utf-8?b?` + b64 + `?=" <a@b.example>`,
		"encoded brackets in comment":  "a@b.example (=?utf-8?b?" + b64 + "?=)",
		"encoded without padding":      "=?utf-8?b?PGJvc3NAYmFuay5leGFtcGxlPiE?= <a@b.example>",
		"encoded in EBCDIC":            "=?cp500?b?TIKWoqJ8gYGVkkuFp4GUl5OFbg==?= <a@b.example>",
		"encoded in UTF-7":             "=?utf-7?q?+ADw-boss+AEA-bank.example+AD4-?= <a@b.example>",
		"encoded in UTF-16":            "=?utf-16be?b?ADwAYgBAAGIALgBjAG8APg==?= <a@b.example>",
		"encoded with a language":      "=?utf-8*en?b?" + b64 + "?= <a@b.example>",
		"encoded in an unknown set":    "=?x-mac-secret?b?" + b64 + "?= <a@b.example>",
		"encoded in ISO-2022-JP":       "=?iso-2022-jp?b?" + b64 + "?= <a@b.example>",
		"encoded list":                 "=?utf-8?q?boss=40bank.example=2C?= <a@b.example>",
		"brackets in a quoted name":    `"<boss@bank.example>" <a@b.example>`,
		"escaped quote in a name":      `"x\" <boss@bank.example>, \"y" <a@b.example>`,
		"second of two":                `A <a@b.example>, "<boss@bank.example>" <c@d.example>`,
		"blank line":                   "a@b.example,\r\n \r\n boss@bank.example",
		"torn quotes":                  "\"x\r\n boss@bank.example, y\" <a@b.example>",
		"torn quotes, a name behind":   "\"A\r\n B\" <a@b.example>, \"boss@bank.example\" <a@b.example>",
		"torn comment, a name behind":  "(x\r\n y) a@b.example, \"boss@bank.example\" <a@b.example>",
		"torn local-part":              "\"a\r\n b\"@b.example",
		"control character":            "a\x01@b.example",
		"escape":                       "\x1b[2J <a@b.example>",
		"DEL":                          "a\x7f@b.example",
		"not UTF-8":                    "Societ\xe0 <a@b.example>",
		"overlong":                     "\xc0\xbcboss@bank.example\xc0\xbe <a@b.example>",
		"bidi override in local-part":  "a\u202e@b.example",
		"no-break space":               "boss@bank.example\u00a0<a@b.example>",
		"zero width space in domain":   "a@b\u200b.example",
	} {
		got, _, err := header(t, "From:"+from).Senders()
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: From:%s: got %v, %v", name, from, texts(got), err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\r\n\x00\x1b") {
			t.Errorf("%s: the error is not one clean line: %q", name, err)
		}
		if _, _, err := header(t, "From: a@b.example", "Sender:"+from).Senders(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Sender:%s: got %v", name, from, err)
		}
	}
}

// TestS20_Fields: which fields count.
func TestS20_Fields(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		from  []string
		send  []string
		err   error
	}{
		"none":               {[]string{"Subject: x"}, nil, nil, ErrNoFrom},
		"none but Sender":    {[]string{"Sender: s@b.example"}, nil, []string{"s@b.example"}, ErrNoFrom},
		"odd case":           {[]string{"fROM: a@b.example"}, []string{"a@b.example"}, nil, nil},
		"both":               {[]string{"SENDER: s@b.example", "From: a@b.example"}, []string{"a@b.example"}, []string{"s@b.example"}, nil},
		"Resent is not From": {[]string{"From: a@b.example", "Resent-From: x", "Resent-Sender: y"}, []string{"a@b.example"}, nil, nil},
		"two From":           {[]string{"From: a@b.example", "FROM: a@b.example"}, nil, nil, ErrMultipleFrom},
		"second one empty":   {[]string{"From: a@b.example", "from:"}, nil, nil, ErrMultipleFrom},
		"two Sender":         {[]string{"From: a@b.example", "Sender: a@b.example", "sender: a@b.example"}, nil, nil, ErrMalformed},
		"Sender of two":      {[]string{"From: a@b.example", "Sender: a@b.example, c@d.example"}, nil, nil, ErrMalformed},
		"Sender empty":       {[]string{"From: a@b.example", "Sender:"}, nil, nil, ErrMalformed},
		"From in a value":    {[]string{"From: a@b.example", "X: y", "\tFrom: boss@bank.example"}, []string{"a@b.example"}, nil, nil},
	} {
		from, sender, err := header(t, c.lines...).Senders()
		if !slices.Equal(texts(from), c.from) || !slices.Equal(texts(sender), c.send) || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v, %v", name, texts(from), texts(sender), err)
		}
	}
}

// TestS20_Bounds: how much of a From is looked at.
func TestS20_Bounds(t *testing.T) {
	many := strings.Repeat("a@b.example,\r\n ", maxMailboxes)
	if _, _, err := header(t, "From: "+many+"a@b.example").Senders(); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d mailboxes: %v", maxMailboxes+1, err)
	}
	if from, _, err := header(t, "From: "+strings.TrimSuffix(many, ",\r\n ")).Senders(); err != nil || len(from) != maxMailboxes {
		t.Errorf("%d mailboxes: %d, %v", maxMailboxes, len(from), err)
	}
	if _, _, err := header(t, `From: "`+strings.Repeat("x", maxSenders)+`" <a@b.example>`).Senders(); !errors.Is(err, ErrMalformed) {
		t.Errorf("long name: %v", err)
	}
	_, _, err := header(t, "From: "+strings.Repeat("x", 60_000)+"@b.example").Senders()
	if !errors.Is(err, ErrMalformed) || len(err.Error()) > 300 {
		t.Errorf("long local-part: %.400v", err)
	}
}

// An address that Complete would put in From must be one that Senders takes there.
func TestCheckFrom(t *testing.T) {
	for local, ok := range map[string]bool{
		"shop":                            true,
		"shop+tag":                        true,
		`"a shop"`:                        true,
		"größe":                           true,
		`"<boss@bank.example>"`:           false,
		`"boss@bank.example,"`:            false,
		"=?utf-8?q?boss=40bank.example?=": false,
		"a\u202eb":                        false,
	} {
		a, err := mail.ParseAddress(local + "@b.example")
		if err != nil {
			t.Fatal(err)
		}
		err = CheckFrom(a)
		if ok != (err == nil) || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", a, err)
		}
	}
}
