package account

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mittente/internal/db"
)

// Passwords have 140 bits at least, and every character is as likely as any other.
func TestPasswordsAreStrongAndUniform(t *testing.T) {
	if bits := passwordLength * math.Log2(float64(len(alphabet))); bits < 140 {
		t.Errorf("%.1f bits", bits)
	}
	if strings.ContainsAny(alphabet, "0OoIl1") {
		t.Error("look-alikes in the alphabet")
	}
	const n = 4000
	count := map[rune]int{}
	seen := map[string]bool{}
	for range n {
		p := generatePassword(passwordLength)
		if len(p) != passwordLength || seen[p] {
			t.Fatalf("password of %d characters, seen: %t", len(p), seen[p])
		}
		seen[p] = true
		for _, r := range p {
			count[r]++
		}
	}
	// 2,000 of each are expected, standard deviation 44; a modulo bias would
	// give a quarter more to some.
	want := float64(n*passwordLength) / float64(len(alphabet))
	for _, r := range alphabet {
		if math.Abs(float64(count[r])-want) > 7*math.Sqrt(want) {
			t.Errorf("%q came %d times, expected %.0f", r, count[r], want)
		}
		delete(count, r)
	}
	if len(count) > 0 {
		t.Errorf("characters outside the alphabet: %v", count)
	}
}

// S11, S9: a password can be regenerated any number of times, and each time only the new one is good.
func TestS11_FiftyRegenerations(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	for i := range 50 {
		old := password
		password = h.regenerate(t, u.Name)
		// S9: the new one is valid at once, and the old one refused at once.
		if _, err := h.login(t.Context(), u.Name, password); err != nil {
			t.Fatalf("%d: new password: %v", i, err)
		}
		if _, err := h.login(t.Context(), u.Name, old); why(err) != BadCredentials {
			t.Fatalf("%d: old password: %v", i, err)
		}
	}
	var n int
	h.do(t, func(tx *db.Tx) error { return tx.Row("SELECT COUNT(*) FROM credential").Scan(&n) })
	if n != 1 {
		t.Errorf("%d credentials are left", n)
	}
}

// S10: after making, using, regenerating and spending passwords, no byte of the
// database files and no output has them.
func TestS10_NoPasswordIsStoredOrShown(t *testing.T) {
	h := open(t)
	var shown bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&shown, nil))
	u, first := h.add(t, NewUser{Active: true})
	second := h.regenerate(t, u.Name)
	var oneTime string
	h.do(t, func(tx *db.Tx) (err error) { oneTime, err = h.OneTime(tx, u.Name, OneTimeTTL); return err })
	passwords := []string{first, second, oneTime}
	for _, password := range passwords {
		attempt := AuthAttempt{Name: u.Name, Password: password, Client: netip.MustParseAddr("127.0.0.1")}
		p, err := h.Authenticate(t.Context(), attempt)
		if err == nil {
			h.do(t, func(tx *db.Tx) error { return h.Spend(tx, p) })
		}
		for _, v := range []any{attempt, &attempt, p, u, h.Accounts, err} {
			_, _ = fmt.Fprintf(&shown, "%v %+v %#v %s", v, v, v, v)
			_ = json.NewEncoder(&shown).Encode(v)
			log.InfoContext(t.Context(), "shown", slog.Any("value", v))
		}
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "mittente.db*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v: want the database and its WAL", files, err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".db-wal") && !bytes.Contains(content, []byte(u.Name)) {
			t.Errorf("%s does not even have the user's name: the test looks at nothing", name)
		}
		shown.Write(content)
	}
	for i, password := range passwords {
		if bytes.Contains(shown.Bytes(), []byte(password)) {
			t.Errorf("password %d is stored or shown", i)
		}
	}
}
