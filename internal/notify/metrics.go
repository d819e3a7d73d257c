package notify

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	letters  prometheus.Counter
	reports  *prometheus.CounterVec
	failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		letters: f.NewCounter(prometheus.CounterOpts{
			Name: "mittente_notify_letters_total",
			Help: "Mail of the house itself that was enqueued.",
		}),
		reports: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_notify_reports_total",
			Help: "What senders were told of their mail, by kind (failure, delay, success), and operators (double).",
		}, []string{"kind"}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "mittente_notify_failures_total",
			Help: "Times that reports could not be enqueued; they are tried again.",
		}),
	}
}
