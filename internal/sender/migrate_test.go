package sender

import (
	"io/fs"
	"path/filepath"
	"testing"
	"testing/fstest"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/letter"
	"mittente/internal/signer"
)

// upTo is this room's schema as it was after so many migrations.
func upTo(t *testing.T, n int) db.Schema {
	t.Helper()
	files, err := fs.Glob(schema, "schema/*.sql")
	if err != nil || len(files) < n {
		t.Fatal(files, err)
	}
	was := fstest.MapFS{}
	for _, name := range files[:n] {
		text, err := fs.ReadFile(schema, name)
		if err != nil {
			t.Fatal(err)
		}
		was[filepath.Base(name)] = &fstest.MapFile{Data: text}
	}
	return db.Schema{Room: "sender", FS: was}
}

// A database from before keys and letters had rooms of their own: the seal holds,
// the keys open and sign, and what was verified stays so.
func TestOldDatabase(t *testing.T) {
	h := &house{dir: filepath.Join(t.TempDir(), "data"), zone: serveZone(t)}
	h.db = openDB(t, h.dir)
	if err := h.db.Migrate(t.Context(), account.Schema(), event.Schema(), alert.Schema(), upTo(t, 1)); err != nil {
		t.Fatal(err)
	}
	// What the first version wrote is what this one writes, in other tables.
	model := open(t)
	model.do(t, model.signer.CheckSecret)
	d := model.addDomain(t, "example.com")
	copyRows(t, [2]*db.DB{model.db, h.db}, "SELECT check_value FROM signer_seal", "INSERT INTO sender_seal (id, check_value) VALUES (1, $1)", 1)
	copyRows(t, [2]*db.DB{model.db, h.db},
		"SELECT id, account_id, domain_id, domain, selector, algorithm, record_name, record_value, sealed, created_at FROM signer_key",
		`INSERT INTO sender_key (id, account_id, domain_id, domain, selector, algorithm, record_name, record_value, sealed, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, 10)
	h.do(t, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO sender_domain (id, account_id, name, state, token, overridden, created_at)
			VALUES ($1, $2, 'example.com', 'verified', $3, TRUE, $4), ($5, $2, 'example.org', 'verified', 'x', FALSE, $4)`,
			d.ID, d.Account, d.Token, db.Micros(d.CreatedAt), id.New[id.Domain]())
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO sender_address (id, account_id, address_key, address, state, created_at)
			VALUES ($1, $2, 'a@example.net', 'a@example.net', 'pending', $3)`, id.New[id.Sender](), d.Account, db.Micros(d.CreatedAt))
		return err
	})

	if err := h.db.Migrate(t.Context(), signer.Schema(), letter.Schema(), Schema()); err != nil {
		t.Fatal(err)
	}
	h.Senders = h.room(t, nil)
	h.signer, h.letters = h.deps.Signer, h.deps.Letters
	h.user.Account = d.Account
	h.do(t, h.signer.CheckSecret)
	keys, err := h.signer.Signers(t.Context(), d.Account, "example.com")
	if err != nil || len(keys) != 2 || keys[0].Algorithm() != "rsa-sha256" {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if vouched := h.domain(t, "example.com"); vouched.Proof != ProofOverride || vouched.State != StateVerified {
		t.Errorf("%+v", vouched)
	}
	if proven := h.domain(t, "example.org"); proven.Proof != ProofDNS || proven.NextCheckAt.After(db.Now()) {
		t.Errorf("%+v", proven)
	}
	// Addresses that waited when nobody could be asked wait for somebody to ask.
	if letters := h.due(t); len(letters) != 0 {
		t.Errorf("due: %+v", letters)
	}
	if err := h.resend(t, "a@example.net"); err != nil {
		t.Error(err)
	}
	h.send(t)
}

// A database from before letters had a room of their own: none is lost, nor who refused.
func TestLettersMove(t *testing.T) {
	h := &house{dir: filepath.Join(t.TempDir(), "data"), zone: serveZone(t)}
	h.db = openDB(t, h.dir)
	if err := h.db.Migrate(t.Context(), account.Schema(), event.Schema(), alert.Schema(), signer.Schema(), upTo(t, 2)); err != nil {
		t.Fatal(err)
	}
	h.user.Account = id.New[id.Account]()
	h.do(t, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO sender_letter (id, account_id, kind, address_key, address, created_at, due)
			VALUES ($1, $2, 'ask', 'a@example.net', 'a@example.net', 1, TRUE)`, make([]byte, 10), h.user.Account)
		if err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO sender_refusal (account_id, address_key, until) VALUES ($1, 'b@example.net', $2)",
			h.user.Account, db.Micros(db.Now().Add(letter.RestAfterNo)))
		return err
	})
	if err := h.db.Migrate(t.Context(), letter.Schema(), Schema()); err != nil {
		t.Fatal(err)
	}
	h.Senders = h.room(t, nil)
	h.letters = h.deps.Letters
	if sent := h.send(t); sent.Address.String() != "a@example.net" {
		t.Errorf("%+v", sent)
	}
	if b := h.addAddress(t, "b@example.net"); b.RestUntil.IsZero() {
		t.Errorf("%+v", b)
	}
}

// copyRows copies what a query of one database returns into another.
func copyRows(t *testing.T, between [2]*db.DB, read, write db.SQL, columns int) {
	t.Helper()
	var all [][]any
	err := between[0].View(t.Context(), func(tx *db.Tx) (err error) {
		all, err = db.Collect(tx, func(row db.Scanner) ([]any, error) {
			values, into := make([]any, columns), make([]any, columns)
			for i := range values {
				into[i] = &values[i]
			}
			return values, row.Scan(into...)
		}, read)
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	err = between[1].Batch(t.Context(), func(tx *db.Tx) error {
		for _, values := range all {
			if _, err := tx.Exec(write, values...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
