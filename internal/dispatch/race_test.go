//go:build race

package dispatch

// million is what a database that is watched for races makes in bearable time.
const million = 100_000
