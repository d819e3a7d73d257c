package queue

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/query"
)

func (h *house) search(text string, before id.Message, limit int) (f Found) {
	h.t.Helper()
	q, err := query.Parse(text, time.Now())
	h.must(err)
	return h.searchFor(q, before, limit)
}

func (h *house) searchFor(q query.Query, before id.Message, limit int) (f Found) {
	h.t.Helper()
	h.view(func(tx *db.Tx) (err error) {
		f, err = h.Search(tx, q, before, limit)
		return err
	})
	return f
}

// Each word of the language finds what it says, alone and with others.
func TestSearch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	send := func(user, from, shown, subject, messageID string, to ...string) []Item {
		m, w := h.someMessage(id.New[id.Account]())
		m.UserName, m.HeaderFrom, m.Subject, m.MessageID = user, shown, subject, messageID
		m.From = mail.ReversePath{}
		if from != "" {
			m.From.Address = address(from)
		}
		return h.acceptMessage(m, w, to...)
	}
	invoice := send("s1_1", "Shop@Example.com", "shop@example.com", "Your invoice 100% of today", "<1@shop>", "Anna@example.net", "bob@example.org")
	reset := send("s1_2", "bounces@example.com", "support@città.example", "Password reset", "<2@shop>", "anna@example.net")
	silent := send("s1_1", "", "postmaster@example.com", "Your bounce", "<3@shop>", "carl@example.net")
	news := send("s2_1", "news@example.com", "news@example.com", "News", "<4@shop>", "dora@example.com", "anna@example.net")
	h.mustSettle(invoice[0], delivered(), Delivered)
	h.mustSettle(invoice[1], failed(), Failed)
	h.mustSettle(reset[0], deferred(), Pending)
	h.mustSettle(news[0], delivered(), Delivered)
	h.mustSettle(news[1], delivered(), Delivered)
	names := map[id.Message]string{
		invoice[0].Message.ID: "invoice", reset[0].Message.ID: "reset", silent[0].Message.ID: "silent", news[0].Message.ID: "news",
	}
	for text, want := range map[string][]string{
		"":                                           {"news", "silent", "reset", "invoice"},
		"to:anna@example.net":                        {"news", "reset", "invoice"},
		"to:anna@example.net domain:example.org":     nil,
		"to:anna@example.net status:delivered":       {"news", "invoice"},
		"to:anna@example.net status:failed":          nil,
		"domain:example.org status:failed":           {"invoice"},
		"domain:example.net":                         {"news", "silent", "reset", "invoice"},
		"from:shop@example.com":                      {"invoice"},
		"from:bounces@example.com":                   {"reset"},
		"from:support@città.example":                 {"reset"},
		"from:xn--citt-3na.example":                  {"reset"},
		"from:example.com":                           {"news", "silent", "reset", "invoice"},
		"user:s1_1":                                  {"silent", "invoice"},
		"user:s1_1 subject:your subject:BOUNCE":      {"silent"},
		`subject:"invoice 100%"`:                     {"invoice"},
		"subject:100_":                               nil,
		"status:failed":                              {"invoice"},
		"status:deferred":                            {"reset"},
		"status:queued":                              nil,
		"status:delivering":                          {"silent"},
		"status:held":                                nil,
		"status:refused":                             nil,
		"status:delivered":                           {"news", "invoice"},
		"msgid:2@shop":                               {"reset"},
		silent[0].Message.ID.String():                {"silent"},
		silent[0].Message.ID.String() + " user:s1_2": nil,
		"after:1h":                                   {"news", "silent", "reset", "invoice"},
		"before:1h":                                  nil,
		"to:nobody@example.net":                      nil,
	} {
		f := h.search(text, id.Message{}, 0)
		var got []string
		for _, m := range f.Messages {
			got = append(got, names[m.ID])
		}
		if !slices.Equal(got, want) || f.Total != len(want) || f.More || !f.Next.IsZero() {
			t.Errorf("%q: %v of %d (more %v, next %v), want %v", text, got, f.Total, f.More, f.Next, want)
		}
	}
	q := query.Query{To: address("anna@example.net"), Account: reset[0].Message.Account}
	if f := h.searchFor(q, id.Message{}, 0); f.Total != 1 || f.Messages[0].ID != reset[0].Message.ID {
		t.Errorf("of one account: %+v", f)
	}
}

// A message shows how many recipients stand where, and the worst of it.
func TestSearchShowsStandings(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	items := h.accept(id.New[id.Account](), "a@example.net", "b@example.net", "c@example.net", "d@example.net", "e@example.net")
	check := func(worst query.Standing, want map[query.Standing]int) {
		t.Helper()
		m := h.search("", id.Message{}, 0).Messages[0]
		if !maps.Equal(m.Standing, want) || m.Worst() != worst || m.Message != *items[0].Message {
			t.Errorf("%v, worst %s; want %v, %s", m.Standing, m.Worst(), want, worst)
		}
	}
	check(query.Delivering, map[query.Standing]int{query.Delivering: 5})
	h.batch(func(tx *db.Tx) error { return h.Release(tx, items[4:]) })
	h.mustSettle(items[0], delivered(), Delivered)
	h.mustSettle(items[1], deferred(), Pending)
	check(query.Deferred, map[query.Standing]int{query.Delivered: 1, query.Deferred: 1, query.Delivering: 2, query.Queued: 1})
	h.mustSettle(items[2], failed(), Failed)
	h.operate(Hold, Selection{Recipient: items[4].Recipient.ID})
	check(query.Failed, map[query.Standing]int{query.Delivered: 1, query.Deferred: 1, query.Delivering: 1, query.Failed: 1, query.Held: 1})
	if w := (Match{}).Worst(); w != "" {
		t.Errorf("nothing stands at %s", w)
	}
}

// Pages follow one another without a gap, whether an index leads to them or not.
func TestSearchPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	account := id.New[id.Account]()
	const n = 25
	for i := range n {
		m, w := h.someMessage(account)
		m.Subject = fmt.Sprintf("number %d", i%2)
		h.acceptMessage(m, w, fmt.Sprintf("r%d@example.net", i))
	}
	for text, total := range map[string]int{"": n, "user:s1_1": n, "domain:example.net": n, "subject:0": (n + 1) / 2, "from:example.com": n} {
		var seen []id.Message
		var before id.Message
		for {
			f := h.search(text, before, 7)
			if f.Total != total-len(seen) || f.More {
				t.Fatalf("%q: %d after %d", text, f.Total, len(seen))
			}
			for _, m := range f.Messages {
				seen = append(seen, m.ID)
			}
			if before = f.Next; before.IsZero() {
				break
			}
		}
		unique := slices.Compact(slices.Clone(seen))
		slices.Reverse(unique)
		if len(unique) != total || !slices.IsSortedFunc(unique, id.Message.Compare) {
			t.Errorf("%q: %d, in order %v", text, len(unique), slices.IsSortedFunc(unique, id.Message.Compare))
		}
	}
}

// Every way of a search is an index, and so is each step through the messages.
func TestSearchUsesIndexes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	args := search{what: query.Query{}}.args([]byte{}, []byte{0xff})
	for _, c := range []struct {
		explain db.SQL
		args    []any
		index   string
	}{
		{"EXPLAIN QUERY PLAN " + countMessageID, []any{"", 1}, "message_message_id"},
		{"EXPLAIN QUERY PLAN " + walkMessageID, []any{"", []byte{}, []byte{}, 1}, "message_message_id"},
		{"EXPLAIN QUERY PLAN " + findMessageID, args, "message_message_id"},
		{"EXPLAIN QUERY PLAN " + countUser, []any{"", 1}, "message_user"},
		{"EXPLAIN QUERY PLAN " + walkUser, []any{"", []byte{}, []byte{}, 1}, "message_user"},
		{"EXPLAIN QUERY PLAN " + findUser, args, "message_user"},
		{"EXPLAIN QUERY PLAN " + countAccount, []any{[]byte{}, 1}, "message_account"},
		{"EXPLAIN QUERY PLAN " + walkAccount, []any{[]byte{}, []byte{}, []byte{}, 1}, "message_account"},
		{"EXPLAIN QUERY PLAN " + findAccount, args, "message_account"},
		{"EXPLAIN QUERY PLAN " + countFrom, []any{"", "", 1}, "message_reverse_path"},
		{"EXPLAIN QUERY PLAN " + walkFrom, []any{"", "", []byte{}, []byte{}, 1}, "message_reverse_path"},
		{"EXPLAIN QUERY PLAN " + findFrom, args, "message_reverse_path"},
		{"EXPLAIN QUERY PLAN " + countTo, []any{"", "", 1}, "recipient_address"},
		{"EXPLAIN QUERY PLAN " + walkTo, []any{"", "", []byte{}, []byte{}, 1}, "recipient_address"},
		{"EXPLAIN QUERY PLAN " + findTo, args, "recipient_address"},
		{"EXPLAIN QUERY PLAN " + countDomain, []any{"", 1}, "recipient_address"},
		{"EXPLAIN QUERY PLAN " + walkDomain, []any{"", []byte{}, []byte{}, 1}, "recipient_address"},
		{"EXPLAIN QUERY PLAN " + findDomain, args, "recipient_address"},
		{"EXPLAIN QUERY PLAN " + countStanding, []any{"", 0, 1, 1}, "recipient_standing"},
		{"EXPLAIN QUERY PLAN " + walkStanding, []any{"", 0, 1, []byte{}, []byte{}, 1}, "recipient_standing"},
		{"EXPLAIN QUERY PLAN " + findStanding, args, "recipient_standing"},
		{"EXPLAIN QUERY PLAN " + countLeased, []any{1}, "recipient_leased"},
		{"EXPLAIN QUERY PLAN " + walkLeased, []any{[]byte{}, []byte{}, 1}, "recipient_leased"},
		{"EXPLAIN QUERY PLAN " + findLeased, args, "recipient_leased"},
		{"EXPLAIN QUERY PLAN " + countFrom, []any{"", "", 1}, "message_header_from"},
		{"EXPLAIN QUERY PLAN " + walkAll, []any{[]byte{}, []byte{}, 1}, "sqlite_autoindex_message_1"},
		{"EXPLAIN QUERY PLAN " + findAll, args, "sqlite_autoindex_message_1"},
		{"EXPLAIN QUERY PLAN " + sumStandings, []any{[]byte{}}, "recipient_message"},
	} {
		plan := h.plan(c.explain, c.args...)
		if !slices.ContainsFunc(plan, func(s string) bool { return containsIndex(s, c.index) }) {
			t.Errorf("%s\nnot by %s but %q", c.explain, c.index, plan)
		}
		for _, step := range plan {
			if slices.Contains([]string{"SCAN recipient", "SCAN r", "SCAN message", "SCAN m"}, step) {
				t.Errorf("%s\nreads a whole table: %q", c.explain, plan)
			}
		}
	}
}
