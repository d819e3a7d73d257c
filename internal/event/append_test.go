package event

import (
	"reflect"
	"testing"
	"time"

	"mittente/internal/db"
	"mittente/internal/id"
)

// However many events there are, and wherever one differs from those around it,
// each is written as it is, in order.
func TestAppendMany(t *testing.T) {
	d := open(t)
	at := time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)
	for _, n := range []int{1, insertRows - 1, insertRows, insertRows + 1, 3*insertRows + 2} {
		for _, odd := range []int{-1, 0, insertRows / 2, n - 1} {
			message := id.New[id.Message]()
			account := id.New[id.Account]()
			events := make([]Event, n)
			for i := range events {
				events[i] = Event{
					ID: id.New[id.Event](), Account: account, Message: message,
					Recipient: id.New[id.Recipient](), At: at, Kind: Accepted,
				}
				if i == odd {
					events[i].At, events[i].Detail.Note = at.Add(time.Second), "by hand"
				}
			}
			add(t, d, events...)
			got := view(t, d, func(tx *db.Tx) ([]Event, error) { return OfMessage(tx, message) })
			if !reflect.DeepEqual(got, events) {
				t.Errorf("%d events, the one that differs at %d: got %+v\nwant %+v", n, odd, got, events)
			}
		}
	}
}
