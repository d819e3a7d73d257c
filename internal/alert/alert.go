// Package alert keeps what an operator should know of, repeated troubles in one entry.
package alert

import (
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// ErrNotFound says that there is no such alert, or no longer.
var ErrNotFound = errors.New("no such alert")

// Kind is what a trouble is about.
type Kind string

// The kinds of alerts (requirement M7), with their Italian names.
const (
	SenderDomain    Kind = "sender_domain"     // Notifica dominio mittente: a sender was refused (S18)
	AccountBlocked  Kind = "account_blocked"   // Blocco account
	SendingProblem  Kind = "sending_problem"   // Problema di invio
	Returned        Kind = "returned"          // Email ritornate: nobody is left to be told of a failure
	Queue           Kind = "queue"             // Coda
	PasswordInClear Kind = "password_in_clear" // Password inviata in chiaro
	Verification    Kind = "verification"      // Verifica di domini e mittenti
	CertificatesDNS Kind = "certificates_dns"  // Certificati e DNS
	Security        Kind = "security"          // Sicurezza
)

// Kinds returns all kinds, in the order in which they are shown.
func Kinds() []Kind {
	return []Kind{
		SenderDomain, AccountBlocked, SendingProblem, Returned, Queue, PasswordInClear, Verification, CertificatesDNS, Security,
	}
}

// Alert is one entry. What is raised again before somebody acknowledged it is
// counted in the entry that is there, if account, list, kind and key are the same.
type Alert struct {
	ID      id.Alert          `json:"id"`
	Account id.Account        `json:"account,omitzero"` // zero: of the house
	List    id.List           `json:"list,omitzero"`    // zero: of no list
	Kind    Kind              `json:"kind"`
	Key     string            `json:"key"`   // tells alerts of one kind apart, such as "s17_3 from x@example.org"
	Count   int64             `json:"count"` // Raise adds it; 0 is 1
	FirstAt time.Time         `json:"first_at"`
	LastAt  time.Time         `json:"last_at"` // Raise: when it happened; zero is now
	AckedAt time.Time         `json:"acked_at,omitzero"`
	AckedBy string            `json:"acked_by,omitempty"`
	Event   id.Event          `json:"event,omitzero"`  // the newest that it tells of
	Facts   map[string]string `json:"facts,omitempty"` // of the newest; never a user's note (S15)
	Group   Group             `json:"-"`               // of Raise alone
}

// Group lets many entries become one: when Most different ones are open, they are
// one entry from then on, whose key is the group's. Its facts are the newest with
// those of the group, and under FactExamples some of what the entries had as Vary.
type Group struct {
	Key   string            // empty: it is in no group
	Most  int               // at least 2
	Vary  string            // the fact in which the entries differ
	Facts map[string]string // that say what the entry stands for
}

// FactExamples is the fact of a group that has some values of the entries, the
// newest first, separated by spaces.
const FactExamples = "examples"

// Bounds.
const (
	maxExamples = 5
	maxKey      = 300 // octets; longer ones are cut, and told apart by a hash
	maxFact     = 1_000
	maxFacts    = 30
)

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the tables of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic("alert: " + err.Error()) // the folder is compiled in
	}
	return db.Schema{Room: "alert", FS: sub}
}

// Raise notes a trouble, usually in the transaction of the event it tells of.
func Raise(tx *db.Tx, a Alert) error {
	a.normalise()
	if err := a.raise(tx); err != nil {
		return fmt.Errorf("raise alert %s: %w", a.Kind, err)
	}
	return nil
}

func (a *Alert) raise(tx *db.Tx) error {
	if a.Group.Key == "" {
		return a.write(tx)
	}
	whole := a.whole()
	gathered, open, err := find(tx, whole.fold())
	if err != nil {
		return err
	}
	if open {
		whole.Facts[FactExamples] = examples(a.Facts[a.Group.Vary], gathered.Facts[FactExamples])
		return whole.write(tx)
	}
	if err := a.write(tx); err != nil {
		return err
	}
	members, err := db.Collect(tx, scan, sqlMembers, whole.fold(), a.Group.Most)
	if err != nil || len(members) < a.Group.Most {
		return err
	}
	return whole.gather(tx, members)
}

// gather puts one entry in the place of the members of its group, the newest first.
func (a *Alert) gather(tx *db.Tx, members []Alert) error {
	a.Count = 0
	var values []string
	for _, m := range members {
		a.Count += m.Count
		values = append(values, m.Facts[a.Group.Vary])
		if m.FirstAt.Before(a.FirstAt) {
			a.FirstAt = m.FirstAt
		}
	}
	a.Facts[FactExamples] = examples(values...)
	if _, err := tx.Exec(sqlDeleteMembers, a.fold()); err != nil {
		return err
	}
	return a.write(tx)
}

// whole returns the entry that stands for a's group.
func (a *Alert) whole() *Alert {
	w := *a
	w.Key, w.Group.Key = a.Group.Key, ""
	w.Facts = maps.Clone(a.Facts)
	if w.Facts == nil {
		w.Facts = map[string]string{}
	}
	maps.Copy(w.Facts, a.Group.Facts)
	delete(w.Facts, a.Group.Vary)
	return &w
}

// examples joins words, each once, up to maxExamples.
func examples(texts ...string) string {
	var all []string
	for word := range strings.FieldsSeq(strings.Join(texts, " ")) {
		if !slices.Contains(all, word) && len(all) < maxExamples {
			all = append(all, word)
		}
	}
	return strings.Join(all, " ")
}

// write makes the entry, or adds to the open one.
func (a *Alert) write(tx *db.Tx) error {
	facts, err := json.Marshal(a.Facts)
	if err != nil {
		return err
	}
	group := ""
	if a.Group.Key != "" {
		group = a.whole().fold()
	}
	_, err = tx.Exec(sqlRaise, id.New[id.Alert](), a.Account, a.List, string(a.Kind), a.Key, a.fold(), group,
		a.Count, db.Micros(a.FirstAt), db.Micros(a.LastAt), a.Event, string(facts))
	return err
}

// fold is what makes two alerts the same entry.
func (a *Alert) fold() string {
	return strings.Join([]string{a.Account.String(), a.List.String(), string(a.Kind), a.Key}, "/")
}

// normalise bounds what may have come from a client.
func (a *Alert) normalise() {
	a.Key, a.Group.Key = shorten(a.Key), shorten(a.Group.Key)
	a.Count = max(1, a.Count)
	if a.LastAt.IsZero() {
		a.LastAt = db.Now()
	}
	a.FirstAt = a.LastAt
	kept := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(a.Facts)) {
		if value := a.Facts[name]; value != "" && len(kept) < maxFacts {
			kept[name] = strings.ToValidUTF8(value[:min(len(value), maxFact)], "?")
		}
	}
	a.Facts = kept
}

// shorten cuts a long key; the hash keeps what is cut apart.
func shorten(key string) string {
	key = strings.ToValidUTF8(key, "?")
	if len(key) <= maxKey {
		return key
	}
	hash := sha256.Sum256([]byte(key))
	return strings.ToValidUTF8(key[:maxKey], "") + " " + hex.EncodeToString(hash[:8])
}

func find(tx *db.Tx, fold string) (a Alert, open bool, err error) {
	a, err = scan(tx.Row(sqlOpen, fold))
	if errors.Is(err, sql.ErrNoRows) {
		return Alert{}, false, nil
	}
	return a, err == nil, err
}
