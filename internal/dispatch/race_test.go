//go:build race

package dispatch

import "time"

const (
	// million is what a database that is watched for races makes in bearable time.
	million = 20_000
	// patience is how long a mail may wait on a machine with other things to do.
	patience = time.Minute
)
