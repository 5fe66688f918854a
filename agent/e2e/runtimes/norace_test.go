//go:build !race

package runtimes_test

// slower is how much longer things may take with the race detector.
const slower = 1
