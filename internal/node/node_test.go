package node

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
)

// open returns the nodes of the database in a folder, seen by a process of its own,
// whose clock is off by what off says.
func open(t *testing.T, dir string, off *time.Duration) (*Nodes, *db.DB) {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{DataDir: dir, ReserveBytes: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := d.Migrate(t.Context(), Schema()); err != nil {
		t.Fatal(err)
	}
	return New(d, func() time.Time { return time.Now().Add(*off) }), d
}

func start(t *testing.T, n *Nodes, name string) time.Duration {
	t.Helper()
	ahead, err := n.Start(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return ahead
}

func fence(t *testing.T, n *Nodes, d *db.DB, holders ...int64) (dead []Lease) {
	t.Helper()
	if err := d.Batch(t.Context(), func(tx *db.Tx) (err error) {
		dead, err = n.Fence(tx, holders)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return dead
}

// Each start is a new generation, each node a number of its own.
func TestStartRaisesTheGeneration(t *testing.T) {
	t.Parallel()
	dir, off := t.TempDir(), time.Duration(0)
	here, _ := open(t, dir, &off)
	if !here.Lease().IsZero() || here.Holds(Lease{}) {
		t.Errorf("before it starts: %+v", here.Lease())
	}
	if err := here.Heartbeat(t.Context()); !errors.Is(err, ErrNotStarted) {
		t.Errorf("heartbeat before it starts: %v", err)
	}
	start(t, here, "here")
	old := here.Lease()
	start(t, here, "here")
	if got := here.Lease(); got != (Lease{Node: 1, Generation: 2}) || here.Holds(old) || !here.Holds(got) {
		t.Errorf("lease %+v", got)
	}
	there, _ := open(t, dir, &off)
	start(t, there, "there")
	if got := there.Lease(); got != (Lease{Node: 2, Generation: 1}) {
		t.Errorf("lease of the second node %+v", got)
	}
}

// A node is dead when its heartbeat stands still, whatever time either clock says.
func TestFenceGoesByNoClock(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(here, there *time.Duration){
		"clocks agree":      func(_, _ *time.Duration) {},
		"ours ahead":        func(here, _ *time.Duration) { *here += 100 * time.Hour },
		"ours behind":       func(here, _ *time.Duration) { *here -= 100 * time.Hour },
		"theirs set back":   func(_, there *time.Duration) { *there -= 100 * time.Hour },
		"theirs set ahead":  func(_, there *time.Duration) { *there += 100 * time.Hour },
		"both set by turns": func(here, there *time.Duration) { *here, *there = *here-time.Hour, *there+time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				var offHere, offThere time.Duration
				here, d := open(t, dir, &offHere)
				there, other := open(t, dir, &offThere)
				start(t, there, "there")
				start(t, here, "here")
				holder := there.Lease()
				for range 20 {
					time.Sleep(HeartbeatEvery)
					set(&offHere, &offThere)
					if err := there.Heartbeat(t.Context()); err != nil {
						t.Fatal(err)
					}
					if dead := fence(t, here, d, holder.Node); len(dead) != 0 {
						t.Fatalf("taken for dead: %+v", dead)
					}
				}
				time.Sleep(DeadAfter)
				set(&offHere, &offThere)
				if dead := fence(t, here, d, holder.Node); len(dead) != 0 {
					t.Fatalf("taken for dead too early: %+v", dead)
				}
				time.Sleep(time.Millisecond)
				if dead := fence(t, here, d, here.Lease().Node); len(dead) != 0 {
					t.Fatalf("what holds nothing is fenced: %+v", dead)
				}
				if dead := fence(t, here, d, holder.Node); !slices.Equal(dead, []Lease{{holder.Node, holder.Generation + 1}}) {
					t.Fatalf("dead: %+v", dead)
				}
				if err := there.Heartbeat(t.Context()); err != nil || there.Holds(holder) {
					t.Errorf("it comes back with its old lease: %v", err)
				}
				if err := errors.Join(d.Close(), other.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A start knows by its own last heartbeat that the clock was set back.
func TestStartKnowsOfAClockSetBack(t *testing.T) {
	t.Parallel()
	off := time.Hour
	here, _ := open(t, t.TempDir(), &off)
	if ahead := start(t, here, "here"); ahead != 0 {
		t.Errorf("the first start: %v", ahead)
	}
	if off = 0; start(t, here, "here") < 59*time.Minute {
		t.Error("an hour went by unnoticed")
	}
	if ahead := start(t, here, "here"); ahead != 0 {
		t.Errorf("once more: %v", ahead)
	}
}

// A node's report is read back with its sign of life.
func TestReports(t *testing.T) {
	t.Parallel()
	dir, off := t.TempDir(), time.Duration(0)
	here, d := open(t, dir, &off)
	start(t, here, "here")
	if err := here.Report(t.Context(), "elsewhere", []byte("{}")); !errors.Is(err, ErrNotFound) {
		t.Errorf("report of an unknown node: %v", err)
	}
	there, _ := open(t, dir, &off)
	start(t, there, "there")
	if err := here.Report(t.Context(), "here", []byte(`{"ports":[25]}`)); err != nil {
		t.Fatal(err)
	}
	var got []Report
	if err := d.View(t.Context(), func(tx *db.Tx) (err error) {
		got, err = here.Reports(tx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, r := range got {
		names = append(names, r.Node)
		if !r.Alive(time.Now()) || r.Alive(time.Now().Add(time.Minute)) || r.Alive(time.Now().Add(-time.Minute)) {
			t.Errorf("%s: heartbeat %v", r.Node, r.Heartbeat)
		}
	}
	if !slices.Equal(names, []string{"here", "there"}) {
		t.Fatalf("nodes %v", names)
	}
	if string(got[0].Doc) != `{"ports":[25]}` || got[0].ReportedAt.IsZero() || got[1].Doc != nil {
		t.Errorf("reports %+v", got)
	}
}
