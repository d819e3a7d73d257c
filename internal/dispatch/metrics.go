package dispatch

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"mittente/internal/mail"
)

type metrics struct {
	outcomes     *prometheus.CounterVec
	memory       prometheus.Gauge
	bytes        prometheus.Gauge
	ready        prometheus.Gauge
	inFlight     prometheus.Gauge
	unsettled    prometheus.Gauge
	claimFailing prometheus.Gauge
	dead         prometheus.Counter
	firstAttempt prometheus.Histogram
	commit       prometheus.Histogram
	sign         prometheus.Histogram
}

// newMetrics registers with reg, or nowhere when it is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	gauge := func(name, help string) prometheus.Gauge {
		return with.NewGauge(prometheus.GaugeOpts{Name: "mittente_dispatch_" + name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return with.NewHistogram(prometheus.HistogramOpts{Name: "mittente_dispatch_" + name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		outcomes: with.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_dispatch_outcomes_total", Help: "Outcomes settled, by action.",
		}, []string{"action"}),
		memory:       gauge("recipients", "Recipients in memory, in whatever stage."),
		bytes:        gauge("content_bytes", "Content in memory."),
		ready:        gauge("ready", "Recipients that wait for a delivery to their site."),
		inFlight:     gauge("in_flight", "Deliveries under way."),
		claimFailing: gauge("claim_failing", "1 while what is due can't be taken from the database."),
		unsettled:    gauge("unsettled", "Outcomes that the database has not taken yet; nothing is delivered meanwhile."),
		dead: with.NewCounter(prometheus.CounterOpts{
			Name: "mittente_dispatch_dead_sites_total", Help: "Times a site was found dead.",
		}),
		firstAttempt: histogram("first_attempt_seconds", "From acceptance to the first attempt.",
			prometheus.ExponentialBuckets(0.0005, 4, 12)),
		commit: histogram("commit_seconds", "From the next hop's acceptance to our commit: a crash in it repeats the mail.",
			prometheus.ExponentialBuckets(0.0005, 2, 16)),
		sign: histogram("sign_seconds", "Time to sign a message.", prometheus.ExponentialBuckets(0.0001, 2, 12)),
	}
	for _, a := range []mail.Action{mail.Delivered, mail.Deferred, mail.Failed} {
		m.outcomes.WithLabelValues(string(a))
	}
	return m
}
