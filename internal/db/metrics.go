package db

import (
	"errors"
	"os"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reg       prometheus.Registerer
	all       []prometheus.Collector
	batchSize prometheus.Histogram
	commit    prometheus.Histogram
	alone     prometheus.Counter
	waiting   prometheus.Gauge
	failures  *prometheus.CounterVec
	changes   prometheus.Counter
}

func newMetrics(d *DB, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reg: reg,
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mittente_db_batch_callers", Help: "Callers that shared one commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mittente_db_commit_seconds", Help: "Time of COMMIT, the sync to disk included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		alone: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mittente_db_alone_total", Help: "Callers run once more alone because their batch failed.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mittente_db_waiting_callers", Help: "Callers that wait for a batch to take them.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mittente_db_failures_total", Help: "Transactions that failed for a reason of the engine.",
		}, []string{"reason"}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mittente_db_foreign_changes_total", Help: "Times that commits of other processes were noticed.",
		}),
	}
	m.all = []prometheus.Collector{
		m.batchSize, m.commit, m.alone, m.waiting, m.failures, m.changes,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mittente_db_wal_bytes", Help: "Size of the write-ahead log's file.",
		}, func() float64 { return float64(fileSize(d.path + "-wal")) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mittente_db_file_bytes", Help: "Size of the database's file.",
		}, func() float64 { return float64(fileSize(d.path)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mittente_db_disk_free_bytes", Help: "Free space on the disk of the database.",
		}, func() float64 { free, _ := freeBytes(d.cfg.DataDir); return float64(free) }),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

func (m *metrics) failed(err error) {
	switch {
	case errors.Is(err, ErrFull):
		m.failures.WithLabelValues("full").Inc()
	case errors.Is(err, ErrBusy):
		m.failures.WithLabelValues("busy").Inc()
	case errors.Is(err, ErrUnavailable):
		m.failures.WithLabelValues("unavailable").Inc()
	}
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
