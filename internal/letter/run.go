package letter

import (
	"context"
	"time"

	"mittente/internal/db"
)

const (
	letterLife = 180 * 24 * time.Hour // how long an answered link says what became of it
	sweepSlice = 200                  // letters that one transaction deletes
	sweepEvery = time.Hour
)

// Run forgets old letters, once an hour: but for links that can still revoke. It
// returns nil when ctx ends; what fails is tried again an hour later.
func (ls *Letters) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		_ = ls.sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (ls *Letters) sweep(ctx context.Context) error {
	for n := int64(sweepSlice); n == sweepSlice; {
		err := ls.db.Batch(ctx, func(tx *db.Tx) (err error) {
			n, err = tx.Exec(sqlDelete, db.Micros(db.Now().Add(-letterLife)), sweepSlice)
			return err
		})
		if err != nil {
			return err
		}
	}
	return ls.db.Batch(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(sqlDeleteRefusals, db.Micros(db.Now()))
		return err
	})
}
