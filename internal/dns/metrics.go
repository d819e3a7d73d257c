package dns

import (
	"context"
	"errors"
	"net"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	lookups   *prometheus.CounterVec
	exchanges *prometheus.CounterVec
	duration  prometheus.Histogram
	entries   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_dns_lookups_total",
			Help: "Look-ups by how they were served: cached, shared (joined one under way) or asked.",
		}, []string{"served"}),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_dns_exchanges_total",
			Help: "Questions put to a server by what came back: NOERROR, NXDOMAIN, SERVFAIL, other, timeout or error.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mittente_dns_resolve_seconds",
			Help:    "Time to answer what was not in the cache.",
			Buckets: []float64{.0005, .001, .005, .02, .1, .5, 2, 5, 15},
		}),
		entries: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mittente_dns_cache_entries",
			Help: "Answers kept in the cache.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.lookups), reg.Register(m.exchanges), reg.Register(m.duration), reg.Register(m.entries))
}

// verdict is an exchange's result as a label of few values.
func verdict(reply *mdns.Msg, err error) string {
	var netErr net.Error
	switch {
	case reply != nil && (reply.Rcode == mdns.RcodeSuccess && err == nil || reply.Rcode == mdns.RcodeNameError || reply.Rcode == mdns.RcodeServerFailure):
		return rcode(reply.Rcode)
	case reply != nil:
		return "other"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	}
	return "error"
}
