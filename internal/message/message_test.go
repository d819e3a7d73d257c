package message

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"mittente/internal/mail"
)

// TestReadHeader: where the header section ends, and that nothing is lost or changed.
func TestReadHeader(t *testing.T) {
	long := "X-Long: " + strings.Repeat("y", 10_000) + "\r\n"
	for name, c := range map[string]struct{ content, header, body string }{
		"usual":                     {"A: 1\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\nB: 2\r\n", "body\r\n"},
		"nothing at all":            {"", "", ""},
		"body only":                 {"\r\nbody\r\n", "", "body\r\n"},
		"empty line only":           {"\r\n", "", ""},
		"header only":               {"A: 1\r\n", "A: 1\r\n", ""},
		"empty body":                {"A: 1\r\n\r\n", "A: 1\r\n", ""},
		"body begins empty":         {"A: 1\r\n\r\n\r\n\r\nx", "A: 1\r\n", "\r\n\r\nx"},
		"body looks like a header":  {"\r\nFrom: boss@bank.example\r\n\r\n", "", "From: boss@bank.example\r\n\r\n"},
		"folded":                    {"A: 1\r\n 2\r\n\t3\r\nB:\r\n\r\n", "A: 1\r\n 2\r\n\t3\r\nB:\r\n", ""},
		"blank continuation":        {"A: 1\r\n \t \r\nB: 2\r\n\r\n", "A: 1\r\n \t \r\nB: 2\r\n", ""},
		"eight bits in values":      {"A: \xe8\xff\r\n\r\n\x00\r", "A: \xe8\xff\r\n", "\x00\r"},
		"odd but legal names":       {"a!b#c: 1\r\n-: 2\r\n\r\n", "a!b#c: 1\r\n-: 2\r\n", ""},
		"no space after the colon":  {"A:1\r\nB::\r\n\r\n", "A:1\r\nB::\r\n", ""},
		"line over 998 octets":      {long + "\r\nx", long, "x"},
		"large, body in one buffer": {strings.Repeat(long, 20) + "\r\n" + long, strings.Repeat(long, 20), long},
	} {
		for _, r := range []io.Reader{
			strings.NewReader(c.content), iotest.OneByteReader(strings.NewReader(c.content)), iotest.DataErrReader(strings.NewReader(c.content)),
		} {
			h, rest, err := ReadHeader(r, 0)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			body, err := io.ReadAll(rest)
			if string(h.Raw()) != c.header || string(body) != c.body || err != nil {
				t.Errorf("%s: header %.80q, body %.80q, %v", name, h.Raw(), body, err)
			}
			var joined strings.Builder
			for f := range h.Fields() {
				joined.Write(f.Raw())
			}
			if joined.String() != c.header {
				t.Errorf("%s: the fields together are %.80q", name, joined.String())
			}
		}
	}
}

// TestS20_HeaderRefused: what only looks like a header, or hides a From from some.
func TestS20_HeaderRefused(t *testing.T) {
	for name, content := range map[string]string{
		"continuation first":         " From: boss@bank.example\r\nFrom: a@b.example\r\n\r\n",
		"tab first":                  "\tx\r\nFrom: a@b.example\r\n\r\n",
		"space before the colon":     "From : boss@bank.example\r\n\r\n",
		"tab before the colon":       "From\t: boss@bank.example\r\n\r\n",
		"the same for others":        "From: a@b.example\r\nSubject : x\r\n\r\n",
		"fold before the colon":      "From\r\n : boss@bank.example\r\n\r\n",
		"no colon":                   "From boss@bank.example\r\n\r\n",
		"mbox line":                  "From boss@bank.example Mon Nov  2 10:00:00 2026\r\nFrom: a@b.example\r\n\r\n",
		"mbox line quoted":           ">From boss@bank.example Mon Nov  2 10:00:00 2026\r\n\r\n",
		"text instead of a header":   "Hello,\r\n\r\nhow are you?\r\n",
		"body without an empty line": "From: a@b.example\r\nHello\r\n",
		"no name":                    ": boss@bank.example\r\n\r\n",
		"bytes outside ASCII":        "Fr\xd0\xbem: boss@bank.example\r\n\r\n",
		"byte order mark":            "\xef\xbb\xbfFrom: boss@bank.example\r\n\r\n",
		"no-break space":             "From\xc2\xa0: boss@bank.example\r\n\r\n",
		"soft hyphen":                "Fr\xc2\xadom: boss@bank.example\r\n\r\n",
		"control in the name":        "Fr\x08om: boss@bank.example\r\n\r\n",
		"DEL in the name":            "From\x7f: boss@bank.example\r\n\r\n",
		"NUL in the name":            "From\x00: boss@bank.example\r\n\r\n",
		"NUL in a value":             "X: a\x00b\r\n\r\n",
		"lone LF":                    "X: a\nFrom: boss@bank.example\r\n\r\n",
		"lone CR":                    "X: a\rFrom: boss@bank.example\r\n\r\n",
		"lone CR at the end":         "X: a\r\r\n\r\n",
		"LF ends the section":        "X: a\r\n\nFrom: boss@bank.example\r\n\r\n",
		"LF ends a line":             "X: a\n\r\n",
		"no end of line":             "From: a@b.example",
		"CR and no more":             "From: a@b.example\r",
	} {
		h, rest, err := ReadHeader(strings.NewReader(content), 0)
		if !errors.Is(err, ErrMalformed) || h.Raw() != nil || rest == nil {
			t.Errorf("%s: %q, %v", name, h.Raw(), err)
		}
		if _, _, err := ReadHeader(iotest.OneByteReader(strings.NewReader(content)), 0); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s, octet by octet: %v", name, err)
		}
	}
}

// TestReadHeader_Bounds: size, number of fields and number of hops.
func TestReadHeader_Bounds(t *testing.T) {
	field := "X: 123456789\r\n" // 14 octets
	for name, c := range map[string]struct {
		content string
		limit   int
		want    error
	}{
		"at the limit":                  {strings.Repeat(field, 10) + "\r\n", 140, nil},
		"over the limit":                {strings.Repeat(field, 10) + "\r\n", 139, ErrTooLarge},
		"over the limit without an end": {strings.Repeat("x", 1<<21), 0, ErrTooLarge},
		"one line up to the limit":      {"X: " + strings.Repeat("y", MaxHeader-5) + "\r\n\r\n", 0, nil},
		"one line over the limit":       {"X: " + strings.Repeat("y", MaxHeader-4) + "\r\n\r\n", 0, ErrTooLarge},
		"body does not count":           {field + "\r\n" + strings.Repeat("x", 1<<21), 14, nil},
		"many fields":                   {strings.Repeat("a:\r\n", maxFields) + "\r\n", 0, nil},
		"too many fields":               {strings.Repeat("a:\r\n", maxFields+1) + "\r\n", 0, ErrTooLarge},
		"many continuation lines":       {"a:\r\n" + strings.Repeat(" b\r\n", 100_000) + "\r\n", 1 << 20, nil},
		"hops":                          {strings.Repeat("rEceived: x\r\n", maxReceived) + "\r\n", 0, nil},
		"too many hops":                 {strings.Repeat("Received: x\r\n", maxReceived+1) + "\r\n", 0, ErrLoop},
		"hops in the body":              {field + "\r\n" + strings.Repeat("Received: x\r\n", 200), 0, nil},
	} {
		_, rest, err := ReadHeader(strings.NewReader(c.content), c.limit)
		if !errors.Is(err, c.want) || rest == nil {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// TestReadHeader_ReaderFails: the reader's error comes through, in the header or in the body.
func TestReadHeader_ReaderFails(t *testing.T) {
	broken := iotest.ErrReader(os.ErrDeadlineExceeded)
	if _, _, err := ReadHeader(io.MultiReader(strings.NewReader("A: 1\r\n"), broken), 0); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("in the header: %v", err)
	}
	_, rest, err := ReadHeader(io.MultiReader(strings.NewReader("A: 1\r\n\r\nbo"), broken), 0)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(rest); string(body) != "bo" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("in the body: %q, %v", body, err)
	}
	if _, _, err := ReadHeader(readerFunc(func([]byte) (int, error) { return 0, nil }), 0); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("no progress: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestReadHeader_RestDrains: after an error the reader can still be read to its end.
func TestReadHeader_RestDrains(t *testing.T) {
	_, rest, err := ReadHeader(strings.NewReader("bad\r\n"+strings.Repeat("x", 100_000)), 0)
	if !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, rest); n == 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestHeader_Get: names in any case, values unfolded.
func TestHeader_Get(t *testing.T) {
	h := header(t, "X-One:  a\tb  ", "x-ONE: second", "Folded: a", "\t b", " c ", "Empty:", "Message-ID:\t<1@b.example> ")
	for name, want := range map[string]string{"x-one": "a\tb", "FOLDED": "a\t b c", "empty": "", "Message-Id": "<1@b.example>"} {
		if got, ok := h.Get(name); got != want || !ok {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	if got, ok := h.Get("X"); ok {
		t.Errorf("X: %q", got)
	}
	if got := h.MessageID(); got != "<1@b.example>" {
		t.Errorf("Message-ID %q", got)
	}
	if got := (Header{}).MessageID(); got != "" {
		t.Errorf("Message-ID of no header: %q", got)
	}
	var names []string
	for f := range h.Fields() {
		if names = append(names, f.Name()); len(names) == 3 {
			break
		}
	}
	if !slices.Equal(names, []string{"X-One", "x-ONE", "Folded"}) {
		t.Errorf("names %v", names)
	}
}

// TestHeader_Subject: the text of the queue page, whatever was sent.
func TestHeader_Subject(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"Ciao", "Ciao"},
		{"", ""},
		{"=?utf-8?q?Il_suo_ordine_=C3=A8_in_viaggio?=", "Il suo ordine è in viaggio"},
		{"=?UTF-8?B?w6g=?=\r\n =?utf-8?q?=C3=A8?=", "èè"},
		{"Re: =?iso-8859-1?Q?perch=E9?= no", "Re: perché no"},
		{"=?windows-1252?q?L=92Aquila?=", "L’Aquila"},
		{"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "日本"},
		{"=?utf-8*it?q?=C3=A8?=", "è"},
		{"=?x-nobody?q?abc?=", "=?x-nobody?q?abc?="},
		{"=?iso-2022-kr?q?abc?=", "=?iso-2022-kr?q?abc?="},
		{"=?utf-8?b?!!!?=", "=?utf-8?b?!!!?="},
		{"=?utf-8?q?a=00b=0D=0Ac=1B[2J=07?=", "ab c[2J"},
		{"raw \xe8 latin", "raw \uFFFD latin"},
		{"raw è UTF-8", "raw è UTF-8"},
		{"folded\r\n  twice\r\n\tover", "folded  twice over"},
		{"=?utf-8?q?=FF=FE?=", "\uFFFD\uFFFD"},
		{strings.Repeat("è", 300), strings.Repeat("è", 255)},
		{strings.Repeat("=?utf-8?q?=C3=A8?=\r\n ", 300) + "x", strings.Repeat("è", 255)},
		{strings.Repeat("x", 100_000), strings.Repeat("x", 255)},
	} {
		if got := header(t, "Subject: "+c.raw).Subject(); got != c.want {
			t.Errorf("%.80q: got %.300q, want %.300q", c.raw, got, c.want)
		}
	}
	if got := header(t, "To: a@b.example").Subject(); got != "" {
		t.Errorf("no Subject: %q", got)
	}
}

// naiveFrom counts From fields in the simplest way there is.
func naiveFrom(section string) int {
	n := 0
	for line := range strings.SplitSeq(section, "\r\n") {
		name, _, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(strings.TrimSpace(name), "from") && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
			n++
		}
	}
	return n
}

func headerSeeds() []string {
	return []string{
		"From: a@b.example\r\n\r\nbody", "From: a@b.example\r\nfrom: c@d.example\r\n\r\n", "From : a@b.example\r\n\r\n", "\r\nbody",
		" x\r\n\r\n", "A: b\r\n c\r\nFrom:\r\n a@b.example\r\n\r\n", "A: b\r\n \r\nFrom: a@b.example\r\n\r\n", "From\r\n: a@b.example\r\n\r\n",
		"X: \r\nBcc: a@b.example\r\n\tb@c.example\r\nImportance: low\r\n\r\n", "Fr\xc3\xb6m: x\r\n\r\n", "A: 1\nFrom: b\r\n\r\n", "",
	}
}

// FuzzReadHeader: nothing is lost; the fields are those that a naive scanner sees;
// and what Complete makes is a header section again, with the same From.
func FuzzReadHeader(f *testing.F) {
	for _, seed := range headerSeeds() {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		h, rest, err := ReadHeader(strings.NewReader(string(content)), 4096)
		if err != nil {
			return
		}
		body, err := io.ReadAll(rest)
		if err != nil {
			t.Fatal(err)
		}
		whole := string(h.Raw()) + string(body)
		if whole != string(content) && string(h.Raw())+"\r\n"+string(body) != string(content) {
			t.Fatalf("%q and %q is not %q", h.Raw(), body, content)
		}
		h.Subject()
		checkFrom(t, h)
	})
}

// checkFrom holds Senders against the naive scanner, before and after completion.
func checkFrom(t *testing.T, h Header) {
	t.Helper()
	from, _, err := h.Senders()
	n := naiveFrom(string(h.Raw()))
	if err == nil && n != 1 || errors.Is(err, ErrNoFrom) && n != 0 || errors.Is(err, ErrMultipleFrom) && n < 2 {
		t.Fatalf("%d From fields by the naive scanner: %v in %q", n, err, h.Raw())
	}
	c := completion()
	done := h.Complete(c)
	again, _, readErr := ReadHeader(strings.NewReader(string(done)+"\r\n"), 0)
	if readErr != nil {
		t.Fatalf("completed to %q: %v", done, readErr)
	}
	switch {
	case errors.Is(err, ErrNoFrom):
		from = []mail.Address{c.From.Address}
	case err != nil:
		return
	}
	if second, _, err := again.Senders(); err != nil || !slices.Equal(second, from) {
		t.Fatalf("From was %v, is %v, %v", from, second, err)
	}
}
