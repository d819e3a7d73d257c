package reason

import (
	"testing"

	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/spool"
)

// What nodes write another process reads; what they take back is gone.
func TestNodes(t *testing.T) {
	t.Parallel()
	d, err := db.Open(t.Context(), db.Config{DataDir: t.TempDir(), ReserveBytes: 1}, nil)
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	must(t, d.Migrate(t.Context(), queue.Schema(), event.Schema(), spool.Schema(), alert.Schema(), Schema()))
	q := queue.New(queue.Deps{DB: d, Spool: spool.New(d, spool.Config{}, nil)}, nil)
	must(t, q.Start(t.Context(), "one"))
	account := id.New[id.Account]()
	write := func(node string, rows ...Row) {
		t.Helper()
		must(t, d.Batch(t.Context(), func(tx *db.Tx) error { return Write(tx, node, rows) }))
	}
	write("one",
		Row{OfHouse, "", []byte(`{"memory":5}`)},
		Row{OfSite, "mx.test:25", []byte(`{"window":3}`)},
		Row{OfDomain, "a.test", []byte(`{"site":"mx.test:25"}`)},
		Row{OfAccount, account.String(), []byte(`{"per_hour":60}`)},
		Row{OfUser, "s1_1", []byte(`{"per_hour":`)}, // of another version
	)
	write("never started", Row{OfSite, "mx.test:25", []byte(`{"window":9}`)})
	write("one", Row{OfSite, "mx.test:25", []byte(`{"window":4}`)})

	to, err := mail.ParseForwardPath("x@a.test")
	must(t, err)
	r := queue.Recipient{To: to, Account: account, User: "s1_1"}
	read := func() (nodes []Node, site string) {
		t.Helper()
		must(t, d.View(t.Context(), func(tx *db.Tx) (err error) {
			nodes, site, err = Nodes(tx, q, r, db.Now())
			return err
		}))
		return nodes, site
	}
	nodes, site := read()
	if len(nodes) != 1 || site != "mx.test:25" {
		t.Fatalf("%+v, site %q", nodes, site)
	}
	n := nodes[0]
	if n.Name != "one" || !n.Alive || n.Site == nil || n.Site.Window != 4 || n.House.Memory != 5 || n.Account.PerHour != 60 || n.User != nil {
		t.Errorf("%+v", n)
	}
	write("one", Row{OfSite, "mx.test:25", nil})
	if nodes, _ = read(); nodes[0].Site != nil || nodes[0].House == nil {
		t.Errorf("after it was taken back: %+v", nodes[0])
	}
	must(t, d.Batch(t.Context(), func(tx *db.Tx) error { return Clear(tx, "one") }))
	if nodes, site = read(); nodes[0].House != nil || site != "" {
		t.Errorf("after all was: %+v, site %q", nodes[0], site)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
