package msa

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	auth   *prometheus.CounterVec
	faults prometheus.Counter
}

// newMetrics registers the room's metrics with reg, which may be nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		auth: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_msa_auth_total", Help: "Attempts to authenticate, by result.",
		}, []string{"result"}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mittente_msa_faults_total", Help: "Messages and recipients not taken in for a fault of ours.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.auth, m.faults} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("msa metrics: %w", err)
		}
	}
	return m, nil
}
