package smtpserver

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"mittente/internal/smtp"
)

// metrics are the room's, with the hot ones already looked up.
type metrics struct {
	bound, skipped, open prometheus.Gauge
	connections          connectionCounts
	replies              [6]prometheus.Counter // by the first digit
	transactions         *prometheus.CounterVec
	tls                  *prometheus.CounterVec
	ended                *prometheus.CounterVec
	octets               prometheus.Counter
}

type connectionCounts struct{ admitted, perClient, crowded prometheus.Counter }

// newMetrics registers the room's metrics with reg, which may be nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	connections := counters("connections_total", "Connections, by whether they were admitted.", "result")
	replies := counters("replies_total", "Replies, by the first digit of their code.", "class")
	m := &metrics{
		bound:   prometheus.NewGauge(gauge("ports_bound", "Addresses and ports that are listened on.")),
		skipped: prometheus.NewGauge(gauge("ports_skipped", "Addresses and ports that could not be bound.")),
		open:    prometheus.NewGauge(gauge("connections_open", "Connections now open.")),
		connections: connectionCounts{
			admitted:  connections.WithLabelValues("admitted"),
			perClient: connections.WithLabelValues("too_many_of_client"),
			crowded:   connections.WithLabelValues("too_many"),
		},
		transactions: counters("transactions_total", "Transactions that reached MAIL, by outcome.", "outcome"),
		tls:          counters("tls_handshakes_total", "TLS handshakes, by result.", "result"),
		ended:        counters("sessions_total", "Sessions that ended, by the reason.", "reason"),
		octets:       prometheus.NewCounter(prometheus.CounterOpts{Namespace: "mittente", Subsystem: "smtpserver", Name: "data_bytes_total", Help: "Octets of content read, after repair."}),
	}
	for class := range m.replies {
		m.replies[class] = replies.WithLabelValues(strconv.Itoa(class))
	}
	if reg == nil {
		return m, nil
	}
	all := []prometheus.Collector{m.bound, m.skipped, m.open, connections, replies, m.transactions, m.tls, m.ended, m.octets}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("smtpserver metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) reply(r smtp.Reply) {
	if c := r.Class(); c >= 0 && c < len(m.replies) {
		m.replies[c].Inc()
	}
}

func gauge(name, help string) prometheus.GaugeOpts {
	return prometheus.GaugeOpts{Namespace: "mittente", Subsystem: "smtpserver", Name: name, Help: help}
}

func counters(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "mittente", Subsystem: "smtpserver", Name: name, Help: help}, []string{label})
}
