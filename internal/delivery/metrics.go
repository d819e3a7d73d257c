package delivery

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections *prometheus.CounterVec
	tls         *prometheus.CounterVec
	replies     *prometheus.CounterVec
	duration    prometheus.Histogram
	idle        prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		connections: counter("mittente_delivery_connections_total", "Connections to other servers: new, reused or failed before MAIL.", "result"),
		tls:         counter("mittente_delivery_tls_total", "New connections by protection: verified, unverified, clear, or failed (the handshake).", "result"),
		replies:     counter("mittente_delivery_replies_total", "Replies of other servers by class: 2, 3, 4, 5, or none where one was due.", "class"),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mittente_delivery_attempt_seconds",
			Help:    "Time of one attempt at one site.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300},
		}),
		idle: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mittente_delivery_connections_idle",
			Help: "Open connections that wait for another message.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.connections), reg.Register(m.tls), reg.Register(m.replies), reg.Register(m.duration), reg.Register(m.idle))
}

// classLabel is a reply's class as a label of few values.
func classLabel(class int) string { return strconv.Itoa(class) }
