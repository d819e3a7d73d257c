package reason

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
)

const (
	putStanding db.SQL = `
INSERT INTO standing (node, kind, name, report, at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (node, kind, name) DO UPDATE SET report = excluded.report, at = excluded.at`

	deleteStanding db.SQL = `DELETE FROM standing WHERE node = $1 AND kind = $2 AND name = $3`

	clearStanding db.SQL = `DELETE FROM standing WHERE node = $1`

	selectStanding db.SQL = `SELECT node, report, at FROM standing WHERE kind = $1 AND name = $2 ORDER BY node`
)

//go:embed schema/*.sql
var schema embed.FS

// Schema returns the table of this room.
func Schema() db.Schema {
	sub, err := fs.Sub(schema, "schema")
	if err != nil {
		panic("reason: " + err.Error()) // the folder is compiled in
	}
	return db.Schema{Room: "reason", FS: sub}
}

// Kind is what a row tells of.
type Kind string

// The kinds of rows. Their names are a site's, a domain, an account's id, a user's
// name; the house has none.
const (
	OfHouse   Kind = "house"
	OfSite    Kind = "site"
	OfDomain  Kind = "domain"
	OfAccount Kind = "account"
	OfUser    Kind = "user"
)

// Row is what a node tells of one thing; a nil Report takes back what it told.
type Row struct {
	Kind   Kind
	Name   string
	Report []byte // JSON of House, Site, Domain or Pace
}

// House is what holds up all mail of a node.
type House struct {
	Trouble string    `json:"trouble,omitempty"` // of the database
	Since   time.Time `json:"since,omitzero"`
	Memory  int       `json:"memory,omitempty"` // recipients in memory
	Most    int       `json:"most,omitempty"`   // that it takes
}

// Domain is where a domain's mail goes.
type Domain struct {
	Site string `json:"site"`
}

// Pace is an hourly speed that binds.
type Pace struct {
	PerHour int64     `json:"per_hour"`
	Next    time.Time `json:"next,omitzero"` // when one more recipient may go
}

// Site is what a node knows of a destination that has mail waiting.
type Site struct {
	Limit       string    `json:"limit,omitempty"` // the name of the provider or rule whose limits hold
	Connections int       `json:"connections"`     // at once, by the limit
	Together    int       `json:"together,omitempty"`
	Rate        string    `json:"rate,omitempty"`    // messages by the limit, "600 in 1m0s"
	Window      int       `json:"window"`            // at once, by what the site has shown
	Active      int       `json:"active"`            // deliveries under way
	Waiting     int       `json:"waiting"`           // recipients in memory
	Binding     string    `json:"binding,omitempty"` // throttle.Binding
	Until       time.Time `json:"until,omitzero"`    // how long it binds, where that is known
	DeadSince   time.Time `json:"dead_since,omitzero"`
	Asked       bool      `json:"asked,omitempty"`      // a dead site said itself how long to wait
	Trouble     string    `json:"trouble,omitempty"`    // why it is dead
	PerSecond   float64   `json:"per_second,omitempty"` // recipients lately
	Running     []Running `json:"running,omitempty"`
	ServersBusy bool      `json:"servers_busy,omitempty"` // all deliveries at once are in use
}

// Running is a message that is being attempted at a site.
type Running struct {
	Message id.Message `json:"message"`
	Since   time.Time  `json:"since"`
}

// Write notes rows of a node.
func Write(tx *db.Tx, node string, rows []Row) error {
	at := db.Micros(db.Now())
	for _, r := range rows {
		var err error
		if r.Report == nil {
			_, err = tx.Exec(deleteStanding, node, string(r.Kind), r.Name)
		} else {
			_, err = tx.Exec(putStanding, node, string(r.Kind), r.Name, string(r.Report), at)
		}
		if err != nil {
			return fmt.Errorf("reason: report of node %s: %w", node, err)
		}
	}
	return nil
}

// Clear takes back all that a node told, as it begins.
func Clear(tx *db.Tx, node string) error {
	if _, err := tx.Exec(clearStanding, node); err != nil {
		return fmt.Errorf("reason: report of node %s: %w", node, err)
	}
	return nil
}

// Node is what one node tells of the things a recipient has to do with; nil is
// nothing.
type Node struct {
	Name    string
	Alive   bool
	House   *House
	Site    *Site
	Account *Pace
	User    *Pace
}

// Nodes reads what the nodes tell of what a recipient has to do with, and the
// name of its site where it is known.
func Nodes(tx *db.Tx, q *queue.Queue, r queue.Recipient, now time.Time) (nodes []Node, site string, err error) {
	started, err := q.Reports(tx)
	if err != nil {
		return nil, "", err
	}
	domains, err := read[Domain](tx, OfDomain, string(r.To.Address.Domain()))
	if err != nil {
		return nil, "", err
	}
	site = r.Site
	for _, d := range domains {
		site = d.Site
	}
	var all [4]error
	houses, err := read[House](tx, OfHouse, "")
	all[0] = err
	sites, err := read[Site](tx, OfSite, site)
	all[1] = err
	accounts, err := read[Pace](tx, OfAccount, r.Account.String())
	all[2] = err
	users, err := read[Pace](tx, OfUser, r.User)
	all[3] = err
	for _, s := range started {
		nodes = append(nodes, Node{
			Name: s.Node, Alive: s.Alive(now),
			House: houses[s.Node], Site: sites[s.Node], Account: accounts[s.Node], User: users[s.Node],
		})
	}
	return nodes, site, errors.Join(all[:]...)
}

// read returns what each node tells of one thing.
func read[T any](tx *db.Tx, kind Kind, name string) (map[string]*T, error) {
	found := make(map[string]*T)
	if name == "" && kind != OfHouse {
		return found, nil
	}
	_, err := db.Collect(tx, func(row db.Scanner) (struct{}, error) {
		var node, doc string
		var at int64
		if err := row.Scan(&node, &doc, &at); err != nil {
			return struct{}{}, err
		}
		told := new(T)
		if json.Unmarshal([]byte(doc), told) == nil { // another version's row says nothing
			found[node] = told
		}
		return struct{}{}, nil
	}, selectStanding, string(kind), name)
	if err != nil {
		return nil, fmt.Errorf("reason: %s %s: %w", kind, name, err)
	}
	return found, nil
}

// What dispatch says as a recipient's last outcome when nobody else has said
// anything: by these Why knows it again.
const (
	SaySlow = "the destination is slow; waiting with the others"
	SayFull = "more mail waits for the destination than it takes at present"
	SayPace = "the hourly speed of the SMTP+ user is used up"
	SayDead = "the destination is not answering; waiting with the others"
)

// Aside is the outcome of mail that waits for one of these reasons (RFC 3463 §3.5:
// X.4.5, congestion; §3.4: X.3.2, not accepting messages).
func Aside(say string) mail.Outcome {
	o := mail.Outcome{
		Action: mail.Deferred, Scope: mail.ScopeSite, Status: mail.Status{Class: 4, Subject: 4, Detail: 5}, Diagnostic: say,
	}
	if say == SayPace {
		o.Scope, o.Status = mail.ScopeMessage, mail.Status{Class: 4, Subject: 3, Detail: 2}
	}
	return o
}
