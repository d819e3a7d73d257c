package test

import (
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver that opens a copy of the database
)

// recipientView is a recipient as `queue ls` prints it.
type recipientView struct {
	ID          string    `json:"id"`
	Message     string    `json:"message"`
	To          string    `json:"to"`
	State       string    `json:"state"`
	Attempts    int       `json:"attempts"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	LastReply   string    `json:"last_reply"`
}

// recipients returns those of a message.
func (r *relay) recipients(message string) []recipientView {
	r.t.Helper()
	var found []recipientView
	r.query(&found, "queue", "show", message)
	return found
}

// state waits until the only recipient of a message is in a state, and returns it.
func (r *relay) state(message, want string) recipientView {
	r.t.Helper()
	var got recipientView
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		found := r.recipients(message)
		if len(found) != 1 {
			r.t.Fatalf("%s has %d recipients; want 1", message, len(found))
		}
		if got = found[0]; got.State == want && (want != "pending" || got.Attempts > 0) {
			return got
		}
	}
	r.t.Fatalf("recipient of %s: %+v; want %s", message, got, want)
	return got
}

// empty waits until nothing waits in the queue.
func (r *relay) empty(limit time.Duration) {
	r.t.Helper()
	var waiting []recipientView
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		r.query(&waiting, "queue", "ls")
		if len(waiting) == 0 {
			return
		}
	}
	r.t.Fatalf("after %v %d recipients wait, the first: %+v", limit, len(waiting), waiting[0])
}

// snapshot copies the files of the database, so that looking at what a killed relay
// left changes nothing of it, and opens the copy.
func (r *relay) snapshot() *sql.DB {
	r.t.Helper()
	dir := r.t.TempDir()
	for _, name := range []string{"mittente.db", "mittente.db-wal"} {
		if err := copyFile(filepath.Join(dir, name), filepath.Join(r.data, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.t.Fatal(err)
		}
	}
	return open(r.t, filepath.Join(dir, "mittente.db"))
}

func open(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// count returns the one number that a query yields.
func count(t *testing.T, db *sql.DB, query string) int {
	t.Helper()
	var n int
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// column returns the texts that a query yields.
func column(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var texts []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.Trim(text, "<>"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return texts
}
