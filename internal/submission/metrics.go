package submission

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"mittente/internal/account"
)

type metrics struct {
	verdicts   *prometheus.CounterVec
	messages   prometheus.Counter
	recipients prometheus.Counter
	octets     prometheus.Counter
	seconds    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		verdicts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_submission_verdicts_total",
			Help: "What the gate said, by command (mail, submit) and verdict (pass, a reason of refusal, error).",
		}, []string{"at", "verdict"}),
		messages: f.NewCounter(prometheus.CounterOpts{
			Name: "mittente_submission_messages_total",
			Help: "Messages accepted and on disk.",
		}),
		recipients: f.NewCounter(prometheus.CounterOpts{
			Name: "mittente_submission_recipients_total",
			Help: "Recipients accepted and on disk.",
		}),
		octets: f.NewCounter(prometheus.CounterOpts{
			Name: "mittente_submission_octets_total",
			Help: "Content accepted and on disk.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "mittente_submission_seconds",
			Help:    "From the first octet of content to the durable commit, the client's own time included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
		}),
	}
}

// count notes a verdict of Mail or Submit.
func (m *metrics) count(at string, err error) { m.verdicts.WithLabelValues(at, verdict(err)).Inc() }

// accepted notes a message that is on disk.
func (m *metrics) accepted(recipients int, size int64, took time.Duration) {
	m.messages.Inc()
	m.recipients.Add(float64(recipients))
	m.octets.Add(float64(size))
	m.seconds.Observe(took.Seconds())
}

func verdict(err error) string {
	var rejection *Rejection
	var auth *account.AuthError
	switch {
	case err == nil:
		return "pass"
	case errors.As(err, &rejection):
		return string(rejection.Reason)
	case errors.As(err, &auth):
		return "credentials"
	}
	return "error"
}
