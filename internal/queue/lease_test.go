package queue

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/node"
)

// plan returns what the engine says of how it runs a statement.
func (h *house) plan(explain db.SQL, args ...any) (steps []string) {
	h.t.Helper()
	h.view(func(tx *db.Tx) (err error) {
		steps, err = db.Collect(tx, func(row db.Scanner) (detail string, err error) {
			var n int
			err = row.Scan(&n, &n, &n, &detail)
			return detail, err
		}, explain, args...)
		return err
	})
	return steps
}

func containsIndex(step, index string) bool { return strings.Contains(step, "INDEX "+index) }

// A generation that is over can neither settle nor release.
func TestOldGenerationCannotSettle(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	old := h.accept(id.New[id.Account](), "a@example.net")[0]
	h.must(h.Start(t.Context(), "here"))
	if h.Holds(old.Recipient.Lease) {
		t.Error("the old lease is still held")
	}
	n, err := h.Reclaim(t.Context())
	h.must(err)
	if n != 1 {
		t.Errorf("reclaimed %d", n)
	}
	again := h.claim(1)
	if len(again) != 1 || again[0].Recipient.Lease.Generation != 2 {
		t.Fatalf("claimed %+v", again)
	}
	if _, err := h.settle(old, delivered()); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("the old generation settles: %v", err)
	}
	h.batch(func(tx *db.Tx) error { return h.Release(tx, []Item{old}) })
	if s := h.recipient(old.Recipient.ID).State; s != Leased {
		t.Errorf("the old generation released: %s", s)
	}
	h.mustSettle(again[0], delivered(), Delivered)
}

// A new start does not wait for its old leases: new work goes on meanwhile.
func TestReclaimInSlices(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const old = 2*reclaimSlice + 50
	var to []string
	for i := range old {
		to = append(to, fmt.Sprintf("r%d@example.net", i))
	}
	h.accept(id.New[id.Account](), to...)
	h.must(h.Start(t.Context(), "here"))
	fresh := h.accept(id.New[id.Account](), "a@example.net")[0]
	var signals atomic.Int64
	h.OnDue(func() { signals.Add(1) })
	n, err := h.Reclaim(t.Context())
	h.must(err)
	if n != old || signals.Load() != 3 {
		t.Errorf("reclaimed %d with %d signals", n, signals.Load())
	}
	if s := h.recipient(fresh.Recipient.ID).State; s != Leased {
		t.Errorf("the new generation's own lease is %s", s)
	}
	if got := len(h.claim(1000)); got != old {
		t.Errorf("claimed %d", got)
	}
}

// A node without a heartbeat for 30 s loses its leases to the others; when it
// comes back it can't settle them, and knows it by its next heartbeat.
func TestDeadNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		other := openHouse(t, h.dir)
		h.must(other.Start(t.Context(), "there"))
		time.Sleep(node.DeadAfter)
		if n, err := other.Reclaim(t.Context()); n != 0 || err != nil {
			t.Errorf("reclaimed %d, %v while the node may live", n, err)
		}
		time.Sleep(time.Millisecond)
		if n, err := other.Reclaim(t.Context()); n != 1 || err != nil {
			t.Fatalf("reclaimed %d, %v", n, err)
		}
		taken := other.claim(1)
		if len(taken) != 1 {
			t.Fatal("not claimed by the other node")
		}
		if _, err := h.settle(item, delivered()); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("the dead node settles: %v", err)
		}
		h.must(h.Heartbeat(t.Context()))
		if h.Holds(item.Recipient.Lease) || h.Lease().Generation != 3 {
			t.Errorf("the dead node thinks it lives: %+v", h.Lease())
		}
		other.mustSettle(taken[0], delivered(), Delivered)
		h.must(other.db.Close())
		h.must(h.db.Close())
	})
}

// A node that runs keeps its leases, one that stopped loses them.
func TestRunKeepsLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		other := openHouse(t, h.dir)
		h.must(other.Start(t.Context(), "there"))
		stop, stopOther := h.run(), other.run()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := h.recipient(item.Recipient.ID).State; s != Leased {
			t.Errorf("the lease of a node that lives: %s", s)
		}
		stop()
		time.Sleep(node.DeadAfter + reclaimEvery + 2*node.HeartbeatEvery) // one until it is missed
		synctest.Wait()
		if s := h.recipient(item.Recipient.ID).State; s != Pending {
			t.Errorf("the lease of a node that stopped: %s", s)
		}
		stopOther()
		h.must(other.db.Close())
		h.must(h.db.Close())
	})
}

// What an earlier start held comes back without waiting for a turn.
func TestRunReclaimsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		item := h.accept(id.New[id.Account](), "a@example.net")[0]
		h.must(h.Start(t.Context(), "here"))
		stop := h.run()
		synctest.Wait()
		if s := h.recipient(item.Recipient.ID).State; s != Pending {
			t.Errorf("state %s", s)
		}
		stop()
		h.must(h.db.Close())
	})
}

// A process that is no node can do nothing that takes one.
func TestRunWantsStart(t *testing.T) {
	t.Parallel()
	h := openHouse(t, t.TempDir())
	for name, err := range map[string]error{
		"run": h.Run(t.Context()), "heartbeat": h.Heartbeat(t.Context()),
	} {
		if !errors.Is(err, node.ErrNotStarted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Reclaim(t.Context()); !errors.Is(err, node.ErrNotStarted) {
		t.Errorf("reclaim: %v", err)
	}
}
