package event

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"mittente/internal/db"
)

// Identifiers sort by time, so the first is the oldest.
const selectOldest db.SQL = `SELECT at FROM event ORDER BY id LIMIT 1`

// scrapeTimeout bounds what a scrape waits for the database.
const scrapeTimeout = time.Second

// Measure registers what can be measured of the record: its reach back in time,
// which shows whether retention keeps up. What happens is counted by the rooms
// that make it happen. reg may
// be nil; it panics when reg has the metric already.
func Measure(reg prometheus.Registerer, d *db.DB) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mittente_event_oldest_seconds",
		Help: "Age of the oldest event on record; 0: none, NaN: the database did not answer.",
	}, func() float64 { return oldest(d) })
}

func oldest(d *db.DB) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var first []int64
	err := d.View(ctx, func(tx *db.Tx) (err error) {
		first, err = db.Collect(tx, func(row db.Scanner) (at int64, err error) {
			err = row.Scan(&at)
			return at, err
		}, selectOldest)
		return err
	})
	switch {
	case err != nil:
		return math.NaN()
	case len(first) == 0:
		return 0
	}
	return time.Since(db.Time(first[0])).Seconds()
}
