package event

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/id"
)

// The record's reach back in time is what the oldest event says.
func TestMeasure(t *testing.T) {
	d := open(t)
	reg := prometheus.NewRegistry()
	Measure(reg, d)
	value := func() float64 {
		t.Helper()
		families, err := reg.Gather()
		if err != nil || len(families) != 1 {
			t.Fatalf("%d families, %v", len(families), err)
		}
		return families[0].GetMetric()[0].GetGauge().GetValue()
	}
	if got := value(); got != 0 {
		t.Errorf("empty record: %v", got)
	}
	hour, minute := time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	add(t, d, Event{ID: id.Before[id.Event](minute), Account: id.New[id.Account](), At: minute, Kind: Refused})
	add(t, d, Event{ID: id.Before[id.Event](hour), Account: id.New[id.Account](), At: hour, Kind: Refused})
	if got := value(); got < 3600 || got > 3660 {
		t.Errorf("age of an event of an hour ago: %v s", got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := value(); !math.IsNaN(got) {
		t.Errorf("without a database: %v", got)
	}
}
