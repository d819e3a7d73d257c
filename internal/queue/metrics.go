package queue

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	accepted   prometheus.Counter
	claimed    prometheus.Counter
	released   prometheus.Counter
	reclaimed  prometheus.Counter
	lost       prometheus.Counter
	postponed  prometheus.Counter
	unreadable prometheus.Counter
	settled    *prometheus.CounterVec
	operated   *prometheus.CounterVec
	depth      *prometheus.GaugeVec
	overdue    prometheus.Gauge
}

// newMetrics registers with reg, or nowhere when it is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: "mittente_queue_" + name, Help: help})
	}
	m := &metrics{
		accepted:   counter("accepted_total", "Recipients accepted into the queue."),
		claimed:    counter("claimed_total", "Recipients leased because they were due."),
		released:   counter("released_total", "Recipients given back without an attempt."),
		reclaimed:  counter("reclaimed_total", "Recipients taken back from a lease that had died."),
		lost:       counter("lease_lost_total", "Outcomes refused because the lease was no longer held."),
		postponed:  counter("postponed_total", "Recipients put off without an attempt of their own."),
		unreadable: counter("unreadable_total", "Recipients failed because their row or their message's can't be read."),
		settled: with.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_queue_settled_total",
			Help: "Attempts settled, by the state in which they left the recipient (pending: deferred).",
		}, []string{"state"}),
		operated: with.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_queue_operated_total",
			Help: "Recipients that an operator retried, held, resumed or cancelled.",
		}, []string{"operation"}),
		depth: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mittente_queue_recipients",
			Help: "Unsettled recipients by state, as of the last count.",
		}, []string{"state"}),
		overdue: with.NewGauge(prometheus.GaugeOpts{
			Name: "mittente_queue_overdue_seconds",
			Help: "How long the longest-waiting due recipient is overdue, as of the last count.",
		}),
	}
	for _, s := range []State{Pending, Delivered, Failed, Expired, Cancelled, Suppressed} {
		m.settled.WithLabelValues(string(s))
	}
	for _, o := range []Operation{Retry, Hold, Resume, Cancel} {
		m.operated.WithLabelValues(string(o))
	}
	return m
}
