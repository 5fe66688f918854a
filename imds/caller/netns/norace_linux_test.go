//go:build !race

package netns_test

// slower is how much longer things may take.
const slower = 1
