package account

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	auth     *prometheus.CounterVec
	sessions *prometheus.CounterVec
	cached   *prometheus.GaugeVec
	guarded  *prometheus.GaugeVec
	failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	factory := promauto.With(reg)
	return &metrics{
		auth: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_account_auth_total",
			Help: "Authentications by result: ok, the reason of the refusal, or error when the database did not answer.",
		}, []string{"result"}),
		sessions: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_account_session_checks_total",
			Help: "Checks of authenticated sessions at MAIL, by result as for mittente_account_auth_total.",
		}, []string{"result"}),
		cached: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mittente_account_cached",
			Help: "Users, lists and accounts kept in memory.",
		}, []string{"what"}),
		guarded: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mittente_account_guarded",
			Help: "Clients, and names tried by a client, whose authentications are remembered.",
		}, []string{"what"}),
		failures: factory.NewCounter(prometheus.CounterOpts{
			Name: "mittente_account_background_failures_total",
			Help: "Background writes (last use, expired passwords) that failed and are tried again.",
		}),
	}
}

// result is an error of Authenticate or Current as a label of few values.
func result(err error) string {
	var refused *AuthError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refused):
		return string(refused.Reason)
	}
	return "error"
}
