package spool

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	written  prometheus.Counter
	read     prometheus.Counter
	swept    prometheus.Counter
	removed  prometheus.Counter
	live     prometheus.Gauge
	failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	return &metrics{
		written: auto.NewCounter(prometheus.CounterOpts{
			Name: "mittente_spool_written_bytes_total", Help: "Bytes of content committed.",
		}),
		read: auto.NewCounter(prometheus.CounterOpts{
			Name: "mittente_spool_read_bytes_total", Help: "Bytes of content read back.",
		}),
		swept: auto.NewCounter(prometheus.CounterOpts{
			Name: "mittente_spool_swept_total", Help: "Contents written ahead, never accepted, and swept.",
		}),
		removed: auto.NewCounter(prometheus.CounterOpts{
			Name: "mittente_spool_removed_bytes_total", Help: "Bytes of content removed by retention.",
		}),
		live: auto.NewGauge(prometheus.GaugeOpts{
			Name: "mittente_spool_writing_ahead", Help: "Contents being written ahead.",
		}),
		failures: auto.NewCounter(prometheus.CounterOpts{
			Name: "mittente_spool_failures_total", Help: "Runs of sweeping or retention that failed.",
		}),
	}
}
