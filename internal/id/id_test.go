package id_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mittente/internal/id"
)

// TestNew_Ascends: identifiers of one process ascend strictly, whoever asks.
func TestNew_Ascends(t *testing.T) {
	before := id.Before[id.Message](time.Now())
	last := before
	for range 10_000 {
		next := id.New[id.Message]()
		if next.Compare(last) <= 0 {
			t.Fatalf("%s after %s", next, last)
		}
		last = next
	}
	if after := id.Before[id.Message](time.Now().Add(2 * time.Second)); last.Compare(after) >= 0 {
		t.Errorf("%s is not before %s", last, after)
	}
	var wg sync.WaitGroup
	made := make([][]id.Event, 4)
	for i := range made {
		wg.Go(func() {
			for range 1000 {
				made[i] = append(made[i], id.New[id.Event]())
			}
		})
	}
	wg.Wait()
	all := slices.Concat(made...)
	slices.SortFunc(all, id.Event.Compare)
	if len(slices.Compact(all)) != 4000 {
		t.Error("an identifier was made twice")
	}
}

// TestText: text and back, one text for each identifier.
func TestText(t *testing.T) {
	form := regexp.MustCompile(`^msg_[0-9a-v]{26}$`)
	for range 1000 {
		i := id.New[id.Message]()
		text := i.String()
		if !form.MatchString(text) {
			t.Fatalf("text %s", text)
		}
		for _, written := range []string{text, strings.ToUpper(text)} {
			if back, err := id.Parse[id.Message](written); back != i || err != nil {
				t.Fatalf("%s: %s, %v", written, back, err)
			}
		}
	}
}

// TestText_KeepsOrder: texts sort as identifiers do.
func TestText_KeepsOrder(t *testing.T) {
	octets := rapid.SliceOfN(rapid.Byte(), 16, 16)
	rapid.Check(t, func(t *rapid.T) {
		a, b := id.Message(octets.Draw(t, "a")), id.Message(octets.Draw(t, "b"))
		if a.IsZero() || b.IsZero() {
			return
		}
		if strings.Compare(a.String(), b.String()) != a.Compare(b) || a.Compare(b) != bytes.Compare(a[:], b[:]) {
			t.Fatalf("%s and %s", a, b)
		}
	})
}

// TestPrefixes: each kind has its own, and is no other.
func TestPrefixes(t *testing.T) {
	texts := []string{
		id.New[id.Account]().String(), id.New[id.List]().String(), id.New[id.User]().String(), id.New[id.Credential]().String(),
		id.New[id.Message]().String(), id.New[id.Recipient]().String(), id.New[id.Content]().String(), id.New[id.Event]().String(),
		id.New[id.Domain]().String(), id.New[id.Sender]().String(), id.New[id.Key]().String(),
	}
	var prefixes []string
	for _, text := range texts {
		prefix, _, _ := strings.Cut(text, "_")
		prefixes = append(prefixes, prefix)
		if _, err := id.Parse[id.Message](text); (err == nil) != (prefix == "msg") {
			t.Errorf("%s as a message: %v", text, err)
		}
	}
	if got := strings.Join(prefixes, " "); got != "acc lst usr crd msg rcp cnt evt dom snd key" {
		t.Errorf("prefixes %s", got)
	}
}

// TestParse_Refuses: anything that is not the text of a message.
func TestParse_Refuses(t *testing.T) {
	good := "msg_" + strings.Repeat("0", 24) + "10"
	if _, err := id.Parse[id.Message](good); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":            "",
		"prefix only":        "msg_",
		"no prefix":          good[4:],
		"other kind":         "rcp_" + good[4:],
		"too short":          good[:29],
		"too long":           good + "0",
		"zero value":         "msg_" + strings.Repeat("0", 26),
		"letter beyond v":    "msg_" + strings.Repeat("0", 25) + "w",
		"space":              good[:29] + " ",
		"line end inside":    good[:20] + "\r\n" + good[22:],
		"bits to spare":      good[:29] + "1",
		"padding":            good[:24] + "======",
		"outside ASCII":      good[:28] + "é",
		"long s":             "mſg_" + good[5:],
		"dotless i":          "msg_" + strings.Repeat("0", 24) + "ı",
		"hostile and long":   strings.Repeat("x", 1<<20),
		"UUID":               "msg_0190a6c2-7c1e-7cc0-8f9a-1b2c3d4e5f60",
		"white space around": " " + good,
	} {
		i, err := id.Parse[id.Message](text)
		if !errors.Is(err, id.ErrInvalid) || !i.IsZero() || len(err.Error()) > 200 {
			t.Errorf("%s: %v, %.200v", name, i, err)
		}
	}
}

// TestTime: the time is in the identifier, to the millisecond.
func TestTime(t *testing.T) {
	for _, at := range []time.Time{time.UnixMilli(0), time.UnixMilli(1), time.Date(2026, 11, 2, 10, 0, 0, 123e6, time.UTC), time.UnixMilli(1<<48 - 1)} {
		if got := id.Before[id.Event](at).Time(); !got.Equal(at) {
			t.Errorf("%v: %v", at, got)
		}
	}
	if !id.Before[id.Event](time.Unix(-1, 0)).IsZero() {
		t.Error("before 1970")
	}
	if got := time.Since(id.New[id.Event]().Time()); got < -time.Second || got > time.Minute {
		t.Errorf("made %v ago", got)
	}
}

// TestJSON: the zero value is an empty text; another kind is an error.
func TestJSON(t *testing.T) {
	type doc struct {
		ID   id.User `json:"id"`
		None id.User `json:"none,omitzero"`
	}
	want := doc{ID: id.New[id.User]()}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `{"id":"`+want.ID.String()+`"}` {
		t.Fatalf("%s, %v", text, err)
	}
	got := doc{}
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	got = want
	if err := json.Unmarshal([]byte(`{"id":""}`), &got); err != nil || !got.ID.IsZero() {
		t.Errorf("empty: %+v, %v", got, err)
	}
	got = want
	if err := json.Unmarshal([]byte(`{"id":"`+id.New[id.Key]().String()+`"}`), &got); !errors.Is(err, id.ErrInvalid) || got != want {
		t.Errorf("other kind: %+v, %v", got, err)
	}
}

// TestStorage: 16 octets, or NULL for none.
func TestStorage(t *testing.T) {
	i := id.New[id.Domain]()
	value, err := i.Value()
	octets, ok := value.([]byte)
	if err != nil || !ok || !bytes.Equal(octets, i[:]) {
		t.Fatalf("%v, %v", value, err)
	}
	var back id.Domain
	if err := back.Scan(octets); err != nil || back != i {
		t.Errorf("%s, %v", back, err)
	}
	octets[0]++
	if back != i {
		t.Error("the identifier shares its octets with the driver")
	}
	if err := back.Scan(nil); err != nil || !back.IsZero() {
		t.Errorf("NULL: %s, %v", back, err)
	}
	if value, err := (id.Domain{}).Value(); value != nil || err != nil {
		t.Errorf("zero value: %v, %v", value, err)
	}
	for _, wrong := range []any{[]byte{1}, i.String(), int64(1), make([]byte, 17)} {
		if err := back.Scan(wrong); !errors.Is(err, id.ErrInvalid) {
			t.Errorf("%T: %v", wrong, err)
		}
	}
}

// FuzzParse: what is accepted is the one text of its identifier.
func FuzzParse(f *testing.F) {
	f.Add("msg_" + strings.Repeat("0", 24) + "10")
	f.Add("MSG_" + strings.Repeat("V", 25) + "S")
	f.Add("msg_" + strings.Repeat("0", 26))
	f.Fuzz(func(t *testing.T, text string) {
		i, err := id.Parse[id.Message](text)
		if err != nil {
			return
		}
		if i.String() != strings.ToLower(text) {
			t.Errorf("%q is %s", text, i)
		}
	})
}

// BenchmarkNew makes the names of a recipient.
func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		id.New[id.Recipient]()
	}
}

// BenchmarkString is every log line.
func BenchmarkString(b *testing.B) {
	b.ReportAllocs()
	i := id.New[id.Recipient]()
	for b.Loop() {
		_ = i.String()
	}
}
