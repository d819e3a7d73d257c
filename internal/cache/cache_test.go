package cache

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func fresh(limit int) *Cache[string, int] {
	return New[string, int](limit, prometheus.NewGauge(prometheus.GaugeOpts{Name: "size", Help: "Sum of weights."}))
}

// A reader that began before a change does not bring the old state back after it.
func TestPutOfAnotherGenerationIsNotKept(t *testing.T) {
	c := fresh(10)
	for name, change := range map[string]func(){
		"drop of it":      func() { c.Drop("a") },
		"drop of another": func() { c.Drop("b") },
		"clear":           c.Clear,
	} {
		_, before, _ := c.Get("a")
		change()
		c.Put("a", 1, 1, before)
		value, now, _ := c.Get("a")
		if value == 1 {
			t.Errorf("%s: what was read before is kept", name)
		}
		c.Put("a", 2, 1, now)
		if v, _, known := c.Get("a"); !known || v != 2 {
			t.Errorf("%s: what was read after is not kept", name)
		}
	}
}

// The sum of weights keeps within the limit, and the gauge shows it.
func TestWeightIsBounded(t *testing.T) {
	c := fresh(5)
	for _, key := range []string{"a", "b", "c", "d", "a", "b"} {
		_, generation, _ := c.Get(key)
		c.Put(key, 0, 2, generation)
		if c.Weight() > 5 || testutil.ToFloat64(c.size) != float64(c.Weight()) {
			t.Errorf("after %s: weight %d, gauge %v", key, c.Weight(), testutil.ToFloat64(c.size))
		}
		if _, _, known := c.Get(key); !known {
			t.Errorf("%s is not kept", key)
		}
	}
	_, generation, _ := c.Get("x")
	c.Put("x", 0, 5, generation)
	if c.Weight() != 5 {
		t.Errorf("weight %d, want that of the heavy one alone", c.Weight())
	}
	c.Drop("x")
	if c.Weight() != 0 || testutil.ToFloat64(c.size) != 0 {
		t.Error("something is left")
	}
}
