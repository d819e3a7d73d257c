package delivery

import (
	"sync"
	"time"
)

const (
	singlyFor = time.Hour // a server that seems not to pipeline is spared for this long
	maxSingly = 1000      // remembered at once
)

// singly remembers the servers that offer PIPELINING (RFC 2920) and seem not to
// bear it: they get one command at a time, which every server takes. An entry too
// many costs some round trips, no mail.
type singly struct {
	mu    sync.Mutex
	until map[string]time.Time // by host
}

func newSingly() *singly { return &singly{until: map[string]time.Time{}} }

func (s *singly) has(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[host]
	if ok && time.Now().After(until) {
		delete(s.until, host)
		return false
	}
	return ok
}

// add remembers host; when there is no room, any other is forgotten.
func (s *singly) add(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.until) >= maxSingly {
		for other := range s.until {
			delete(s.until, other)
			break
		}
	}
	s.until[host] = time.Now().Add(singlyFor)
}
