//go:build !race

package dispatch

import "time"

const (
	million  = 1_000_000
	patience = 10 * time.Second
)
