package submission

import (
	"context"
	"slices"
	"sync"

	"mittente/internal/id"
)

// places are the messages that may be taken in at once, shared out so that one
// account whose clients are slow leaves room for the others: an account gets one
// more while it holds fewer than three times those that are free. So one alone may
// have three quarters, and whoever comes then finds a quarter.
type places struct {
	mu      sync.Mutex
	free    int
	held    map[id.Account]int
	waiting []*visitor
}

// visitor is who waits for a place; granted is closed when it has one.
type visitor struct {
	account id.Account
	granted chan struct{}
}

func newPlaces(n int) *places { return &places{free: n, held: map[id.Account]int{}} }

// take waits for a place, in the order of coming as far as the shares allow. Who
// got one gives it back. The error is that of ctx.
func (p *places) take(ctx context.Context, a id.Account) error {
	p.mu.Lock()
	if p.may(a) {
		p.grant(a)
		p.mu.Unlock()
		return nil
	}
	v := &visitor{a, make(chan struct{})}
	p.waiting = append(p.waiting, v)
	p.mu.Unlock()
	select {
	case <-v.granted:
		return nil
	case <-ctx.Done():
		return p.leave(ctx, v)
	}
}

// leave ends a wait; a place granted meanwhile is kept.
func (p *places) leave(ctx context.Context, v *visitor) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, v)
	if i < 0 {
		return nil
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	return ctx.Err()
}

// give gives a place back, and lets in who may have one now.
func (p *places) give(a id.Account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free++
	if p.held[a]--; p.held[a] == 0 {
		delete(p.held, a)
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(v *visitor) bool {
		if !p.may(v.account) {
			return false
		}
		p.grant(v.account)
		close(v.granted)
		return true
	})
}

// may reports whether an account may have one more. The lock is held.
func (p *places) may(a id.Account) bool { return p.free > 0 && p.held[a] < 3*p.free }

// grant gives a place out. The lock is held.
func (p *places) grant(a id.Account) {
	p.free--
	p.held[a]++
}
