package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mittente/internal/db"
	"mittente/internal/mail"
)

// S4: names count up, passwords are generated.
func TestS4_TheSystemChoosesNameAndPassword(t *testing.T) {
	h := open(t)
	for n := 1; n <= 3; n++ {
		u, password := h.add(t, NewUser{RequireTLS: true})
		if want := fmt.Sprintf("s1_%d", n); u.Name != want {
			t.Errorf("name %s, want %s", u.Name, want)
		}
		if len(password) != passwordLength {
			t.Errorf("password of %d characters", len(password))
		}
		if u.Priority != mail.PriorityNormal || !u.RequireTLS || u.Active {
			t.Errorf("user %+v", u)
		}
	}
}

// S5: all can be edited but the name.
func TestS5_EverythingButTheNameCanBeEdited(t *testing.T) {
	h := open(t)
	h.do(t, func(tx *db.Tx) error { _, err := h.AddList(tx, 1, "Newsletter"); return err })
	u, _ := h.add(t, NewUser{Note: "per il gestionale"})

	list, active, priority, note, tls := int64(2), true, mail.PriorityHighest, "new\nnote", true
	edited := h.edit(t, u.Name, Edit{List: &list, Active: &active, Priority: &priority, Note: &note, RequireTLS: &tls})
	var read User
	h.do(t, func(tx *db.Tx) (err error) { read, err = h.UserByName(tx, u.Name); return err })
	if !reflect.DeepEqual(read, edited) {
		t.Errorf("stored %#v, returned %#v", read, edited)
	}
	if edited.ListNumber != 2 || !edited.Active || edited.Priority != 1 || edited.Note != note || !edited.RequireTLS {
		t.Errorf("edited %#v", edited)
	}
	if edited.ID != u.ID || edited.Name != u.Name || edited.CreatedAt != u.CreatedAt || edited.List == u.List {
		t.Errorf("edited %#v from %#v", edited, u)
	}
	if same := h.edit(t, u.Name, Edit{}); !reflect.DeepEqual(same, edited) {
		t.Errorf("an empty edit changed %#v to %#v", edited, same)
	}
}

// S6: a removed user gets no further in, and stays in the history.
func TestS6_RemovedUserIsGoneButItsNameStays(t *testing.T) {
	h := open(t)
	u, password := h.add(t, NewUser{Active: true})
	h.remove(t, u.Name)
	if _, err := h.login(t.Context(), u.Name, password); why(err) != BadCredentials {
		t.Errorf("AUTH: %v", err)
	}
	h.do(t, func(tx *db.Tx) error {
		if users, err := h.Users(tx, Filter{}); err != nil || len(users) != 0 {
			t.Errorf("users %v, %v", users, err)
		}
		gone, err := h.Users(tx, Filter{Removed: true})
		if err != nil || len(gone) != 1 || gone[0].Name != u.Name || gone[0].RemovedAt.IsZero() {
			t.Errorf("removed users %v, %v", gone, err)
		}
		if byID, err := h.UserByID(tx, u.ID); err != nil || byID.Name != u.Name {
			t.Errorf("by id: %v, %v", byID, err)
		}
		return nil
	})
	if next, _ := h.add(t, NewUser{}); next.Name != "s1_2" {
		t.Errorf("the next user is %s", next.Name)
	}
}

// S4: users come and go in several accounts, some of it rolled back; each gets
// the next number of its account, so that no name comes twice.
func TestS4_NamesAreNeverUsedAgain(t *testing.T) {
	h := open(t)
	h.do(t, func(tx *db.Tx) error {
		for n := int64(2); n <= 3; n++ {
			if _, err := h.AddAccount(tx, fmt.Sprint("account ", n)); err != nil {
				return err
			}
			if _, err := h.AddList(tx, n, "list"); err != nil {
				return err
			}
		}
		return nil
	})
	committed := census{made: map[int64]int{}}
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Int64Range(0, 3), 1, 20).Draw(rt, "lists to add to, or 0 to remove")
		undone := rapid.Bool().Draw(rt, "undone")
		var after census
		err := h.db.Batch(t.Context(), func(tx *db.Tx) error {
			after = census{made: maps.Clone(committed.made), alive: slices.Clone(committed.alive)}
			for _, list := range steps {
				if err := after.step(tx, h, list); err != nil {
					return err
				}
			}
			if undone {
				return errUndone
			}
			return nil
		})
		switch {
		case err == nil:
			committed = after
		case !errors.Is(err, errUndone):
			rt.Fatal(err)
		}
	})
}

var errUndone = errors.New("undone")

// census is what the numbers of users have to be.
type census struct {
	made  map[int64]int // by list, which here is the account's only one
	alive []string
}

// step adds a user to a list, or removes the oldest.
func (c *census) step(tx *db.Tx, h *house, list int64) error {
	if list == 0 && len(c.alive) > 0 {
		name := c.alive[0]
		c.alive = c.alive[1:]
		return h.RemoveUser(tx, name)
	}
	if list == 0 {
		return nil
	}
	u, _, err := h.AddUser(tx, NewUser{List: list})
	if err != nil {
		return err
	}
	c.made[list]++
	c.alive = append(c.alive, u.Name)
	if want := fmt.Sprintf("s%d_%d", list, c.made[list]); u.Name != want {
		return fmt.Errorf("name %s, want %s", u.Name, want)
	}
	return nil
}

// Users are listed by account, by list, and removed ones by themselves.
func TestUsersAreFiltered(t *testing.T) {
	h := open(t)
	h.do(t, func(tx *db.Tx) error {
		if _, err := h.AddAccount(tx, "second"); err != nil {
			return err
		}
		if _, err := h.AddList(tx, 2, "a"); err != nil {
			return err
		}
		_, err := h.AddList(tx, 1, "b")
		return err
	})
	for _, list := range []int64{3, 2, 1, 1} { // s1_1, s2_1, s1_2, s1_3
		h.add(t, NewUser{List: list})
	}
	h.remove(t, "s1_3")
	cases := []struct {
		filter Filter
		want   string
	}{
		{Filter{}, "[s1_1 s1_2 s2_1]"},
		{Filter{Account: 1}, "[s1_1 s1_2]"},
		{Filter{Account: 2}, "[s2_1]"},
		{Filter{List: 1}, "[s1_2]"},
		{Filter{List: 3}, "[s1_1]"},
		{Filter{Account: 2, List: 3}, "[]"},
		{Filter{Removed: true}, "[s1_3]"},
		{Filter{List: 3, Removed: true}, "[]"},
	}
	for _, c := range cases {
		h.do(t, func(tx *db.Tx) error {
			users, err := h.Users(tx, c.filter)
			if got := fmt.Sprint(users); got != c.want {
				t.Errorf("%+v: %s, want %s", c.filter, got, c.want)
			}
			return err
		})
	}
}

// S15: the note is for operators, so it is in JSON, and in nothing that logs print.
func TestS15_NoteIsInNoLog(t *testing.T) {
	const marker = "MARKER-nota-interna"
	h := open(t)
	u, password := h.add(t, NewUser{Active: true, Note: marker})
	p, err := h.login(t.Context(), u.Name, password)
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprint(u, []User{u}) + fmt.Sprintf("%v %+v %s %q", u, u, u, u) +
		u.LogValue().String() + p.LogValue().String() + fmt.Sprintf("%v %+v", p, p)
	if strings.Contains(shown, marker) {
		t.Errorf("the note is shown: %s", shown)
	}
	if text, err := json.Marshal(u); err != nil || !strings.Contains(string(text), marker) {
		t.Errorf("operators must see the note: %s, %v", text, err)
	}
}

// A name is in logs and alerts only if it is one: people put passwords in its place.
func TestIsName(t *testing.T) {
	for text, want := range map[string]bool{
		"s1_1": true, "s17_300": true, "": false, "s": false, "s_": false, "s1_": false, "s_1": false, "s1": false, "s123456": false,
		"S1_1": false, "s1_1x": false, "s1__1": false, "x@example.org": false, "s1_1234567890123456789012345678901": false,
	} {
		if got := IsName(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
