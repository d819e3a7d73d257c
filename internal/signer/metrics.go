package signer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	cached prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		cached: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "mittente_signer_cached",
			Help: "Domains whose keys are kept in memory.",
		}),
	}
}
