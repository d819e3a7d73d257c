package sender

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	checks        *prometheus.CounterVec
	verifications *prometheus.CounterVec
	cached        prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	factory := promauto.With(reg)
	return &metrics{
		checks: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_sender_checks_total",
			Help: "Addresses judged, by verdict: authorised, pending, not_authorised, or error when the database did not answer.",
		}, []string{"verdict"}),
		verifications: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_sender_verifications_total",
			Help: "Looks at the DNS for a domain, by what they came to: found, absent or unknown.",
		}, []string{"result"}),
		cached: factory.NewGauge(prometheus.GaugeOpts{
			Name: "mittente_sender_cached",
			Help: "Entries of users that are kept in memory.",
		}),
	}
}
