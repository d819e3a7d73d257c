package consent

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	letters  *prometheus.CounterVec
	answers  *prometheus.CounterVec
	failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		letters: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_consent_letters_total",
			Help: "Letters to owners of addresses, by kind (ask, confirmed).",
		}, []string{"kind"}),
		answers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_consent_answers_total",
			Help: "Answers of owners of addresses (confirm, refuse, revoke), and visits that were too many (limited).",
		}, []string{"answer"}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "mittente_consent_failures_total",
			Help: "Times that letters could not be enqueued; they are tried again.",
		}),
	}
}
