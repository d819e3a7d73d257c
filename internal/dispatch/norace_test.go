//go:build !race

package dispatch

const million = 1_000_000
